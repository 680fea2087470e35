"""Frozen features and what is read off them, on inputs whose answer is known."""

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from model_zoo.features import extract, fit_linear, knn_top1, nearest_classes


def test_knn_and_linear_probe_find_separated_classes_and_nothing_in_noise():
    torch.manual_seed(0)
    centres = torch.randn(5, 16) * 4
    labels = torch.arange(1000) % 5
    features = centres[labels] + torch.randn(1000, 16)
    assert knn_top1(features[:600], labels[:600], features[600:], labels[600:]) > 0.98
    probe = fit_linear(lambda: [(features[:600], labels[:600])])
    assert (probe(features[600:]) == labels[600:]).all()
    noise = torch.randn(1000, 16)
    assert abs(knn_top1(noise[:600], labels[:600], noise[600:], labels[600:]) - 0.2) < 0.1


def test_knn_is_a_weighted_vote_by_cosine():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    labels = torch.tensor([0, 1, 1])
    near_first = torch.tensor([[5.0, 0.5]])
    assert knn_top1(bank, labels, near_first, torch.tensor([0]), k=3) == 1.0  # two far votes for 1 weigh less
    assert knn_top1(bank, labels, torch.tensor([[0.5, 5.0]]), torch.tensor([1]), k=3) == 1.0


def test_features_of_every_kind_of_network():
    images = torch.randn(3, 3, 112, 112)
    for name, kinds in (("scenes_vit", {"cls", "mean"}), ("scenes_resnet", {"mean"})):
        model = timm.create_model(name).eval()
        code = extract(model, images, batch_size=2)
        assert code.keys() == kinds
        with torch.no_grad():
            wanted = model.forward_head(model.forward_features(images), pre_logits=True)
        assert torch.allclose(code["cls" if "cls" in kinds else "mean"], wanted, atol=1e-5)


class InBlocks:
    """Features in blocks that are made when they are asked for, and counted as long as someone holds them."""

    def __init__(self, features: Tensor, labels: Tensor, size: int) -> None:
        self.features, self.labels, self.size = features, labels, size
        self.live = self.most = 0

    def __call__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.features), self.size):
            block = self.features[start : start + self.size].clone()
            weakref.finalize(block, self.gone)
            self.live += 1
            self.most = max(self.most, self.live)
            yield block, self.labels[start : start + self.size]
            del block

    def gone(self) -> None:
        self.live -= 1


def overlapping(count: int, classes: int) -> tuple[Tensor, Tensor]:
    """Features of very different scales whose classes overlap; one channel is constant, and a number is never used."""
    generator = torch.Generator().manual_seed(classes)
    labels = torch.randint(classes, (count,), generator=generator)
    features = torch.randn(count, 12, generator=generator) + torch.nn.functional.one_hot(labels, 12)
    features = features * torch.logspace(-2, 2, 12)
    features[:, 5] = 3.0
    return features, labels + (labels > 0)


@pytest.mark.parametrize("classes", [2, 5])
def test_a_linear_probe_in_blocks_is_scikit_learns_of_the_whole(classes: int) -> None:
    features, labels = overlapping(700, classes)
    blocks = InBlocks(features[:500], labels[:500], 64)
    probe = fit_linear(blocks)
    scaler = StandardScaler().fit(features[:500].double().numpy())
    whole = LogisticRegression(C=0.1, max_iter=2000).fit(
        scaler.transform(features[:500].double().numpy()), labels[:500]
    )
    np.testing.assert_allclose(probe.weight, whole.coef_, atol=1e-6)
    np.testing.assert_allclose(probe.bias, whole.intercept_, atol=1e-6)
    assert (probe(features[500:]).numpy() == whole.predict(scaler.transform(features[500:].double().numpy()))).all()
    assert blocks.most <= 3


@pytest.mark.parametrize("size", [7, 64, 500])
def test_neighbours_in_blocks_are_those_of_the_whole(size: int) -> None:
    features, labels = overlapping(600, 4)
    blocks = InBlocks(features[:500], labels[:500], size)
    voted = nearest_classes(blocks(), features[500:], 5, k=20)
    bank, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in np.split(features.double().numpy(), [500]))
    for row, similarity in enumerate(queries @ bank.T):
        nearest = np.argsort(-similarity)[:20]
        votes = np.bincount(labels[:500][nearest], np.exp(similarity[nearest] / 0.07), minlength=5)
        assert voted[row] == votes.argmax()
    assert blocks.most <= 3


def test_more_neighbours_than_the_bank_holds_are_all_of_it() -> None:
    bank, labels = torch.eye(3), torch.tensor([0, 1, 1])
    assert nearest_classes([(bank, labels)], torch.tensor([[0.1, 1.0, 1.0]]), 2, k=10).tolist() == [1]
