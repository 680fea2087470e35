"""What a gradient method costs beside one plain forward and backward pass of the same weights.

    python -m benchmarks.relevance

The floor is the cheapest backward pass there is: fused attention, parameters without gradients, the gradient of the top
logits with respect to the input alone.
"""

import timm
import torch

from benchmarks.harness import compare, show
from model_zoo.adapter import Adapter
from probes.core.relevance import THROUGH_ATTENTION, relevance
from probes.core.targets import Target

WORK = (("vit_small_patch16_224", 224, 8), ("vit_small_patch8_224", 224, 2))


def floor(adapter: Adapter, inputs: torch.Tensor) -> torch.Tensor:
    inputs = inputs.clone().requires_grad_()
    top = adapter.module(inputs).amax(-1).sum()
    return torch.autograd.grad(top, inputs)[0]


def main() -> None:
    torch.set_num_threads(2)
    rows = []
    for name, size, batch in WORK:
        torch.manual_seed(0)
        adapter = Adapter(timm.create_model(name, num_classes=1000), image_size=size)
        x = torch.randn(batch, 3, size, size)
        rows += [
            compare(
                f"{name} {size} px, batch {batch}: {method}",
                lambda a=adapter, x=x, m=method: relevance(a, x, m, Target()),
                lambda a=adapter, x=x: floor(a, x),
                turns=5,
            )
            for method in THROUGH_ATTENTION
        ]
    show(rows)


if __name__ == "__main__":
    main()
