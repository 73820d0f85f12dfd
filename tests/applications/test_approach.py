"""Inversion towards targets other than classes: closed forms, reachable targets and invalid input.

Shape suffixes: n images, t targets, N classes, D features, P pixels, C channels, H height, W width.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import netinv_lightning
from experiments.forked import run_command
from netinv_lightning import metric_names as names
from netinv_lightning.applications import approach as application
from netinv_lightning.classifiers.build import load_zoo
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.methods.approach import TargetInversion
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.methods.targets import (
    Distributions,
    Neurons,
    Targets,
    Vectors,
    likeness,
    read_images,
    spread,
)
from netinv_lightning.run import run
from netinv_lightning.training.schedules import cosine_share

SIDE = 8
SPEC = DataSpec("made_up", 3, 1, SIDE, (0.0,), (1.0,), ("a", "b", "c"))
QUICK = [
    "application=approach",
    "classifier.zoo=mnist_mlp",
    "application.images=3",
    "application.steps=60",
    "application.log_every=20",
]
HALF = "application.vector=[0.5,0,0,0.5,0,0,0,0,0,0]"


def noise_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def linear() -> FrozenClassifier:
    """Return the classifier logits = W image."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 3, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(noise_of(3, SIDE**2, seed=1) - 0.5)
    return FrozenClassifier(network, SPEC, ["1"])


@pytest.fixture(scope="module")
def digits() -> Tensor:
    """Return four bright strokes on black, like those of digits, [4, 1, 28, 28]."""
    x_tCHW = torch.zeros(4, 1, 28, 28)
    x_tCHW[0, 0, 4:24, 12:15] = 1
    x_tCHW[1, 0, 5:8, 6:22] = x_tCHW[1, 0, 5:24, 19:22] = 1
    x_tCHW[2, 0, 6:22, 7:10] = x_tCHW[2, 0, 6:22, 18:21] = x_tCHW[2, 0, 6:9, 7:21] = x_tCHW[
        2, 0, 19:22, 7:21
    ] = 1
    x_tCHW[3, 0, 4:14, 8:11] = x_tCHW[3, 0, 13:16, 8:21] = x_tCHW[3, 0, 4:24, 18:21] = 1
    return x_tCHW


def approached(
    targets: Targets, classifier: FrozenClassifier, images: int = 3, steps: int = 150, seed: int = 0
) -> tuple[Tensor, Tensor]:
    return TargetInversion(classifier, {}, steps=steps).approach(targets, images, seed)


def config_of(*overrides: str) -> DictConfig:
    return netinv_lightning.compose([*QUICK, *overrides])


# Errors by hand


def test_distances_of_distributions_by_hand() -> None:
    targets, row_n = (
        Distributions(torch.tensor([[0.5, 0.5, 0.0]])),
        torch.zeros(2, dtype=torch.long),
    )
    logits_nN = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.5, 1e-30]]).log()
    expected = [0.5 * math.log(2), 0.0]
    torch.testing.assert_close(
        targets.error(logits_nN, row_n), torch.tensor(expected), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        targets.loss(logits_nN, row_n), torch.tensor(expected).sqrt(), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        targets.total_variation(logits_nN, row_n), torch.tensor([0.25, 0.0]), rtol=1e-5, atol=1e-6
    )


def test_distances_of_vectors_by_hand() -> None:
    targets = Vectors(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    read_nD, row_n = torch.tensor([[3.0, 3.0], [0.0, 2.0], [3.0, 4.0]]), torch.tensor([0, 1, 1])
    expected = torch.tensor([1 / 5, 0.0, math.sqrt(13) / 2])
    torch.testing.assert_close(targets.error(read_nD, row_n), expected)
    torch.testing.assert_close(targets.loss(read_nD, row_n), expected, rtol=1e-5, atol=1e-5)
    assert targets.unrelated() == pytest.approx((math.sqrt(13) / 5 + math.sqrt(13) / 2) / 2)
    assert math.isnan(Vectors(torch.ones(1, 2)).unrelated())


def test_units_are_read_from_their_layer() -> None:
    features = {"layer": torch.arange(6.0).view(2, 3)}
    row_n = torch.tensor([0, 1])
    targets = Neurons(torch.tensor([2, 0]), 1.0, "layer")
    read_nD = targets.read(torch.zeros(2, 1), features, row_n)
    assert read_nD.tolist() == [[2.0], [3.0]]
    assert (
        targets.error(read_nD, row_n).tolist()
        == targets.loss(read_nD, row_n).tolist()
        == [1.0, 2.0]
    )
    high = Neurons(torch.tensor([2, 0]), None, "layer")
    assert high.loss(read_nD, row_n).tolist() == [-2.0, -3.0]
    assert high.error(read_nD, row_n).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "targets",
    [Distributions(torch.tensor([[0.2, 0.3, 0.5]])), Vectors(torch.tensor([[0.2, 0.3, 0.5]]))],
)
def test_the_gradient_at_the_target_is_finite(targets: Targets) -> None:
    at_target = (
        targets.rows_tD.log() if isinstance(targets, Distributions) else targets.rows_tD.clone()
    )
    at_target.requires_grad_()
    (gradient,) = torch.autograd.grad(
        targets.loss(at_target, torch.zeros(1, dtype=torch.long)).sum(), at_target
    )
    assert gradient.isfinite().all()


def test_a_neurons_distribution_is_that_of_its_units(linear: FrozenClassifier) -> None:
    x_nCHW = noise_of(300, 1, SIDE, SIDE)
    activation_nN = linear(x_nCHW)
    metrics = Neurons(torch.tensor([0, 2]), None, "1").distribution("noise", x_nCHW, linear)
    assert metrics[names.activation("noise", "mean")] == pytest.approx(
        float(activation_nN[:, [0, 2]].mean()), rel=1e-4
    )
    expected = activation_nN[:, [0, 2]].quantile(0.99, dim=0).mean()
    assert metrics[names.activation("noise", "p99")] == pytest.approx(float(expected), rel=1e-4)


def test_likeness_and_spread_by_hand() -> None:
    original_tCHW = torch.stack([torch.zeros(1, 28, 28), noise_of(1, 28, 28)])
    x_nCHW, row_n = original_tCHW.repeat_interleave(2, dim=0), torch.tensor([0, 0, 1, 1])
    same = likeness(x_nCHW, row_n, original_tCHW)
    apart = float(original_tCHW[1].square().mean().sqrt())
    assert same[names.TARGET_RMSE] == 0
    assert same[names.TARGET_SSIM] == pytest.approx(1)
    assert same[names.TARGET_RMSE_UNRELATED] == pytest.approx(apart, rel=1e-5)
    assert same[names.TARGET_SSIM_UNRELATED] < 0.1
    assert names.TARGET_RMSE_UNRELATED not in likeness(x_nCHW[:2], row_n[:2], original_tCHW[:1])
    assert spread(x_nCHW, 2) == 0
    assert spread(original_tCHW, 1) == pytest.approx(apart, rel=1e-5)
    assert math.isnan(spread(original_tCHW, 2))


# Reachable targets


def test_logits_of_a_linear_network_are_reached(linear: FrozenClassifier) -> None:
    """The targets are logits of images, so a solution exists. Each target has its own images."""
    targets = Vectors(linear(noise_of(4, 1, SIDE, SIDE)))
    x_nCHW, row_n = approached(targets, linear)
    assert row_n.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert 0 <= float(x_nCHW.min()) <= float(x_nCHW.max()) <= 1
    error_n = read_images(x_nCHW, row_n, targets, linear).error_n
    assert float(error_n.max()) < 0.02
    assert float(read_images(x_nCHW, row_n.flip(0), targets, linear).error_n.mean()) > 0.3
    assert spread(x_nCHW, 4) > 0.1  # many images have the same logits


def test_a_unit_reaches_the_highest_value_that_pixels_allow(linear: FrozenClassifier) -> None:
    """The highest value of a linear unit is the sum of its positive weights."""
    targets = Neurons(torch.tensor([1]), None, "1")
    x_nCHW, row_n = approached(targets, linear)
    weight_NP = linear.network[1].weight  # type: ignore[index]
    highest = float(weight_NP[1].clamp_min(0).sum())
    reached_n = read_images(x_nCHW, row_n, targets, linear).value_nD[:, 0]
    assert 0.97 * highest < float(reached_n.min()) <= float(reached_n.max()) <= highest * (1 + 1e-6)


def test_a_unit_reaches_a_value(linear: FrozenClassifier) -> None:
    targets = Neurons(torch.tensor([0, 2]), 0.7, "1")
    x_nCHW, row_n = approached(targets, linear)
    torch.testing.assert_close(
        read_images(x_nCHW, row_n, targets, linear).value_nD,
        torch.full((6, 1), 0.7),
        rtol=0,
        atol=0.02,
    )


def test_images_of_a_target_do_not_depend_on_other_targets(linear: FrozenClassifier) -> None:
    """The objective is a mean over images, and no term compares them.

    The starting points are drawn in order for the whole batch.
    """
    rows_tD = linear(noise_of(4, 1, SIDE, SIDE))
    both, _ = approached(Vectors(rows_tD[:2]), linear, steps=5)
    alone, _ = approached(Vectors(rows_tD[:1]), linear, steps=5)
    torch.testing.assert_close(both[:3], alone, rtol=1e-3, atol=1e-4)


def test_equal_seeds_give_equal_results(linear: FrozenClassifier) -> None:
    targets = Vectors(linear(noise_of(2, 1, SIDE, SIDE)))
    state = torch.random.get_rng_state()
    first, _ = approached(targets, linear, steps=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(approached(targets, linear, steps=4)[0], first)
    assert not torch.equal(approached(targets, linear, steps=4, seed=1)[0], first)
    assert not torch.equal(first[0], first[1])


def test_a_single_image_of_a_single_target(linear: FrozenClassifier) -> None:
    x_nCHW, row_n = approached(
        Vectors(linear(noise_of(1, 1, SIDE, SIDE))), linear, images=1, steps=2
    )
    assert x_nCHW.shape == (1, 1, SIDE, SIDE)
    assert row_n.tolist() == [0]


def test_targets_are_not_divided_between_batches(linear: FrozenClassifier) -> None:
    targets = Vectors(linear(noise_of(3, 1, SIDE, SIDE)))
    inversion = TargetInversion(linear, {}, steps=1)
    x_nCHW, row_n = inversion.approach(targets, 101, 0)  # two targets fit into a batch of 250
    assert (inversion.batches, len(x_nCHW)) == (2, 303)
    assert row_n.bincount().tolist() == [101, 101, 101]


def test_the_learning_rate_falls_along_a_cosine() -> None:
    shares = [cosine_share(math.pi * step / 100, TargetInversion.final_lr) for step in range(101)]
    assert shares[0] == 1
    assert shares[50] == pytest.approx((1 + TargetInversion.final_lr) / 2)
    assert shares[100] == pytest.approx(TargetInversion.final_lr)
    assert PixelInversion.final_lr == 1  # for class targets the rate is constant


def test_a_prior_makes_images_smoother(linear: FrozenClassifier) -> None:
    targets = Vectors(linear(noise_of(2, 1, SIDE, SIDE)))

    def roughness(priors: dict[str, dict[str, float]]) -> float:
        x_nCHW, _ = TargetInversion(linear, priors, steps=60).approach(targets, 3, 0)
        return float((x_nCHW[..., 1:] - x_nCHW[..., :-1]).square().sum())

    assert roughness({"variation": {"weight": 0.1}}) < 0.7 * roughness({})


# Runs


def test_a_soft_vector_is_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = run(
        config_of(HALF, "application.steps=150", "application.verifiers=[mnist_cnn]"),
        tmp_path / "run",
    )
    assert metrics[names.TARGET_ERROR] < 0.02
    assert (
        metrics[names.TARGET_ERROR_BEST]
        <= metrics[names.TARGET_ERROR]
        < 0.05 * metrics[names.TARGET_ERROR_NOISE]
    )
    assert 0 <= metrics[names.TARGET_TOTAL_VARIATION] < 0.05
    assert metrics[names.TARGET_CLOSED] == pytest.approx(
        1 - metrics[names.TARGET_ERROR] / metrics[names.TARGET_ERROR_NOISE]
    )
    assert 0 <= metrics[names.TARGET_AGREEMENT] <= 1
    assert metrics[names.TARGET_SPREAD] > 0.05
    assert metrics[names.target_error(0)] == pytest.approx(metrics[names.TARGET_ERROR])
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == metrics
    assert (
        json.loads((tmp_path / "run" / "status.json").read_text())["best_metric"]
        == metrics[names.TARGET_CLOSED]
    )

    # The saved images are the measured images; each half was made for one of the two classes.
    samples = load_file(tmp_path / "run" / "samples" / "approached.safetensors")
    assert samples["images"].shape == (3, 1, 28, 28)
    q_nN = load_zoo("mnist_mlp")(samples["images"]).softmax(dim=1)
    torch.testing.assert_close(q_nN[:, [0, 3]], torch.full((3, 2), 0.5), rtol=0, atol=0.1)
    kl_n = (samples["targets"] * (samples["targets"].clamp_min(1e-30).log() - q_nN.log())).sum(
        dim=1
    )
    torch.testing.assert_close(kl_n, samples["error"], rtol=1e-3, atol=1e-5)
    assert float(kl_n.mean()) == pytest.approx(metrics[names.TARGET_ERROR], rel=1e-3)
    assert (tmp_path / "run" / "figures" / "approached.png").stat().st_size > 1000

    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row[names.LOSS_TOTAL]]
    assert [int(row["step"]) for row in rows] == [20, 40, 60, 80, 100, 120, 140, 150]
    assert float(rows[-1][names.TARGET_ERROR]) < 0.1 * float(rows[0][names.TARGET_ERROR])
    assert not any(name.startswith("inversion/") for name in rows[0])
    printed = capsys.readouterr().out
    assert (
        f"soft: 1 target(s), 3 image(s) each: KL(P || Q) {metrics[names.TARGET_ERROR]:.2g}"
        in printed
    )
    assert f"uniform noise {metrics[names.TARGET_ERROR_NOISE]:.2g}" in printed


def test_class_terms_are_ignored(tmp_path: Path) -> None:
    """`loss=inversion`, the default, equals `ce_only`; the prior `variation` is not ignored."""
    images = []
    for number, loss in enumerate(
        (["loss=inversion"], ["loss=ce_only"], ["loss=inversion", "+loss.variation={weight: 0.1}"])
    ):
        run(config_of(HALF, *loss, "application.steps=5"), tmp_path / str(number))
        images.append(
            load_file(tmp_path / str(number) / "samples" / "approached.safetensors")["images"]
        )
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_several_logit_vectors_are_several_targets(tmp_path: Path) -> None:
    vector_tN = load_zoo("mnist_mlp")(noise_of(2, 1, 28, 28)) * torch.tensor([[1.0], [0.5]])
    metrics = run(
        config_of("application.target=logits", f"application.vector={vector_tN.tolist()}"),
        tmp_path / "run",
    )
    assert metrics[names.TARGET_ERROR] < 0.1
    assert names.target_error(1) in metrics
    difference = (vector_tN[0] - vector_tN[1]).norm()
    expected = float((difference / vector_tN[0].norm() + difference / vector_tN[1].norm()) / 2)
    assert metrics[names.TARGET_ERROR_UNRELATED] == pytest.approx(expected, rel=1e-3)
    assert load_file(tmp_path / "run" / "samples" / "approached.safetensors")[
        "target"
    ].tolist() == [0, 0, 0, 1, 1, 1]


def test_features_of_images_are_approached(
    digits: Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file contains images or their features. The results are almost the same."""
    features_tD = load_zoo("mnist_mlp").logits_and_features(digits)[1]["penultimate"]
    save_file({"images": (digits * 255).round().byte()}, tmp_path / "images.safetensors")
    save_file({"features": features_tD}, tmp_path / "features.safetensors")
    overrides = ["application.target=features", "application.rows=3", "application.steps=150"]
    metrics = run(
        config_of(*overrides, f"application.file={tmp_path}/images.safetensors"),
        tmp_path / "images",
    )
    assert metrics[names.TARGET_ERROR] < 0.15
    assert metrics[names.TARGET_ERROR_UNRELATED] > 5 * metrics[names.TARGET_ERROR]
    assert metrics[names.TARGET_RMSE] < metrics[names.TARGET_RMSE_UNRELATED]
    assert names.TARGET_SSIM_UNRELATED in metrics
    samples = load_file(tmp_path / "images" / "samples" / "approached.safetensors")
    torch.testing.assert_close(samples["originals"], digits[:3])
    torch.testing.assert_close(samples["targets"], features_tD[:3])
    assert "an unrelated target" in capsys.readouterr().out

    of_features = run(
        config_of(*overrides, f"application.file={tmp_path}/features.safetensors"),
        tmp_path / "features",
    )
    assert names.TARGET_RMSE not in of_features
    torch.testing.assert_close(
        torch.tensor(of_features[names.TARGET_ERROR]),
        torch.tensor(metrics[names.TARGET_ERROR]),
        rtol=0.05,
        atol=0,
    )


def test_a_neuron_fires_more_than_for_noise_and_for_the_file(
    digits: Tensor, tmp_path: Path
) -> None:
    save_file({"images": digits}, tmp_path / "images.safetensors")
    neuron = [
        "application.target=neuron",
        "application.units=[3,7]",
        f"application.file={tmp_path}/images.safetensors",
    ]
    metrics = run(config_of(*neuron), tmp_path / "high")
    for images in ("noise", "file"):
        assert (
            metrics[names.activation(images, "mean")]
            < metrics[names.activation(images, "p99")]
            < metrics[names.TARGET_REACHED] / 2
        )
    assert metrics[names.TARGET_REACHED_BEST] >= metrics[names.TARGET_REACHED]
    assert names.TARGET_ERROR not in metrics
    assert (
        json.loads((tmp_path / "high" / "status.json").read_text())["best_metric"]
        == metrics[names.TARGET_REACHED]
    )

    metrics = run(
        config_of(*neuron, "application.value=0.5", "application.layer=hidden.1"),
        tmp_path / "value",
    )
    assert metrics[names.TARGET_REACHED] == pytest.approx(0.5, abs=0.1)
    assert metrics[names.TARGET_ERROR] < 0.1


def test_invalid_input_is_refused_before_anything_is_written(
    digits: Tensor, tmp_path: Path
) -> None:
    files = {
        "good": {"images": digits},
        "shape": {"images": digits[:, :, :20]},
        "range": {"images": digits * 2},
        "nan": {"images": digits * math.nan},
        "width": {"features": torch.ones(2, 5)},
        "infinite": {"features": torch.full((2, 128), math.inf)},
        "zero": {"features": torch.zeros(2, 128)},
        "flat": {"features": torch.ones(2, 128)},
        "other": {"pictures": digits},
    }
    for name, tensors in files.items():
        save_file(
            {key: x.contiguous() for key, x in tensors.items()}, tmp_path / f"{name}.safetensors"
        )
    (tmp_path / "damaged.safetensors").write_bytes(b"\x00\x01")

    def file(name: str) -> list[str]:
        return ["application.target=features", f"application.file={tmp_path}/{name}.safetensors"]

    cfg, neuron = config_of(), ["application.target=neuron", "application.units=[3]"]
    for overrides, message in (
        (["application.target=sotf"], r"^application.target=sotf: did you mean 'soft'\?$"),
        ([], r"^application.vector: is missing. It is required by application.target=soft$"),
        (["application.vector=[]"], r"^application.vector: is missing"),
        (["application.vector=[1,0]"], r"has 2 numbers; must have 10, one per class$"),
        (
            ["application.vector=[2,-1,0,0,0,0,0,0,0,0]"],
            r"must contain numbers of 0 or more that sum to 1, not 1. For logits set",
        ),
        (["application.vector=[1,1,0,0,0,0,0,0,0,0]"], r"sum to 1, not 2"),
        (
            ["application.vector=[[1,0,0,0,0,0,0,0,0,0],[1]]"],
            r"^application.vector\[1\]=\[1\]: has 1 numbers",
        ),
        (["application.vector=[1,a,0,0,0,0,0,0,0,0]"], r"must be a list of finite numbers"),
        (["application.vector=[nan,0,0,0,0,0,0,0,0,0]"], r"must be a list of finite numbers"),
        (
            ["application.target=logits", "application.vector=[0,0,0,0,0,0,0,0,0,0]"],
            r"set application.target=soft$",
        ),
        (
            [HALF, "application.units=[1]"],
            r"^application.units: belongs to application.target=neuron, not soft. Leave it out$",
        ),
        (
            ["application.target=neuron"],
            r"^application.units: is missing. It is required by application.target=neuron$",
        ),
        (
            [*neuron, "application.units=[128]"],
            r"^application.units=128: must be from 0 to 127, the units of layer penultimate$",
        ),
        ([*neuron, "application.units=[-1]"], r"^application.units=-1: must be 0 or more$"),
        ([*neuron, "application.value=inf"], r"^application.value=inf: must be a finite number"),
        (
            [*neuron, "application.layer=hiden.0"],
            r"^application.layer=hiden.0: the network has no such layer; "
            r"did you mean 'hidden.0'\?$",
        ),
        ([*neuron, f"application.file={tmp_path}/flat.safetensors"], r"contains no images"),
        (
            ["application.target=features"],
            r"^application.file: is missing. It is required by application.target=features$",
        ),
        (
            file("nowhere"),
            r"nowhere.safetensors: there is no such file \(looked for .*nowhere.safetensors\)$",
        ),
        (file("damaged"), r"is not a whole safetensors file"),
        (
            file("other"),
            r"must contain the tensor images or features; it contains pictures$",
        ),
        (
            file("shape"),
            r"images are of shape \(4, 1, 20, 28\); must be \(t, 1, 28, 28\), "
            r"the images of the classifier$",
        ),
        (file("range"), r"range.safetensors: 4 of 4 images have pixels outside \[0, 1\]"),
        (file("nan"), r"nan.safetensors: 4 of 4 images contain NaN"),
        (
            file("width"),
            r"features are of shape \(2, 5\); must be \(t, 128\), "
            r"the features of layer penultimate$",
        ),
        (file("infinite"), r"features contain NaN or infinity"),
        (file("zero"), r"features that are all 0"),
        ([*file("good"), "application.rows=0"], r"^application.rows=0: must be 1 or more$"),
        ([HALF, "application.images=0"], r"^application.images=0: must be 1 or more$"),
        ([HALF, "application.steps=0"], r"^application.steps=0: must be 1 or more$"),
        ([HALF, "application.lr=0"], r"^application.lr=0.0: must be above 0$"),
        (
            [HALF, "application.parametrisation=wavelet"],
            r"^application.parametrisation=wavelet: choose from",
        ),
        ([HALF, "augmentation.scale=1"], r"^augmentation.scale=1.0: must be from 0 to below 1$"),
        (
            [HALF, "application.verifiers=[mnist_mlp]"],
            r"verifiers=mnist_mlp: is the classifier that is inverted",
        ),
        ([HALF, "n_generators=2"], r"^n_generators=2: application=approach has no generator"),
        (
            [HALF, "trainer.devices=2"],
            r"^trainer.devices=2: application=approach works in one process",
        ),
    ):
        given = cfg.copy()
        given.merge_with_dotlist(overrides)
        with pytest.raises(InputError, match=message) as error:
            run(given, tmp_path / "run")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists(), overrides


def test_the_command_line(tmp_path: Path) -> None:
    """Use a recipe, and no method."""
    command = ["+experiment=mnist_invert", "application=approach", "classifier.zoo=mnist_mlp"]
    command += ["application.verifiers=[]", "application.target=soft", "application.steps=20"]
    done = run_command([*command, HALF], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "soft: 1 target(s), 5 image(s) each: KL(P || Q)" in done.stdout
    assert (tmp_path / "runs" / "latest" / "figures" / "approached.png").is_file()
    assert application.ApproachApplication.best_metric in json.loads(
        (tmp_path / "runs" / "latest" / "summary.json").read_text()
    )
