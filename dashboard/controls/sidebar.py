"""The part every page shares: which models, which images, and what is loaded."""

from collections.abc import Callable, Sequence

import streamlit as st

from dashboard.compute import work
from dashboard.controls import model_list
from dashboard.draw import components, palette
from dashboard.images import gallery
from dashboard.state import link, models
from dashboard.state.models import reference
from dashboard.state.selection import MOST_IMAGES, Selection, read_images, read_models
from model_zoo.catalog import PRESETS
from model_zoo.decoding import ImageError

DEFAULT_MODELS = next(iter(PRESETS.values()))
UPLOAD_TYPES = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"]


def sidebar(
    *,
    images: bool = True,
    several: bool = False,
    default_images: Sequence[str] = (),
    most: int = MOST_IMAGES,
    set_in_use: Callable[[Selection], str] = lambda _: "",
) -> Selection:
    """Draw the sidebar and return what is chosen in it.

    Args:
        images: the page shows images at all.
        several: the page takes several images; otherwise it takes the first.
        default_images: what a page of several images shows when the link names none.
        most: images that can be chosen here; a link from another page may hold more.
        set_in_use: title of the set that the page is of instead of the images chosen here; empty where there is none.
    """
    selection = _chosen(several, default_images)
    with st.sidebar:
        st.header("Models", anchor=False)
        model_list.draw(selection)
        if images:
            st.header("Images" if several else "Image", anchor=False)
            _images(selection, several, most, set_in_use(selection))
        _loaded()
    return selection


def _chosen(several: bool, default_images: Sequence[str]) -> Selection:
    chosen, notes = read_models(link.get("model"))
    images, more = read_images(link.get("image"))
    for sentence in (*notes, *more):
        link.note(sentence)
    compared = chosen or DEFAULT_MODELS
    images = images or (tuple(default_images) if several and default_images else (_first_image(compared),))
    colours = models.colours(compared, models.read_colours(link.get("colour"), compared))
    selection = Selection(compared, images if several else images[:1], colours)
    link.show("model", *compared)  # what a page shows by itself is no choice, and the next page has its own
    if chosen:
        model_list.compare(chosen, selection)
    if link.get("image"):
        link.put("image", *images)
    return selection


def _first_image(models: Sequence[str]) -> str:
    """What to show when nothing was chosen: a scene to models that were trained on scenes, else a photo."""
    trained_on_scenes = any(reference(model).weights == "shipped" for model in models)
    return next((i for i in gallery.offered() if i.startswith("scene") == trained_on_scenes), gallery.offered()[0])


def _images(selection: Selection, several: bool, most: int, of_set: str) -> None:
    if of_set:
        st.caption(f"Shown: **{of_set}**, chosen on the page. Click a picture to show chosen pictures instead.")
    own = [identity for identity in st.session_state.get("uploads", ()) if gallery.missing(identity) is None]
    others = [identity for identity in selection.images if identity not in (*own, *gallery.offered())]

    def pick(identity: str) -> None:
        if of_set:
            link.put("set", "chosen")
        if of_set or not several:
            link.put("image", identity)
        elif identity in selection.images:
            kept = tuple(other for other in selection.images if other != identity)
            link.put("image", *(kept or selection.images))
        elif len(selection.images) < most:
            link.put("image", *selection.images, identity)
        else:
            link.note(f"This page shows at most {most} images: click one of the chosen to take it out first.")

    components.thumbnails(
        (*own, *others, *gallery.offered()),
        () if of_set else selection.images,
        several=several,
        key="strip",
        on_pick=pick,
    )
    with st.popover("Add an image", width="stretch"):
        generation = st.session_state.setdefault("upload_generation", 0)
        st.file_uploader(
            "From a file",
            type=UPLOAD_TYPES,
            key=f"upload-{generation}",
            on_change=_take,
            args=(f"upload-{generation}", selection, several, of_set),
        )
        if st.toggle("Use the camera", key="camera_on"):
            st.camera_input(
                "Camera",
                key=f"camera-{generation}",
                on_change=_take,
                args=(f"camera-{generation}", selection, several, of_set),
            )
        st.caption("Images stay on this server, in memory, and make room for newer ones.")


def _take(key: str, selection: Selection, several: bool, of_set: str) -> None:
    """Keep what was uploaded; an image that cannot be shown leaves the choice as it was and says why."""
    file = st.session_state.get(key)
    if file is None:
        return
    try:
        identity = gallery.UPLOADS.add(file.getvalue(), file.name)
    except ImageError as error:
        link.note(str(error).replace("the image", file.name))
        return
    finally:
        st.session_state["upload_generation"] += 1
    st.session_state["uploads"] = [identity, *(x for x in st.session_state.get("uploads", ()) if x != identity)][:12]
    if of_set:
        link.put("set", "chosen")
    others = () if of_set or not several else selection.images
    chosen = (identity, *(other for other in others if other != identity))
    link.put("image", *chosen[:MOST_IMAGES])


def _loaded() -> None:
    loaded = work.zoo().loaded()
    size = palette.megabytes(sum(model.bytes for model in loaded))
    count = f"{len(loaded)} model{'s' if len(loaded) != 1 else ''}"
    st.caption(f"Loaded: {count}, {size} of {palette.megabytes(work.zoo_budget())}")
