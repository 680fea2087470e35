"""Held-out scenes as pictures: a sheet of them, with masks, and one in motion."""

import io

import numpy as np
import streamlit as st
from PIL import Image

from dashboard.cache import remember
from dashboard.draw import matrices
from dashboard.draw.matrices import Square
from model_zoo.scenes import CLASSES, Scenes

SHOWN, COLUMNS, SIDE = 12, 6, 168
_STYLE = """<style>@media (max-width: 640px) {
.st-key-sheet-of-scenes [data-testid=stColumn] { min-width: calc(33% - 1rem); flex: 1 1 0 }
}</style>"""
"""On a phone three scenes stand beside each other, so that the chart below is not far away."""


@remember(32 * 2**20)
def grid(first: int, conflict: bool, outlined: bool) -> tuple[tuple[Image.Image, ...], tuple[str, ...]]:
    """Pictures and captions of ``SHOWN`` held-out scenes from number ``first``; outlined dims all but the object."""
    batch = Scenes(size=SIDE, cue_conflict=conflict).batch(range(first, first + SHOWN))
    pixels = batch.images.permute(0, 2, 3, 1).numpy()
    if outlined:
        grey = (pixels.mean(-1, keepdims=True) * 0.35).astype(np.uint8)
        pixels = np.where(batch.masks.numpy()[..., None], pixels, grey)
    captions = []
    for label, surface in zip(batch.labels.tolist(), batch.surfaces.tolist(), strict=True):
        own = "own surface" if label == surface else f"surface of a {CLASSES[surface]}"
        captions.append(f"{CLASSES[label]}, {own}")
    return tuple(Image.fromarray(picture) for picture in pixels), tuple(captions)


@remember(16 * 2**20)
def clip(index: int, frames: int = 36) -> bytes:
    """A moving scene as an animated WebP: the frames, and beside each its mask."""
    batch = Scenes(size=SIDE).clip(index, frames)
    pixels = batch.images.permute(0, 2, 3, 1).numpy()
    masks = np.repeat(batch.masks.numpy()[..., None].astype(np.uint8) * 255, 3, axis=-1)
    pictures = [Image.fromarray(np.concatenate(pair, axis=1)) for pair in zip(pixels, masks, strict=True)]
    out = io.BytesIO()
    pictures[0].save(out, "WEBP", save_all=True, append_images=pictures[1:], duration=80, loop=0, quality=85)
    return out.getvalue()


def document(sheet: int, *, conflict: bool, outlined: bool) -> str:
    """The scenes of a sheet as SVG, with their captions."""
    first = (sheet - 1) * SHOWN
    pictures, captions = grid(first, conflict, outlined)
    squares = [
        Square(name, "#9aa1ab", surface, np.asarray(picture), photo=True)
        for picture, (name, _, surface) in zip(pictures, (said.partition(", ") for said in captions), strict=True)
    ]
    kind = "cue conflict" if conflict else "as in training"
    caption = f"Held-out scenes {first + 1} to {first + SHOWN}, surfaces {kind}: class of the shape, then its surface."
    return matrices.svg(squares, scale=None, title="What did the shipped models see?", caption=caption)


def draw(sheet: int, *, conflict: bool, outlined: bool, moving: bool) -> None:
    """Draw the scenes of a sheet.

    Args:
        sheet: its number, from 1.
        conflict: shape of one class, surface of another.
        outlined: all but the object dimmed.
        moving: the first scene in motion, too.
    """
    first = (sheet - 1) * SHOWN
    if moving:
        label = CLASSES[int(Scenes(size=8).batch([first]).labels[0])]
        said = f"Scene {first + 1} in motion, and its mask"
        st.image(clip(first), caption=said, alt=f"A moving {label} and its mask")
    pictures, captions = grid(first, conflict, outlined)
    st.html(_STYLE)
    with st.container(key="sheet-of-scenes"):
        for start in range(0, SHOWN, COLUMNS):
            for place, column in enumerate(st.columns(COLUMNS, gap="small")):
                caption = captions[start + place]
                column.image(pictures[start + place], caption=caption, width="stretch", alt=f"Scene: {caption}")
