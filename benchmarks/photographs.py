"""What part of a head's attention lies on the object, on the photographs that the dashboard shows.

    python -m benchmarks.photographs scenes-vit-dino scenes-vit-supervised timm:scenes_vit@random:0

Per photograph and model the share of the class token's attention, in one head of the last block, that falls on the
object; ``area`` is the object's share of what the model sees, which attention spread evenly would have. The head is the
one that the model's card names (chosen on procedural scenes) or ``--head``, so it is not chosen on the photographs. The
objects were outlined by hand, as polygons, for this measurement.
"""

import argparse

import numpy as np
import torch
import xarray as xr
from PIL import Image, ImageDraw

from dashboard.images import gallery
from model_zoo.adapter import Adapter
from model_zoo.catalog import CATALOG
from model_zoo.images import ImageSource
from model_zoo.loading import load
from probes.core import runner
from probes.saliency_score import SaliencyScore

OUTLINES: dict[str, tuple[str, ...]] = {
    "chelsea": ("40,0 346,0 366,12 358,60 356,100 364,150 344,200 318,245 298,275 300,300 0,300 0,170 32,130 36,60",),
    "astronaut": (
        "152,70 165,35 195,18 235,15 275,30 295,65 290,100 275,130 262,165 290,200 303,240 350,275 362,340 "
        "395,343 450,362 485,405 500,470 512,512 30,512 22,460 30,370 45,290 80,245 110,225 112,190 135,158 "
        "178,150 180,120 160,105",
    ),
    "coffee": (
        "77,210 82,170 110,120 172,78 190,45 235,22 290,17 350,28 395,58 402,68 424,70 418,104 455,150 "
        "475,190 480,235 465,290 430,335 385,365 330,382 270,381 200,365 140,330 100,285",
    ),
    "rocket": ("321,127 332,143 335,180 335,405 310,405 309,180 311,143",),
    "china": (
        "198,32 214,32 216,60 260,95 318,117 318,132 296,138 298,160 328,172 326,186 318,190 322,225 328,240 "
        "350,252 342,275 348,315 372,335 330,372 305,400 260,392 205,388 160,350 75,335 82,290 64,268 70,254 "
        "95,245 100,195 84,182 86,172 118,158 118,138 97,130 98,112 140,98 185,68",
    ),
    "flower": (
        "170,205 180,170 190,140 215,115 250,98 300,88 340,88 380,102 412,130 432,165 444,205 440,245 425,290 "
        "395,325 355,347 310,357 265,350 215,320 185,285 172,245",
        "289,427 292,400 320,390 345,376 372,380 420,380 440,400 465,427",
    ),
}
"""Polygons of the object of every photograph, as in SVG: pixels across and down from its upper left corner."""


def mask(name: str, size: tuple[int, int]) -> Image.Image:
    """The object's mask in a photograph of the given width and height: white on black."""
    drawn = Image.new("L", size)
    for points in OUTLINES[name]:
        corners = [float(number) for number in points.replace(",", " ").split()]
        ImageDraw.Draw(drawn).polygon(corners, fill=255)
    return drawn


def masses(adapter: Adapter) -> xr.Dataset:
    """``mass_inside`` (image, head) and ``area`` (image), over the photographs in the order of ``OUTLINES``."""
    images = []
    for name in OUTLINES:
        picture = gallery.load(f"photo:{name}")
        outline = np.asarray(mask(name, picture.size)) > 0
        images.append(ImageSource(name, lambda picture=picture: picture, lambda outline=outline: outline))
    return runner.run({"model": adapter}, images, {"score": SaliencyScore(steps=0)})["score"]["model"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--head", type=int, help="of the last block, for models without a card")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = [gallery.PHOTOS[name].title for name in OUTLINES]
    print("| model | head |", *(f"{name} |" for name in names), "mean |")
    print("|---|---|" + "---|" * (len(names) + 1))
    areas: list[float] = []
    for model in arguments.models:
        entry = CATALOG.get(model)
        head = arguments.head if arguments.head is not None else entry.card()["figures"]["head"] if entry else 0
        found = masses(load(model, device="cpu"))
        areas = found["area"].values.tolist()
        shares = found["mass_inside"].values[:, head].tolist()
        print(f"| {model} | {head} |", *(f"{value:.2f} |" for value in (*shares, float(np.mean(shares)))))
    print("| area of the object | |", *(f"{value:.2f} |" for value in (*areas, float(np.mean(areas)))))


if __name__ == "__main__":
    main()
