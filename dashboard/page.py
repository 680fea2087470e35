"""What a page says about itself, so that the navigation finds it without a list to edit."""

from dataclasses import dataclass
from typing import Literal

Section = Literal["Compare", "Attention", "Representation", "Experiments", "Models", "Learn"]


@dataclass(frozen=True)
class Page:
    """A page of the dashboard; ``dashboard/views/NAME.py`` holds one as ``PAGE`` and draws it in ``page()``.

    Attributes:
        title: a few words for the navigation.
        section: heading it stands under.
        order: place in its section, low first.
        default: the page that opens at the root.
    """

    title: str
    section: Section
    order: int = 50
    default: bool = False
