"""Frozen features and what is read off them, on inputs whose answer is known."""

import timm
import torch

from model_zoo.features import extract, fit_linear, knn_top1


def test_knn_and_linear_probe_find_separated_classes_and_nothing_in_noise():
    torch.manual_seed(0)
    centres = torch.randn(5, 16) * 4
    labels = torch.arange(1000) % 5
    features = centres[labels] + torch.randn(1000, 16)
    assert knn_top1(features[:600], labels[:600], features[600:], labels[600:]) > 0.98
    assert (torch.from_numpy(fit_linear(features[:600], labels[:600])(features[600:])) == labels[600:]).all()
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
