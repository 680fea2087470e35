"""Fine-tuning on a few labelled images: the measure by which masked autoencoders are compared.

What a masked autoencoder learns lies in all of its weights rather than in one vector, so k-NN and a linear probe say
little of it. Its paper fine-tunes the whole network and compares with the same network trained from scratch.

Reference:
    He et al. 2022, "Masked autoencoders are scalable vision learners", arXiv:2111.06377, section 4.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import PatchDropout
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn

from model_zoo.training.optimiser import optimiser_for

LABELLED = 1000
"""Images that a figure of fine-tuning stands on."""
EPOCHS = 8
BATCH = 32
RATE = 2e-3
DROP = 0.5  # share of the patches left out of every image while training, of a transformer


def fine_tuned(model: nn.Module, images: Tensor, labels: Tensor, kind: str, epochs: int = EPOCHS) -> nn.Module:
    """A copy of the model with a fresh classifier, all of its weights trained on labelled images.

    The settings (Muon, a cosine from ``RATE``, label smoothing 0.1, half of the patches left out at random) are the
    same whatever the model, so that two models differ in nothing but the weights they start from.

    Args:
        model: any timm model.
        images: normalised, (B, 3, H, W).
        labels: class numbers from 0, (B,).
        kind: what the classifier reads, ``cls`` or ``mean`` (of the patch tokens or the last feature map).
        epochs: how often each image is shown.

    Returns:
        the classifier in evaluation mode. The same arguments give the same weights.
    """
    classifier: Any = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        classifier.reset_classifier(int(labels.max()) + 1, "token" if kind == "cls" else "avg")
        classifier.to(images.device).requires_grad_(True).train()
        if hasattr(classifier, "patch_drop"):
            classifier.patch_drop = PatchDropout(DROP, num_prefix_tokens=classifier.num_prefix_tokens)
        optimiser = optimiser_for(classifier, "muon", RATE, weight_decay=0.05)
        steps = epochs * -(-len(images) // BATCH)
        scheduler = CosineLRScheduler(optimiser, steps, lr_min=1e-5, warmup_t=steps // 10, t_in_epochs=False)
        step = 0
        for _ in range(epochs):
            for chosen in torch.randperm(len(images)).to(images.device).split(BATCH):
                scheduler.step_update(step)
                loss = F.cross_entropy(classifier(images[chosen]).float(), labels[chosen], label_smoothing=0.1)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
                optimiser.step()
                step += 1
    return classifier.eval()
