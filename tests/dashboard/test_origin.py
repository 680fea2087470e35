"""What a saved file says of where it is from."""

import io
import xml.etree.ElementTree as ET

import pandas as pd
from PIL import Image

from dashboard.draw import export, origin
from dashboard.draw.origin import Origin

HERE = Origin(
    ("scenes-vit-dino@step-00195", "scenes-vit-dino", "timm:test_vit@random:0"),
    "http://host/heads?model=scenes-vit-dino&at=0.5%2C0.4",
)
TABLE = 'model,value\n"ViT, DINO",1.5\n'
SVG = "{http://www.w3.org/2000/svg}"


def document():
    return "".join([*export.white(700, 100), "<text x='24' y='50'>a picture</text></svg>"])


def test_snapshots_count_as_their_model_and_no_line_holds_a_comma():
    models = HERE.parts["Models"]
    assert models == "ViT DINO = scenes-vit-dino; test_vit untrained (seed 0) = timm:test_vit@random:0"
    assert not any("," in text or '"' in text for text in HERE.parts.values())
    assert {"torch", "timm", "numpy"} <= {part.split()[0] for part in HERE.parts["Versions"].split("; ")}


def test_a_table_reads_as_before_and_each_line_of_comment_is_one_cell():
    text = origin.csv(TABLE, HERE)
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(text), comment="#"), pd.read_csv(io.StringIO(TABLE)))
    assert f"# Link: {HERE.link}" in text.splitlines()


def test_a_picture_is_taller_by_its_foot_and_its_link_can_be_followed():
    root = ET.fromstring(origin.signed(document(), HERE))
    texts = ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]
    assert texts[0] == "a picture"
    assert root.get("width") == "700"
    lowest = max(float(node.get("y")) for node in root.iter(f"{SVG}text"))
    assert 100 < lowest < float(root.get("height"))
    assert [node.get("href") for node in root.iter(f"{SVG}a")] == [HERE.link]
    assert HERE.link in next(root.iter(f"{SVG}metadata")).text
    assert max(len(text) for text in texts) * 0.56 * origin.SIZE < 700, "lines end before the edge"


def test_a_png_says_the_same_in_its_metadata():
    picture = Image.open(io.BytesIO(origin.png(origin.signed(document(), HERE), HERE)))
    picture.load()
    assert {kind: picture.text[kind] for kind in HERE.parts} == HERE.parts


def test_pictures_stand_under_each_other():
    root = ET.fromstring(export.stacked([document(), document()]))
    assert (root.get("width"), root.get("height")) == ("700", "200")
    assert [node.get("y") for node in root.iter(f"{SVG}svg")][1:] == ["0", "100"]
