"""Networks for rectangular images, signals and tables are inverted, all in one process.

Shape suffixes: B batch, C channels, H height, W width, L length, F features.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.pixels import to_units
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.parametrisations import Fourier
from netinv_lightning.run import run
from netinv_lightning.training.distributed import Stream
from tests.conftest import FEW_STEPS

STEPS = [
    *FEW_STEPS,
    "generator.seed_widths=null",
    "generator.image_widths=null",
    "application.steps=60",
    "application.batch_size=24",
    "application.lr=0.02",
    "application.eval_samples=100",
    "application.log_every=50",
    "application.checkpoint_every=1000",
    "conditioning.vectors=hot",
]
LONGER = [*STEPS, "application.steps=150", "application.batch_size=32", "application.lr=0.01"]


def rectangular_network() -> nn.Module:
    """Images [B, 3, 32, 64]: the class is the brightest of four blocks of columns."""
    network = nn.Sequential(nn.AvgPool2d((32, 16)), nn.Flatten(), nn.Linear(12, 4, bias=False))
    with torch.no_grad():
        network[2].weight.copy_(4 * torch.eye(4).repeat(1, 3))
    return network


def signal_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(1, 16, 5, 2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(64, 5),
    )


def table_network() -> nn.Module:
    return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))


@pytest.mark.parametrize(
    ("make", "shape", "classes"),
    [
        (rectangular_network, (3, 32, 64), 4),
        (signal_network, (1, 128), 5),
        (table_network, (13,), 3),
    ],
)
def test_every_modality_is_inverted(
    make: Any, shape: tuple[int, ...], classes: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = make()
    result = netinv_lightning.invert(
        network, num_classes=classes, shape=shape, overrides=STEPS, run_dir=tmp_path / "run"
    )
    assert result.metrics[names.INVERSION_ACCURACY_HOT] >= 0.95
    x_B = result.sample(range(classes), seed=0)
    assert x_B.shape == (classes, *shape)
    with torch.no_grad():  # in the units of the data, so the network takes them as they are
        agreed = (network.eval()(x_B).argmax(dim=1) == torch.arange(classes)).float().mean()
    assert agreed >= 0.8
    samples = load_file(tmp_path / "run" / "samples" / "inverted.safetensors")
    assert samples["images"].shape[1:] == shape
    if len(shape) < 3:
        assert samples["images"].min() < -0.5  # standardised, not pixels
    assert (tmp_path / "run" / "figures" / "grid.png").is_file()


@pytest.mark.parametrize(
    ("shape", "override", "said"),
    [
        ((1, 128), "augmentation.rotation=5", "augmentation.rotation=5.0: is for images, but the"),
        ((1, 128), "augmentation.resize=[96,128]", "augmentation.resize=[96, 128]: is for images"),
        ((13,), "augmentation.shift=1", "augmentation.shift=1.0: is for images and signals"),
        ((13,), "+loss.variation={weight: 1}", "loss.variation: compares neighbouring pixels"),
    ],
)
def test_what_only_images_have_is_refused(shape: tuple[int, ...], override: str, said: str) -> None:
    network = signal_network() if len(shape) == 2 else table_network()
    with pytest.raises(InputError) as caught:
        netinv_lightning.invert(
            network, num_classes=5 if len(shape) == 2 else 3, shape=shape,
            overrides=[*STEPS, override],
        )  # fmt: skip
    assert said in str(caught.value)


def test_gradient_descent_makes_any_shape(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for network, shape, classes in (
        (signal_network(), (1, 128), 5),
        (table_network(), (13,), 3),
    ):
        result = netinv_lightning.invert(
            network, num_classes=classes, shape=shape,
            overrides=[*FEW_STEPS, "method=gradient", "application.eval_samples=10"],
        )  # fmt: skip
        assert result.sample([0, 1], seed=0).shape == (2, *shape)
        assert result.metrics[names.INVERSION_ACCURACY_HOT] >= 0.9


def test_some_classes_of_many_are_inverted(tmp_path: Path) -> None:
    """Of 200 classes, those of the corners; the others are never asked for."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, 200, bias=False))
    with torch.no_grad():
        network[2].weight.copy_(torch.randn(200, 4))
        network[2].weight[[30, 7, 150, 2]] = 12 * torch.eye(4)
    chosen = [30, 7, 150, 2]
    result = netinv_lightning.invert(
        network, num_classes=200, channels=1, image_size=8, run_dir=tmp_path / "run",
        overrides=[*LONGER, f"application.classes={chosen}"],
    )  # fmt: skip
    assert result.metrics[names.INVERSION_ACCURACY_HOT] >= 0.95
    per_class = {name for name in result.metrics if name.startswith(names.class_accuracy(""))}
    assert per_class == {names.class_accuracy(str(label)) for label in chosen}
    samples = load_file(tmp_path / "run" / "samples" / "inverted.safetensors")
    assert set(samples["labels"].tolist()) <= set(chosen)
    assert samples["conditioning"].shape[1] == 200


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ("[1,9]", "application.classes=[1, 9]: has no class 9; its classes are 0 to 4"),
        ("[1,2,1]", "application.classes=[1, 2, 1]: names class 1 twice"),
        ("[1]", "application.classes=[1]: must name 2 classes or more"),
    ],
)
def test_wrong_classes_are_refused(chosen: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        netinv_lightning.invert(
            signal_network(), num_classes=5, shape=(1, 128),
            overrides=[*STEPS, f"application.classes={chosen}"],
        )  # fmt: skip
    assert said in str(caught.value)


def test_an_npz_of_signals_and_tables_is_kept_between_its_limits(tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    y = np.arange(60) % 3
    x_nF = source.normal([5.0, -2.0], [2.0, 0.1], size=(60, 2))
    np.savez(tmp_path / "table.npz", X=x_nF, y=y)
    data = ImageDataModule(name="npz", path=str(tmp_path / "table.npz"), val_fraction=0.2)
    assert (data.spec.shape, data.spec.modality, data.spec.num_classes) == ((2,), "tables", 3)
    every = torch.cat([data.train[0], data.val[0], data.test[0]])
    assert every.dtype == torch.float32
    assert every.amin(dim=0).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert every.amax(dim=0).tolist() == pytest.approx([1, 1], abs=1e-6)
    low, high = x_nF.min(axis=0), x_nF.max(axis=0)
    assert data.spec.limits == tuple(
        (pytest.approx(a, rel=1e-6), pytest.approx(b, rel=1e-6))
        for a, b in zip(low, high, strict=True)
    )
    wide = replace(data.spec, bounds=((-10.0, 30.0), (-4.0, 0.0)))
    before = to_units(data.train[0], data.spec)
    data.use_limits_of(wide)
    torch.testing.assert_close(
        data.train[0], (before + torch.tensor([10.0, 4.0])) / torch.tensor([40.0, 4.0])
    )
    np.savez(tmp_path / "signal.npz", X=source.normal(size=(60, 1, 16)), y=y)
    signals = ImageDataModule(
        name="npz", path=str(tmp_path / "signal.npz"), modality="signals", val_fraction=0.2
    )
    assert signals.spec.shape == (1, 16)
    with pytest.raises(InputError, match=r"data\.shift=1, data\.flip=False: require images"):
        ImageDataModule(name="npz", path=str(tmp_path / "table.npz"), val_fraction=0.2, shift=1)
    with pytest.raises(InputError, match=r"X has shape \(60, 2\); .* be images \[n, H, W\]"):
        ImageDataModule(name="npz", path=str(tmp_path / "table.npz"), modality="images")


def test_limits_are_five_standard_deviations_unless_given() -> None:
    table = DataSpec("own", 2, 3, (), (0.0, 1.0, 0.5), (1.0, 2.0, 0.5), ("a", "b"))
    assert table.limits == ((-5.0, 5.0), (-9.0, 11.0), (-2.0, 3.0))
    one_hot = replace(table, groups=((1, 2),))
    assert one_hot.limits == ((-5.0, 5.0), (0.0, 1.0), (0.0, 1.0))
    assert table.unit_mean == (0.5, 0.5, 0.5)
    assert table.unit_std == (0.1, 0.1, 0.1)
    image = DataSpec("own", 2, 1, [32, 64], (0.13,), (0.31,), ("a", "b"))
    assert (image.shape, image.unit_mean, image.unit_std) == ((1, 32, 64), (0.13,), (0.31,))
    assert DataSpec("own", 2, 1, (28, 28), (0.0,), (1.0,), ("a", "b")).image_size == 28
    assert "bounds" not in image.as_dict()


def test_a_trained_table_classifier_is_inverted_in_its_units(tmp_path: Path) -> None:
    """Features of very different scales; the samples lie in the range of the training data."""
    source = np.random.default_rng(0)
    y = np.arange(300) % 3
    centres = np.array([[100.0, 0.01], [200.0, 0.01], [150.0, 0.05]])
    x_nF = centres[y] + source.normal(size=(300, 2)) * [5.0, 0.002]
    np.savez(tmp_path / "table.npz", X=x_nF, y=y)
    cfg = netinv_lightning.compose(
        [
            *LONGER, "data=npz", f"data.path={tmp_path / 'table.npz'}", "classifier=mlp",
            "classifier.train=true", f"classifier.kept_in={tmp_path / 'kept'}",
            "recipe.epochs=20", "data.batch_size=20", f"output={tmp_path / 'runs'}",
        ]
    )  # fmt: skip
    assert run(cfg, tmp_path / "runs" / "table") is not None
    result = netinv_lightning.load_run(tmp_path / "runs" / "table")
    assert result.metrics[names.INVERSION_ACCURACY_HOT] >= 0.95
    x_BF = result.sample([0, 1, 2] * 20, seed=0)
    assert (x_BF[:, 0] >= x_nF[:, 0].min() - 1e-3).all()
    assert (x_BF[:, 0] <= x_nF[:, 0].max() + 1e-3).all()
    assert x_BF[1::3, 0].mean() > x_BF[0::3, 0].mean() + 20


@pytest.mark.parametrize("sides", [(32, 32), (24, 64), (33, 20)])
def test_fourier_images_of_any_sides_have_the_variance_of_their_parameters(
    sides: tuple[int, int],
) -> None:
    spec = DataSpec("own", 2, 2, sides, (0.0,) * 2, (1.0,) * 2, ("a", "b"))
    image = Fourier(spec, torch.device("cpu"))
    theta = torch.randn(400, *image.shape, generator=torch.Generator().manual_seed(0))
    x_BCHW = image(theta)
    assert x_BCHW.shape == (400, 2, *sides)
    assert x_BCHW.logit().var().item() == pytest.approx(1, rel=0.1)


def test_views_of_rectangular_images_and_signals_keep_their_shape() -> None:
    """A quarter turn about the centre maps the upper end of a 9 x 5 cross to its side."""
    turned = Augmentation(rotation=90)
    x_BCHW = torch.zeros(1, 1, 9, 5)
    x_BCHW[0, 0, 2, 2] = 1  # two pixels above the centre
    maps = turned._maps(x_BCHW, *(torch.tensor([value]) for value in (1.0, 0, 0, 0, 0, 0)))
    grid = F.affine_grid(maps, list(x_BCHW.shape), align_corners=False)
    view_BCHW = F.grid_sample(x_BCHW, grid, padding_mode="border", align_corners=False)
    row, column = divmod(int(view_BCHW.argmax()), 5)
    assert (row, abs(column - 2)) == (4, 2)  # as far from the centre as before, in pixels
    assert view_BCHW.max().item() == pytest.approx(1, abs=1e-4)
    signal_BCL = torch.zeros(4, 1, 16)
    signal_BCL[:, :, 8] = 1
    views = Augmentation(shift=3, flip=True)(signal_BCL, Stream(0))
    assert views.shape == (4, 1, 16)
    torch.testing.assert_close(views.sum(dim=2), torch.ones(4, 1), atol=1e-4, rtol=0)
    assert (views.argmax(dim=2) - 8).abs().max() <= 4
    assert len(views.flatten(1).unique(dim=0)) == 4


def test_variation_and_class_spread_of_other_shapes_by_hand() -> None:
    signal_BCL = torch.tensor([[[0.0, 1.0, 0.5, 0.5]], [[0.0, 0.0, 0.0, 0.2]]])
    assert losses.variation(signal_BCL).item() == pytest.approx((1 + 0.25 + 0.04) / 2)
    table_BF, label_B = torch.tensor([[0.0, 0.0], [0.1, 0.1]]), torch.tensor([1, 1])
    # distance 0.1 of 0.25: (1 - 0.4)^2
    assert losses.class_spread(table_BF, label_B).item() == pytest.approx(0.36, rel=1e-4)
