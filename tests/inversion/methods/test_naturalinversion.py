"""`method=naturalinversion`: a new generator for each batch.

Shape suffixes: B batch.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import CNN
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.naturalinversion import (
    FeaturePyramid,
    NaturalInversion,
    ScaledMaker,
    one_per_size,
)
from netinv_lightning.inversion.methods.vector_decoder import VectorDecoder
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.training.seeds import own_randomness

SPEC = DataSpec("made_up", 3, 1, 12, (0.4,), (0.3,), ("a", "b", "c"))
TABLE = DataSpec("made_up", 3, 5, (), (0.4,) * 5, (0.3,) * 5, ("a", "b", "c"))


def method_of(classifier: FrozenClassifier, **options: object) -> NaturalInversion:
    return NaturalInversion(
        Conditioning(3, classifier.spec.image_size, "label"),
        classifier,
        Objective({"ce": {"weight": 1.0}}),
        Perturbation(),
        Augmentation(),
        log_every=10,
        micro_batch=None,
        **{"steps": 30, "width": 8, "latent_dim": 6, **options},  # type: ignore[arg-type]
    )


def small_cnn() -> FrozenClassifier:
    torch.manual_seed(0)
    return FrozenClassifier(CNN(3, 1, 12, stages=((4,), (6,)), hidden=8), SPEC)


def drawn(method: NaturalInversion, seed: int = 0, count: int = 12) -> Tensor:
    with own_randomness(seed, torch.device("cpu")):
        return method.draw(method.conditioning.of_labels(torch.arange(count) % 3))


def test_each_batch_has_its_own_generator() -> None:
    """The same seed gives the same images, and steps lower the objective."""
    method, label_B = method_of(small_cnn(), steps=60), torch.arange(12) % 3
    first = drawn(method)
    after, before = (
        float(F.cross_entropy(method.classifier(x_BCHW), label_B))
        for x_BCHW in (first, drawn(method_of(small_cnn(), steps=1)))
    )
    assert after < 0.95 * before
    assert 0 <= first.min() < first.max() <= 1
    # The maps of the first images cost a forward pass in each step, and one for the final images.
    setup = 2
    assert (method.forwards, method.backwards) == (setup + 12 * (2 * 60 + 1), 12 * 60)
    assert torch.equal(first, drawn(method_of(small_cnn(), steps=60)))
    assert not torch.equal(first, drawn(method, seed=1))


def test_one_map_of_each_size_is_used_from_coarse_to_fine() -> None:
    normed = {
        "a": torch.zeros(2, 4, 8, 8),
        "b": torch.ones(2, 5, 8, 8),
        "c": torch.zeros(2, 6, 4, 4),
        "d": torch.zeros(2, 7),
    }
    maps = one_per_size(normed)
    assert [tuple(x.shape[1:]) for x in maps] == [(6, 4, 4), (5, 8, 8)]
    change = FeaturePyramid([6, 5], channels=3)(maps, (16, 16))
    assert change.shape == (2, 3, 16, 16)
    assert not change.any()  # it starts without effect


def test_the_image_is_the_scaled_and_bounded_first_image() -> None:
    scale_BC11 = torch.tensor([5.0, 2.0]).view(2, 1, 1, 1)
    maker = ScaledMaker(VectorDecoder(SPEC, 4, 8, seed=0), [], scale_BC11)
    first_BCHW = torch.tensor([0.5, 0.9]).view(2, 1, 1, 1).expand(2, 1, 12, 12)
    made_BCHW = maker(first_BCHW, [])
    expected = torch.sigmoid(2 * torch.tanh(torch.log(torch.tensor(9.0))))
    assert made_BCHW[0].unique().tolist() == [0.5]
    torch.testing.assert_close(made_BCHW[1], expected.expand(1, 12, 12))


@pytest.mark.parametrize("count", [1, 4])
def test_networks_without_maps_work(count: int) -> None:
    torch.manual_seed(0)
    method = method_of(FrozenClassifier(nn.Linear(5, 3), TABLE), steps=2)
    assert drawn(method, count=count).shape == (count, 5)
