"""Which layer of a model's tokens a depth on the slider means, as a person reads it."""

from dashboard.state.selection import Depth
from model_zoo.adapter import ModelSpec

BY_CARD = (
    "By each model's card: CLS where the training or the classifier uses it, else the mean of the patches, as in "
    "masked autoencoders, whose CLS no loss reaches. The note of each panel says which."
)


def text(spec: ModelSpec, depth: Depth) -> str:
    """The layer: after the final norm, which is the last where there is one, else the block."""
    last = depth.layer == depth.of or not _blocks(spec)
    return "after the final norm" if last and "norm" in spec.points else _block(spec, depth)


def facet_text(spec: ModelSpec, depth: Depth, facet: str) -> str:
    """The layer and what is read in it; facets have no final norm."""
    return text(spec, depth) if facet == "token" else f"{facet} of {_block(spec, depth)}"


def _block(spec: ModelSpec, depth: Depth) -> str:
    count = _blocks(spec)
    return f"layer {depth.index(count) + 1} of {count}"


def _blocks(spec: ModelSpec) -> int:
    """Blocks whose tokens can be read."""
    return sum(point.startswith("resid_post.") for point in spec.points)
