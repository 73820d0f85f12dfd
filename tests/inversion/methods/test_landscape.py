"""`method=landscape`: descent in a learned space.

Shape suffixes: B batch, N classes, Z entries of z, P pixels.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.methods.landscape import LandscapeInversion, Points
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.seeds import own_randomness
from tests.inversion.methods.test_trained import context

CPU = torch.device("cpu")
SIDE, LATENT = 8, 6
SPEC = DataSpec("made_up", 3, 1, SIDE, (0.5,), (1.0,), ("a", "b", "c"))


def steep_and_flat() -> FrozenClassifier:
    """A linear classifier whose logits depend on pixels with weights from 0.05 to 5."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 3, bias=False))
    scale_P = torch.logspace(-1.3, 0.7, SIDE**2)
    with torch.no_grad():
        sign_NP = torch.randn(3, SIDE**2, generator=torch.Generator().manual_seed(0)).sign()
        network[1].weight.copy_(sign_NP * scale_P)
    return FrozenClassifier(network, SPEC)


def method_of(classifier: FrozenClassifier | None = None, **options: object) -> LandscapeInversion:
    settings = {"steps": 60, "batch_size": 12, "descent_steps": 4, "latent_dim": LATENT, "width": 8}
    return LandscapeInversion(
        Conditioning(3, SIDE, "label"),
        classifier or steep_and_flat(),
        Objective({"ce": {"weight": 1.0}}),
        Perturbation(),
        Augmentation(),
        seed=0,
        log_every=20,
        micro_batch=None,
        **{**settings, **options},  # type: ignore[arg-type]
    )


def labels(method: LandscapeInversion, count: int = 30) -> Condition:
    return method.conditioning.of_labels(torch.arange(count) % 3)


def drawn(method: LandscapeInversion, seed: int = 0, count: int = 30) -> Tensor:
    with own_randomness(seed, CPU):
        return method.draw(labels(method, count))


def loss_of(method: LandscapeInversion) -> float:
    x_BCHW, label_B = drawn(method), labels(method).label_B
    return float(torch.nn.functional.cross_entropy(method.classifier(x_BCHW), label_B))


def test_the_gradient_of_each_point_is_that_of_its_own_loss() -> None:
    """For a linear mapping x = z A and logits x W', dL/dz = (softmax - hot) W A'."""
    method = method_of()
    matrix_ZP = torch.randn(LATENT, SIDE**2, generator=torch.Generator().manual_seed(1))

    class LinearMapping(nn.Module):
        def forward(self, z_BZ: Tensor) -> Tensor:
            return (z_BZ @ matrix_ZP).view(-1, 1, SIDE, SIDE)

    method.networks["mapping"] = LinearMapping()
    weight_NP = method.classifier.network[1].weight
    z_BZ = torch.randn(5, LATENT, generator=torch.Generator().manual_seed(2))
    condition = labels(method, 5)
    loss, gradient_BZ, values_V = method.differentiate(z_BZ, condition, Stream(0))
    logits_BN = method.classifier((z_BZ @ matrix_ZP).view(-1, 1, SIDE, SIDE))
    expected_BZ = (logits_BN.softmax(dim=1) - condition.target_BN) @ weight_NP @ matrix_ZP.T
    torch.testing.assert_close(gradient_BZ, expected_BZ, rtol=1e-4, atol=1e-5)
    ce = torch.nn.functional.cross_entropy(logits_BN, condition.label_B)
    torch.testing.assert_close(loss, ce)
    torch.testing.assert_close(values_V[0], ce)


def test_the_gradient_of_the_mapping_is_that_of_the_objective() -> None:
    method = method_of()
    mapping = method.networks["mapping"].eval()
    z_BZ, condition = torch.randn(5, LATENT), labels(method, 5)
    loss, _, _ = method.differentiate(z_BZ, condition, Stream(0))
    weights = [*mapping.parameters()]
    found = torch.autograd.grad(loss, weights)
    ce = torch.nn.functional.cross_entropy(method.classifier(mapping(z_BZ)), condition.label_B)
    for gradient, expected in zip(found, torch.autograd.grad(ce, weights), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_descent_in_the_learned_space_is_fast(tmp_path: Path) -> None:
    """The same few steps reach a much lower loss after training; without steps, none is reached.

    The mapping does not get the class, so images without descent in z are of any class.
    """
    method = method_of(steps=150, rate=1.0, descent_steps=8)
    before = loss_of(method)
    method.fit(context(tmp_path / "run"))
    after = loss_of(method)
    assert after < 0.5 * before
    method.descent_steps = 0
    assert loss_of(method) > 2 * after
    assert method.cost().steps == 150


def test_a_trajectory_starts_anew_after_its_last_point() -> None:
    points, method = Points(4, LATENT, 3, length=2), method_of()
    every_B = torch.arange(4)
    first_BZ = torch.ones(4, LATENT)
    seen = []
    for number in range(5):
        points.restart(every_B, first_BZ * (10 + number), labels(method, 4))
        z_BZ, condition = points.at(every_B)
        seen.append(float(z_BZ[0, 0]))
        assert torch.equal(condition.label_B, torch.tensor([0, 1, 2, 0]))
        points.move(every_B, z_BZ + 1)
    assert seen == [10.0, 11.0, 12.0, 13.0, 14.0]  # the fourth one is a new start, 10 + 3
    assert points.age_M.tolist() == [2, 2, 2, 2]


def test_images_depend_on_the_conditions_and_the_seed(tmp_path: Path) -> None:
    method = method_of(steps=5)
    method.fit(context(tmp_path / "run"))
    fitted = method.cost().forwards
    assert (fitted, method.cost().backwards) == (5 * 12, 5 * 12)
    loaded = method_of(steps=5)
    loaded.load(tmp_path / "run", channels_last=True)
    assert torch.equal(drawn(method), drawn(loaded))
    assert method.cost().forwards == fitted + 30 * 4
    assert not torch.equal(drawn(method), drawn(method, seed=1))
    assert drawn(method, count=1).shape == (1, 1, SIDE, SIDE)


@pytest.mark.parametrize(("sides", "channels"), [((), 5), ((12,), 2)])
def test_tables_and_signals(sides: tuple[int, ...], channels: int, tmp_path: Path) -> None:
    mean = (0.5,) * channels
    spec = DataSpec("own", 3, channels, sides, mean, mean, ("a", "b", "c"))
    network = nn.Sequential(nn.Flatten(), nn.Linear(channels * max(1, *sides, 1), 3))
    method = method_of(FrozenClassifier(network, spec), steps=2)
    method.fit(context(tmp_path / "run"))
    assert drawn(method, count=4).shape == (4, channels, *sides)
