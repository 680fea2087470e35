"""What the page shows to those who come without a link, computed before they come."""

from dashboard.compute import asking
from dashboard.controls.sidebar import DEFAULT_MODELS
from dashboard.draw import components
from dashboard.images import gallery
from dashboard.views.compare.view import ASKS, DEFAULT_IMAGES, maps_of_each


def prepare(patience: float) -> None:
    """Compute what the page shows to those who come without a link.

    Args:
        patience: wait for it at most this many seconds.
    """
    asking.prepare(ASKS, maps_of_each("cls", None), DEFAULT_MODELS, DEFAULT_IMAGES, patience)
    for image in gallery.offered():
        gallery.data_uri(image, components.THUMBNAIL_SIDE)
