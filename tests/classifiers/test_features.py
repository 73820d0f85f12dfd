"""FeatureSet, and the extraction of logits and features in batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.features import FeatureSet, extract_features, extract_logits
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.pixels import to_uint8
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError

TINY = DataSpec("tiny", 3, 1, 8, (0.0,), (1.0,), ("a", "b", "c"))
IMAGES_7CHW = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(1))


class Mean(nn.Module):
    """Network with neither linear layers nor convolutions."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.flatten(1)[:, :3]


def classifier() -> FrozenClassifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 5), nn.Linear(5, 3)
    )
    return FrozenClassifier(network, TINY)


@pytest.mark.parametrize(("batch_size", "channels_last"), [(3, True), (7, False)])
def test_features_are_those_of_a_single_forward_pass(batch_size: int, channels_last: bool) -> None:
    frozen = classifier()
    extracted = extract_features(
        frozen, IMAGES_7CHW, batch_size=batch_size, channels_last=channels_last
    )
    logits_nN, features = frozen.logits_and_features(IMAGES_7CHW)
    torch.testing.assert_close(extracted.logits_nN, logits_nN)
    torch.testing.assert_close(extracted.features_nD, features["penultimate"])
    assert torch.equal(extracted.images_nCHW, IMAGES_7CHW)
    assert torch.equal(extracted.predicted_n, logits_nN.argmax(dim=1))
    torch.testing.assert_close(extracted.probabilities_nN.sum(dim=1), torch.ones(7))
    assert (len(extracted), extracted.layers, len(extracted.labels_n)) == (7, {}, 0)


def test_pooled_layers_are_means_over_positions() -> None:
    frozen = classifier()
    extracted = extract_features(frozen, IMAGES_7CHW, layer="0", pooled_layers=["0", "3"])
    maps_nCHW = extracted.features_nD.unflatten(1, (4, 6, 6))
    assert set(extracted.layers) == {"0", "3"}
    torch.testing.assert_close(extracted.layers["0"], maps_nCHW.mean(dim=(2, 3)))
    assert float(maps_nCHW.min()) < 0  # before the in-place activation
    assert set(extract_features(frozen, IMAGES_7CHW, pooled_layers=None).layers) == set("01234")
    assert not any(module._forward_hooks for module in frozen.network.modules())


def test_each_image_passes_through_the_classifier_once() -> None:
    frozen = classifier()
    before = frozen.forward_count.forwards
    extract_features(frozen, IMAGES_7CHW, pooled_layers=None, batch_size=2)
    extract_logits(frozen, IMAGES_7CHW, batch_size=2)
    assert frozen.forward_count.forwards - before == 14


def test_a_network_without_layers_has_no_features() -> None:
    extracted = extract_features(FrozenClassifier(Mean(), TINY, ()), IMAGES_7CHW)
    assert not extracted.has_features
    assert extracted.features_nD.shape == (7, 0)


def test_logits_of_uint8_images_are_those_of_the_unit_range() -> None:
    frozen, levels_nCHW = classifier(), to_uint8(IMAGES_7CHW)
    logits_nN = extract_logits(frozen, levels_nCHW, batch_size=3)
    torch.testing.assert_close(logits_nN, extract_logits(frozen, levels_nCHW.float() / 255))


def test_an_unknown_layer_suggests_the_closest_match() -> None:
    with pytest.raises(InputError, match="the network has no such layer"):
        extract_features(classifier(), IMAGES_7CHW, layer="9")


def test_the_halves_are_disjoint_and_repeatable() -> None:
    ids_n = torch.arange(11)
    whole = FeatureSet(
        torch.zeros(11, 1, 1, 1),
        logits_nN=torch.eye(11),
        features_nD=ids_n[:, None].float(),
        layers={"first": -ids_n[:, None]},
        labels_n=ids_n,
        generator_n=ids_n,
    )
    a, b = whole.halves(3)
    assert (len(a), len(b)) == (6, 5)
    assert sorted([*a.labels_n.tolist(), *b.labels_n.tolist()]) == ids_n.tolist()
    assert a.layers["first"].flatten().tolist() == (-a.labels_n).tolist()
    assert a.features_nD[:, 0].tolist() == a.labels_n.tolist() == a.predicted_n.tolist()
    assert torch.equal(a.labels_n, whole.halves(3)[0].labels_n)
    assert not torch.equal(a.labels_n, whole.halves(4)[0].labels_n)
