"""The small picture of the browser tab."""

from functools import cache

from PIL import Image, ImageDraw

from dashboard.draw.palette import MODEL_COLOURS


@cache
def icon() -> Image.Image:
    """Four patches in the first four model colours; a picture, as a named icon would be fetched from outside."""
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    for i, colour in enumerate(MODEL_COLOURS[:4]):
        left, top = 4 + 30 * (i % 2), 4 + 30 * (i // 2)
        draw.rounded_rectangle((left, top, left + 25, top + 25), 4, fill=colour)
    return image
