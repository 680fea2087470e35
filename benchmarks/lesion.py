"""Lesions: the map of all heads by passes that reuse what lies before a lesion, beside whole passes.

    python -m benchmarks.lesion [IMAGES] [TURNS]

The floor is 72 whole passes of DeiT-S over IMAGES images (16 when not given), one for each of its 12 × 6 heads; the
work is the probe's map of the same heads. With nothing but the blocks behind a lesion to run, 0.54 is expected:
(12 + 11 + ... + 1) / 144. The last line is the ratio of the times, floor by work.
"""

import sys
import time

import timm
import torch

from benchmarks.harness import compare, show
from model_zoo.adapter import Adapter
from probes.core.capture import Batch
from probes.core.lesions import answers, heads, left_out
from probes.lesion import LesionStudy


def naive(batch: Batch) -> None:
    """A whole pass for each head."""
    for lesion in heads(batch.adapter.spec):
        with left_out(batch.adapter, [[lesion]]):
            answers(batch.adapter, batch.inputs)


def ours(batch: Batch) -> None:
    """The probe's map of the heads."""
    probe = LesionStudy(branches=False)
    probe.compute(probe.update(probe.init(batch.adapter.spec), batch))


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    given = [int(text) for text in sys.argv[1:3]]
    images, turns = given + [16, 3][len(given) :]
    torch.manual_seed(0)
    adapter = Adapter(timm.create_model("deit_small_patch16_224"))
    batch = Batch(adapter, range(images), torch.randn(images, 3, *adapter.input_size), [])
    row = compare(
        f"{len(heads(adapter.spec))} heads, {images} images",
        lambda: ours(batch),
        lambda: naive(batch),
        turns=turns,
        clock=time.process_time,
    )
    show([row])
    print(f"\nnaive : ours = {1 / row.ratio:.2f}, ours / naive = {row.ratio:.3f}")


if __name__ == "__main__":
    main()
