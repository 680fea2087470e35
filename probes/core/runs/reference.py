"""The image that others are compared with, shown to probes before a shard's own."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from model_zoo.decoding import ImageError
from model_zoo.images import ImageSource
from probes.core.base import ReferenceProbe
from probes.core.capture import Tokens, forward, same_device
from probes.core.precision import Chosen, autocast
from probes.core.runner import Fold


def show(fold: Fold, images: Sequence[ImageSource], dtype: Chosen) -> None:
    """Show it to the probes of a model that have one; that it is not there or cannot be read is found later."""
    for reader in fold.readers:
        probe, adapter = reader.probe, fold.adapter
        if not isinstance(probe, ReferenceProbe) or probe.of >= len(images):
            continue
        try:
            picture = images[probe.of].open()
        except ImageError:
            continue
        inputs = same_device(adapter, adapter.preprocess(picture).unsqueeze(0))
        with torch.inference_mode(), autocast(adapter, dtype):
            forward(
                adapter, inputs, range(probe.of, probe.of + 1), points=probe.taps(adapter.spec),
                geometries=[adapter.geometry(picture.size)], on_tokens=partial(_refer, reader, probe),
            )  # fmt: skip


def _refer(reader: Any, probe: ReferenceProbe, seen: Tokens) -> None:
    reader.state = probe.refer(reader.state, seen)
