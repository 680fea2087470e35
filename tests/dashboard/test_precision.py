"""The type that models ran in is said once under the figure, and only where it is not float32."""

from streamlit.testing.v1 import AppTest

from dashboard.state import precision

A, B = "timm:test_vit@random:0", "timm:test_vit@random:1"


def test_float32_needs_no_word():
    assert precision.sentence({}) == ""
    assert precision.sentence({A: {"float32"}, B: {"float32"}}) == ""


def test_another_type_is_named_and_whose_it_is_where_models_differ():
    assert "The models ran in bfloat16, which keeps" in precision.sentence({A: {"bfloat16"}, B: {"bfloat16"}})
    some = precision.sentence({A: {"bfloat16", "float32"}, B: {"float32"}})
    assert some.startswith("**test_vit, untrained (seed 0)** ran in bfloat16")
    assert "seed 1" not in some


def test_a_page_says_it_once_under_its_figure_and_forgets_it():
    def page():
        import xarray as xr

        from dashboard.draw import frame
        from dashboard.state import precision

        for _ in range(3):
            precision.remember([{"timm:test_vit@random:0": xr.Dataset(attrs={"dtype": "bfloat16"})}])
        frame.footer(frame.Help("", "", ""), name="x")
        precision.forget()

    at = AppTest.from_function(page, default_timeout=30).run()
    assert not at.exception
    assert [caption.value[:27] for caption in at.caption] == ["The models ran in bfloat16,"]
    assert "dtypes" not in at.session_state
