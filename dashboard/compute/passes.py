"""Which forward passes answer a group of requests: as few as there can be, each image once in each."""

from collections.abc import Sequence
from dataclasses import dataclass

import probes
from dashboard.compute.requests import Request


@dataclass(frozen=True)
class Pass:
    """One run of the models over some images.

    Attributes:
        images: picture ids.
        requests: what it answers: all its images, or one of them.
    """

    images: tuple[str, ...]
    requests: tuple[Request, ...]


def passes(group: Sequence[Request]) -> list[Pass]:
    """The passes for requests of the same models and input size.

    Requests for one image each, of probes whose result for an image does not depend on the others, run together; where
    another pass goes over their images anyway they ride along.
    """
    alone = [request for request in group if _of_one_image(request)]
    whole = [request for request in group if request not in alone]
    joined: dict[object, dict[str, None]] = {}
    for request in alone:
        joined.setdefault((request.probe, request.params), {})[request.images[0]] = None
    sets = dict.fromkeys(request.images for request in whole)
    for images in sorted(map(tuple, joined.values()), key=len, reverse=True):
        if not any(set(images) <= set(other) for other in sets):
            sets[images] = None
    found, left = [], alone
    for images in sets:
        riding = [request for request in left if request.images[0] in images]
        left = [request for request in left if request not in riding]
        found.append(Pass(images, (*(request for request in whole if request.images == images), *riding)))
    return found


def _of_one_image(request: Request) -> bool:
    return len(request.images) == 1 and bool(request.probe) and probes.load(request.probe).per_image
