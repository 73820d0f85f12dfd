"""A student learns from its teacher: losses by hand, small networks and their seeds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.downstream.distillation import (
    DistillationResult,
    distil,
    mix_images,
    softened_kl,
)
from netinv_lightning.downstream.feature_hint import FeatureHint
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.training.distributed import Stream

SPEC = DataSpec("made_up", 3, 1, 4, (0.0,), (1.0,), ("a", "b", "c"))


def linear(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


@pytest.fixture
def teacher() -> FrozenClassifier:
    """Classifier that predicts the brightest of three stripes."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    weight_NP = torch.zeros(3, 4, 4)
    for label in range(3):
        weight_NP[label, label] = 4.0
    linear_layer = network[1]
    assert isinstance(linear_layer, nn.Linear)
    linear_layer.weight.data, linear_layer.bias.data = weight_NP.flatten(1), torch.zeros(3)
    return FrozenClassifier(network, SPEC)


def draw(number: int) -> Tensor:
    return torch.rand(32, 1, 4, 4, generator=torch.Generator().manual_seed(number))


def distilled_from(
    teacher: FrozenClassifier, real: tuple[Tensor, Tensor] | None = None, **keywords: Any
) -> DistillationResult:
    return distil(
        teacher, draw, linear(1), real, **{"steps": 200, "lr": 0.05, "seed": 3, **keywords}
    )


def test_softened_kl_by_hand() -> None:
    student_BN, teacher_BN = (
        torch.tensor([[0.0, 0.0], [1.0, 1.0]]),
        torch.tensor([[2 * torch.log(torch.tensor(3.0)), 0.0], [5.0, 5.0]]),
    )
    # At temperature 2 the teacher predicts (3/4, 1/4) and the student (1/2, 1/2).
    expected = 4 * (0.75 * torch.log(torch.tensor(1.5)) + 0.25 * torch.log(torch.tensor(0.5)))
    torch.testing.assert_close(
        softened_kl(student_BN, teacher_BN, 2.0), torch.tensor([float(expected), 0.0])
    )


def test_student_learns_the_predictions_of_its_teacher(teacher: FrozenClassifier) -> None:
    images_nCHW = torch.rand(500, 1, 4, 4, generator=torch.Generator().manual_seed(99))
    label_n = images_nCHW[:, 0, :3].sum(dim=2).argmax(dim=1)
    untrained = distil(teacher, draw, linear(1), (images_nCHW, label_n), steps=1, lr=1e-9)
    assert untrained.agreement is not None
    assert untrained.agreement < 0.6
    found = distilled_from(teacher, (images_nCHW, label_n))
    assert found.agreement_fresh > 0.97
    assert found.agreement == found.accuracy  # the teacher is always right
    assert found.accuracy is not None
    assert found.accuracy > 0.97
    as_bytes = (images_nCHW * 255).round().byte()
    assert distilled_from(teacher, (as_bytes, label_n)).accuracy == pytest.approx(
        found.accuracy, abs=0.02
    )
    assert not found.student.training


def test_equal_seeds_give_equal_students_and_keep_global_state(teacher: FrozenClassifier) -> None:
    augmentation = Augmentation(shift=1, noise=0.1)
    images_nCHW, label_n = torch.rand(10, 1, 4, 4), torch.zeros(10, dtype=torch.long)
    before = torch.get_rng_state()
    frozen = {name: value.clone() for name, value in teacher.state_dict().items()}
    first = distilled_from(teacher, augmentation=augmentation, steps=20).student.state_dict()
    again = distilled_from(
        teacher, (images_nCHW, label_n), augmentation=augmentation, steps=20
    ).student.state_dict()  # evaluated with real images
    other = distilled_from(
        teacher, augmentation=augmentation, steps=20, seed=4
    ).student.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(frozen[name], value) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize("micro_batch", [5, 32])
def test_a_teacher_that_gets_parts_of_a_batch_gives_the_same_student(micro_batch: int) -> None:
    def trained(micro_batch: int | None) -> tuple[nn.Module, set[int]]:
        teacher, sizes = FrozenClassifier(linear(5), SPEC), set()
        teacher.network.register_forward_pre_hook(lambda _, given: sizes.add(len(given[0])))
        student = distil(
            teacher,
            lambda number: draw(number).double(),
            linear(1),
            steps=4,
            features=1.0,
            mix=True,
            new_images=lambda _: torch.zeros(1, 1, 4, 4),
            micro_batch=micro_batch,
        ).student.network
        return student, sizes

    torch.set_default_dtype(torch.float64)
    try:
        (whole, _), (in_parts, sizes) = trained(None), trained(micro_batch)
    finally:
        torch.set_default_dtype(torch.float32)
    assert max(sizes) == micro_batch
    weights = dict(whole.named_parameters())
    for name, weight in in_parts.named_parameters():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(weight, weights[name], rtol=1e-10, atol=1e-12)


def test_each_step_is_reported_and_draws_a_new_batch(teacher: FrozenClassifier) -> None:
    drawn: list[int] = []
    reported: list[int] = []

    def recorded(number: int) -> Tensor:
        drawn.append(number)
        return draw(number)

    distil(teacher, recorded, linear(1), steps=5, on_step=lambda step, _: reported.append(step))
    assert drawn == list(range(15))  # five of the training and ten of the evaluation
    assert reported == [1, 2, 3, 4, 5]


def test_mixtures_combine_two_images() -> None:
    """All pixels of image i equal i, so the source of each pixel is known."""
    level_B = torch.arange(64.0)
    x_BCHW = level_B.view(64, 1, 1, 1).expand(64, 3, 16, 16)
    boxed_BCHW = mix_images(x_BCHW, Stream(0), boxes=True)
    foreign_BHW = boxed_BCHW[:, 0] != level_B.view(64, 1, 1)
    for image_CHW, foreign_HW in zip(boxed_BCHW, foreign_BHW, strict=True):
        assert len(image_CHW[0][foreign_HW].unique()) <= 1  # from one other image
        rows_H, columns_W = foreign_HW.any(dim=1), foreign_HW.any(dim=0)
        assert torch.equal(foreign_HW, rows_H[:, None] & columns_W)  # a box
        assert max(int(rows_H.sum()), int(columns_W.sum())) <= 12
    assert 0.02 < float(foreign_BHW.float().mean()) < 0.3
    blended_BCHW = mix_images(x_BCHW, Stream(0), boxes=False)
    other_B = level_B[Stream(0).uniform(64).argsort()]
    moved_B, distance_B = (blended_BCHW[:, 0, 0, 0] - level_B).abs(), (other_B - level_B).abs()
    assert (moved_B <= distance_B / 2).all()
    assert 0.15 < float(moved_B.sum() / distance_B.sum()) < 0.35  # about a quarter
    assert torch.equal(blended_BCHW.amin(dim=(1, 2, 3)), blended_BCHW.amax(dim=(1, 2, 3)))


def test_hint_is_the_distance_of_mapped_unit_features() -> None:
    """The features are the first pixels, and the map is initialised as the identity."""

    class First(nn.Module):
        def __init__(self, features: int) -> None:
            super().__init__()
            self.features, self.head = features, nn.Linear(features, 3)

        def forward(self, x_BCHW: Tensor) -> Tensor:
            logits_BN: Tensor = self.head(x_BCHW.flatten(1)[:, : self.features])
            return logits_BN

    x_BCHW = torch.zeros(2, 1, 4, 4)
    x_BCHW[0, 0, 0, :3] = torch.tensor([3.0, 4.0, 0.0])
    x_BCHW[1, 0, 0, :3] = torch.tensor([0.0, 3.0, 4.0])
    teacher, student = FrozenClassifier(First(3), SPEC), Classifier(First(2), SPEC)
    hint = FeatureHint(teacher, student)
    with hint.record():
        teacher(x_BCHW)
        student(x_BCHW)
    # The unit features of both are (0.6, 0.8, 0) for the first image; for the second, (0, 0.6, 0.8)
    # and (0, 1, 0).
    assert float(hint.distance().detach()) == pytest.approx((0 + 0.4**2 + 0.8**2) / 2, abs=1e-6)
    teacher(2 * x_BCHW)  # this pass is not recorded
    assert float(hint.distance().detach()) == pytest.approx(0.4, abs=1e-6)
    assert [weight.shape for weight in hint.parameters()] == [(3, 2)]


def test_hint_transfers_features_of_a_constant_teacher(teacher: FrozenClassifier) -> None:
    """A teacher with constant logits still provides its features."""

    def network(seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))

    constant = network(5)
    last = constant[-1]
    assert isinstance(last, nn.Linear)
    last.weight.data.zero_()
    frozen = FrozenClassifier(constant, SPEC)

    def distance(student: nn.Module) -> float:
        hint = FeatureHint(frozen, Classifier(student, SPEC))
        with hint.record(), torch.no_grad():
            frozen(draw(99))
            student(draw(99))
            # This is the error of the best linear map.
            teacher_BD, student_BD = (torch.cat(parts) for parts in hint._parts)
            mapped_BD = student_BD @ torch.linalg.lstsq(student_BD, teacher_BD).solution
            return float((mapped_BD - teacher_BD).square().mean())

    without, with_hint = (
        distil(frozen, draw, network(6), steps=200, lr=0.02, features=weight).student.network
        for weight in (0.0, 1.0)
    )
    assert distance(with_hint) < 0.5 * distance(without)
