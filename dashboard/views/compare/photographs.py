"""What to say of a photograph under models that have never seen one."""

from collections.abc import Sequence
from urllib.parse import urlencode

from dashboard.draw.palette import megabytes
from dashboard.state.models import reference, title
from model_zoo.catalog import CATALOG, PRESETS

ON_PHOTOGRAPHS = PRESETS["DINO against DeiT (ViT-S/16)"]
FLOAT32 = 4


def said(picture: str, models: Sequence[str]) -> str:
    """That the shipped models learned from scenes, and a link to models that did not; empty where it does not apply."""
    if picture.startswith("scene:") or not all(reference(model).weights == "shipped" for model in models):
        return ""
    size = FLOAT32 * sum(CATALOG[key].parameters for key in ON_PHOTOGRAPHS)
    address = urlencode([*(("model", key) for key in ON_PHOTOGRAPHS), ("image", picture)])
    return (
        "These models learned from procedural scenes alone, so their maps say little about a photograph. "
        f"[Compare models trained on photographs](?{address}): {' and '.join(map(title, ON_PHOTOGRAPHS))}, "
        f"{megabytes(size)} to download."
    )
