"""`loss=natural`: augmentation, BatchNorm statistics and class spread, and their effect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion import losses, terms
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.terms import Step
from netinv_lightning.run import run
from netinv_lightning.training.distributed import Stream
from tests.inversion.fixed_stream import Fixed

Compose = Callable[..., DictConfig]


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def ramp(side: int = 9) -> Tensor:
    """Image whose values increase by 1 per pixel to the right and by 100 per pixel downwards."""
    pixel = torch.arange(side, dtype=torch.float32)
    return (pixel[None] + 100 * pixel[:, None])[None, None]


def test_without_augmentation_images_are_unchanged() -> None:
    x_BCHW = images(3, 1, 28, 28)
    assert Augmentation()(x_BCHW, Stream(0)) is x_BCHW


def test_a_shift_moves_the_image_by_the_drawn_pixels() -> None:
    moved = Augmentation(shift=2.0)(
        ramp(), Fixed(1.0)
    )  # draws of 1 from U[0, 1) correspond to +1 in U(-1, 1)
    assert torch.allclose(moved[0, 0, :7, :7], ramp()[0, 0, 2:, 2:], atol=1e-3)
    assert torch.allclose(moved[0, 0, 8], moved[0, 0, 7], atol=1e-3)  # border pixels are repeated


def test_rotation_scale_shear_and_flip_equal_the_affine_maps() -> None:
    middle = 4
    quarter = Augmentation(rotation=90.0)(ramp(), Fixed(1.0))[0, 0]
    assert torch.allclose(quarter, torch.rot90(ramp()[0, 0]), atol=1e-2)
    # The view covers half the side, so objects appear twice as large.
    half = Augmentation(scale=0.5)(ramp(), Fixed(0.0))[0, 0]
    assert half[middle, middle + 2] - half[middle, middle] == pytest.approx(1.0, abs=1e-3)
    sheared = Augmentation(shear=0.5)(ramp(), Fixed(1.0))[0, 0]
    assert sheared[middle + 2, middle] == pytest.approx(100 * (middle + 2) + middle + 1, abs=1e-2)
    mirrored = Augmentation(flip=True)(ramp(), Fixed(0.0))[0, 0]
    assert torch.allclose(mirrored, ramp()[0, 0].flip(1), atol=1e-3)


def test_noise_is_bounded_and_views_stay_in_range() -> None:
    x_BCHW = torch.full((500, 1, 28, 28), 0.5)
    view = Augmentation(noise=0.3)(x_BCHW, Stream(1))
    bound_B = (view - 0.5).abs().flatten(1).amax(dim=1)
    assert 0.29 < bound_B.max() <= 0.3
    assert bound_B.min() < 0.01  # each image has its own noise bound, starting at 0
    view = Augmentation(noise=5.0)(x_BCHW, Stream(1))
    assert (view.min(), view.max()) == (0, 1)


def test_resized_views_show_the_whole_image_at_many_sizes() -> None:
    x_BCHW = ramp(64).expand(3, 1, 64, 64)
    views, stream = Augmentation(resize=[32, 128]), Stream(0)
    shapes = {views(x_BCHW, stream).shape for _ in range(40)}
    assert shapes == {(3, 1, side, side) for side in (32, 64, 96, 128)}
    half = Augmentation(resize=[32, 32])(x_BCHW, Stream(0))
    assert torch.allclose(half[0], torch.nn.functional.avg_pool2d(x_BCHW[0], 2), atol=1e-2)


def test_a_range_without_two_multiples_of_32_gives_all_its_sizes() -> None:
    views, stream = Augmentation(resize=[28, 32]), Stream(0)
    assert {views(images(1, 1, 28, 28), stream).shape[2] for _ in range(60)} == {*range(28, 33)}


def test_a_continued_stream_gives_the_same_sizes() -> None:
    views, x_BCHW = Augmentation(resize=[32, 256], shift=4.0), images(2, 1, 64, 64)
    stream = Stream(3)
    views(x_BCHW, stream)
    resumed = Stream(0)
    resumed.state = stream.state
    for _ in range(3):
        assert torch.equal(views(x_BCHW, stream), views(x_BCHW, resumed))


@pytest.mark.parametrize("resize", [[96], [128, 96], [0, 32], [32, 64, 96]])
def test_a_wrong_range_of_sizes_is_refused(resize: list[int]) -> None:
    with pytest.raises(ValueError, match=r"resize=\[.*: must be the smallest and the largest side"):
        Augmentation(resize=resize)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("augmentation.resize=[96]", r"augmentation.resize=\[96\]: must be the smallest and"),
        ("augmentation.resize=[96,0]", "augmentation.resize=0: must be 1 or more"),
        ("augmentation.shift=-1", "augmentation.shift=-1.0: must be from 0 to 4096"),
        ("augmentation.noise=nan", "augmentation.noise=nan: must be a finite number"),
        ("augmentation.scale=1", "augmentation.scale=1.0: must be at least 0 and below 1"),
    ],
)
def test_an_invalid_value_gives_one_line(
    compose: Compose, job_dir: Path, override: str, line: str
) -> None:
    with pytest.raises(InputError, match=line):
        run(compose(override), job_dir)
    assert not job_dir.exists()


def test_statistics_distance_is_a_wasserstein_distance() -> None:
    """Test N(3, 2^2) against N(1, 4^2), in units of 4^2.

    The distance is ((3 - 1)^2 + (2 - 4)^2) / 16 in every channel.
    """
    x_BC = torch.tensor([[1.0], [5.0]]).expand(2, 3)[:, :, None, None]  # mean 3, deviation 2
    distance = losses.statistics_distance(x_BC, torch.ones(3), torch.full((3,), 16.0))
    assert distance.item() == pytest.approx(0.5, rel=1e-5)
    assert losses.statistics_distance(
        x_BC, torch.full((3,), 3.0), torch.full((3,), 4.0)
    ).item() == pytest.approx(0.0, abs=1e-9)


def test_a_constant_channel_has_a_finite_gradient() -> None:
    x_BC = torch.ones(4, 2, requires_grad=True)
    losses.statistics_distance(x_BC, torch.zeros(2), torch.ones(2)).backward()
    assert x_BC.grad is not None
    assert x_BC.grad.isfinite().all()


class WithBatchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = (
            nn.BatchNorm2d(1),
            nn.BatchNorm2d(1, track_running_stats=False),
            nn.Linear(784, 10),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.second(self.first(x_BCHW)).flatten(1))


def step_of(x_BCHW: Tensor, mean: float, std: float) -> Step:
    spec = DataSpec("own", 10, 1, 28, (mean,), (std,), tuple("0123456789"))
    classifier = FrozenClassifier(WithBatchNorm(), spec)
    condition = Conditioning(10, 28).of_labels(torch.arange(len(x_BCHW)) % 10)
    logits_BN, features, normed = classifier.trace(x_BCHW)
    return Step(x_BCHW, condition, logits_BN, features, classifier, normed=normed)


def test_batch_norm_term_compares_with_the_running_statistics() -> None:
    x_BCHW = images(20, 1, 28, 28)
    mean, std = x_BCHW.mean().item(), x_BCHW.std(correction=0).item()
    exact = step_of(x_BCHW, mean, std)
    assert list(exact.normed) == ["first"]  # the other layer keeps no statistics
    # After normalisation the images have mean 0 and variance 1, as a new BatchNorm expects.
    assert terms.batch_norm(exact).item() == pytest.approx(0.0, abs=1e-6)
    off = step_of(x_BCHW, mean - std, std)  # mean 1; layer and pixels expect 0
    assert terms.batch_norm(off, pixels=0.0).item() == pytest.approx(1.0, rel=1e-4)
    assert terms.batch_norm(off, pixels=2.0).item() == pytest.approx(3.0, rel=1e-4)
    untold = step_of(x_BCHW, 0.0, 1.0)  # without normalisation the pixel statistics are unknown
    assert terms.batch_norm(untold).item() == terms.batch_norm(untold, pixels=0.0).item()


def test_class_spread_compares_images_of_the_same_class_only() -> None:
    """Test two images of class 0 and a single image of class 1.

    The images of class 0 differ by 0.1 everywhere, which is 3/4 below the required distance of 0.4.
    """
    x_BCHW = torch.stack([torch.full((1, 8, 8), value) for value in (0.5, 0.6, 0.5)])
    spread = losses.class_spread(x_BCHW, torch.tensor([0, 0, 1]), distance=0.4, pool=4)
    assert spread.item() == pytest.approx(0.75**2, rel=1e-4)
    assert losses.class_spread(x_BCHW, torch.tensor([0, 1, 2])).item() == 0
    assert losses.class_spread(
        x_BCHW, torch.tensor([0, 0, 1]), distance=0.1
    ).item() == pytest.approx(0.0, abs=1e-6)


def test_fine_noise_does_not_count_as_spread() -> None:
    checker = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    x_BCHW = torch.stack([checker, 1 - checker])[:, None].float()
    assert losses.class_spread(
        x_BCHW, torch.zeros(2, dtype=torch.long), pool=4
    ).item() == pytest.approx(1.0, abs=1e-3)
    assert losses.class_spread(x_BCHW, torch.zeros(2, dtype=torch.long), pool=1).item() == 0


def test_feature_spread_is_the_excess_of_the_cosines_within_a_class() -> None:
    f_BD = torch.tensor([[1.0, 0.0], [0.6, 0.8], [5.0, 0.0], [1.0, 0.0]])
    label_B = torch.tensor([0, 0, 0, 1])
    # Cosines of class 0: 0.6, 1, 0.6. Class 1 has one image.
    expected = ((0.6 - 0.5) + (1 - 0.5) + (0.6 - 0.5)) / 3
    assert losses.feature_spread(f_BD, label_B).item() == pytest.approx(expected)
    assert losses.feature_spread(f_BD, label_B, cosine=1.0).item() == pytest.approx(0, abs=1e-6)
    assert losses.feature_spread(f_BD, torch.arange(4)).item() == 0
