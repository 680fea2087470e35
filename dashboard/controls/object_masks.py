"""Where the object is: exact in a scene, else a box that the user gives or a mask that they upload."""

import re

import streamlit as st

from dashboard.images import gallery, masks
from dashboard.state import link
from model_zoo.decoding import ImageError

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in per cent of the picture."""
_LINKED = re.compile(r"((?:photo|upload):[A-Za-z0-9_-]{1,40})@(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})")
START: Box = (25, 25, 75, 75)


def boxes() -> dict[str, Box]:
    """The boxes of the link by picture; a malformed one is left out with a note."""
    found: dict[str, Box] = {}
    for text in link.get("box"):
        match = _LINKED.fullmatch(text)
        left, top, right, bottom = (int(match[i]) for i in (2, 3, 4, 5)) if match else (0, 0, 0, 0)
        if match and left < right <= 100 and top < bottom <= 100:
            found[match[1]] = (left, top, right, bottom)
        else:
            link.note(f"The link's box {text[:40]!r} is none and was left out.")
            link.put("box", *(other for other in link.get("box") if other != text))
    return found


def key_of(picture: str) -> str:
    """Names the mask that a picture has now; empty when it has none."""
    if picture.startswith("scene:"):
        return picture
    uploaded: str = st.session_state.get("object_masks", {}).get(picture, "")
    if uploaded and gallery.missing(uploaded) is None:
        return uploaded
    box = boxes().get(picture)
    return "box:" + ",".join(map(str, box)) if box else ""


def popover(picture: str) -> None:
    """Draw what a person can say about where the object is in a picture."""
    with st.popover("Object", help="Where the object is in the shown image"):
        if picture.startswith("scene:"):
            st.caption("A scene knows its object exactly. Choose a photo to draw a box or to upload a mask.")
            return
        st.caption(f"Where is the object in {gallery.title(picture)}?")
        box = boxes().get(picture)
        state = st.session_state
        state["box-on"] = box is not None
        st.toggle("A box", key="box-on", on_change=lambda: _put(picture, START if state["box-on"] else None))
        if box is not None:
            state["box-x"], state["box-y"] = (box[0], box[2]), (box[1], box[3])

            def moved() -> None:
                (left, right), (top, bottom) = state["box-x"], state["box-y"]
                _put(picture, (left, top, max(right, left + 1), max(bottom, top + 1)))

            st.slider("Left to right (% of the width)", 0, 100, key="box-x", on_change=moved)
            st.slider("Top to bottom (% of the height)", 0, 100, key="box-y", on_change=moved)
        file = st.file_uploader(
            "Or a mask: white where the object is, as large as the picture",
            type=["png", "bmp", "tif", "tiff", "webp"],
            key=f"mask-{picture}",
        )
        kept: dict[str, str] = state.setdefault("object_masks", {})
        if file is None:
            kept.pop(picture, None)
        else:
            try:
                kept[picture] = upload(picture, file.getvalue(), file.name)
            except ImageError as error:
                kept.pop(picture, None)
                st.warning(str(error))


def upload(picture: str, data: bytes, name: str) -> str:
    """Keep an uploaded mask and return its id.

    Raises:
        ImageError: it is no image, has another size than the picture, or no white in it.
    """
    identity = gallery.UPLOADS.add(data, name)
    size, wanted = gallery.load(identity).size, gallery.load(picture).size
    if size != wanted:
        raise ImageError(
            f"The mask has {size[0]} × {size[1]} pixels and {gallery.title(picture)} {wanted[0]} × {wanted[1]}: "
            "save it at the picture's size."
        )
    if not masks.mask(picture, identity).any():
        raise ImageError("The mask has no white in it: paint the object white and everything else black.")
    return identity


def _put(picture: str, box: Box | None) -> None:
    kept = boxes()
    kept.pop(picture, None)
    if box is not None:
        kept[picture] = box
    link.put("box", *(f"{name}@{','.join(map(str, sides))}" for name, sides in kept.items()))
