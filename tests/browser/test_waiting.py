"""What is seen of a model before it is loaded, and of six models whose tokens differ in number and kind."""

from playwright.sync_api import expect

SIX = (
    "scenes-vit-dino",
    "timm:test_vit@random:0",
    "timm:test_vit4@random:0",
    "timm:vit_wee_patch16_reg1_gap_256@random:0",
    "timm:swin_tiny_patch4_window7_224@random:0",
    "timm:resnet18@random:0",
)
LOADS_FOR_SECONDS = "vit-b16-in1k"

WATCH = """(name) => { const panels = (root) => [...root.querySelectorAll("*")].flatMap((e) =>
    [...(e.matches("figure[data-state]") ? [e] : []), ...(e.shadowRoot ? panels(e.shadowRoot) : [])]);
  window.seen = null;
  window.addEventListener("pointerdown", () => {
    const clicked = performance.now();
    const look = () => {
      const panel = panels(document).find((p) => p.querySelector(".name").textContent.includes(name));
      if (panel) window.seen = [panel.dataset.state, performance.now() - clicked]; else requestAnimationFrame(look);
    };
    look();
  }, { capture: true, once: true }); }"""
"""From the next press of the pointer on, look in every frame for a model's panel: its first state, and when."""


def test_six_models_of_different_tokens_have_a_map_each_or_a_reason(visit):
    page = visit("/?" + "&".join(f"model={model}" for model in SIX) + "&image=photo:coffee")
    panels = page.locator(".frame:not(.compact) figure")
    expect(panels).to_have_count(1 + len(SIX))
    expect(page.locator(".frame:not(.compact) figure[data-state=waiting]")).to_have_count(0)
    for panel in (panels.nth(place) for place in range(1, 1 + len(SIX))):
        expect(panel.locator(".name")).not_to_be_empty()
        if panel.get_attribute("data-state") == "ready":
            assert panel.locator("img.map").evaluate("map => map.naturalWidth * map.naturalHeight") > 0
            expect(panel.locator(".note")).to_contain_text("layer")
        else:
            expect(panel.locator(".message")).to_contain_text("no attention")
    assert page.locator(".frame:not(.compact) figure[data-state=ready]").count() == len(SIX)  # and the image


def test_a_chosen_model_has_its_panel_before_it_is_loaded(visit, page, settled):
    visit("/?model=timm:test_vit@random:0&image=photo:coffee")
    for seed in range(3):
        adding = page.get_by_role("combobox", name="Add a model")
        adding.fill(LOADS_FOR_SECONDS)
        adding.press("Enter")
        page.get_by_text("Random weights", exact=True).click()
        page.get_by_label("Seed of the random weights").fill(str(seed))
        page.get_by_label("Seed of the random weights").press("Enter")
        settled(page)
        page.evaluate(WATCH, f"ViT-B/16, untrained (seed {seed})")
        page.get_by_role("button", name="Add", exact=True).click()
        page.wait_for_function("window.seen")
        assert page.evaluate("window.seen")[0] == "waiting"
        settled(page)


TOUCH = """() => { const title = document.createRange(), bar = document.querySelector(".st-key-progress");
  title.selectNodeContents(document.querySelector("h1"));
  const a = title.getBoundingClientRect(), b = bar.getBoundingClientRect();
  return b.height > 0 && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom; }"""
"""Whether the progress covers any of the title's writing."""


def test_the_progress_covers_no_title(visit, page, server):
    page.goto(f"{server}/sanity?model=timm:vit_base_patch16_224@random:7&image=photo:coffee")
    expect(page.locator(".st-key-progress [data-testid=stProgress]")).to_be_visible(timeout=120_000)
    for width in (1920, 1440, 1280, 1024, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(200)
        expect(page.locator(".st-key-progress")).to_be_in_viewport(ratio=1)
        ground, edge = page.locator(".st-key-progress").evaluate(
            "bar => [getComputedStyle(bar).backgroundColor, getComputedStyle(bar).borderTopWidth]"
        )
        assert (ground, edge) == ("rgb(255, 255, 255)", "1px"), "what lies under it does not shine through"
        assert not page.evaluate(TOUCH), f"the title is covered at {width} px"
    page.get_by_role("button", name="Stop", exact=True).click()
