"""Mixed precision: what is computed from a network's outputs is float32, and every application runs under bfloat16 autocast."""

from __future__ import annotations

import ast
import copy
import csv
import json
import math
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.accelerators import MPSAccelerator
from lightning.pytorch.plugins import MixedPrecision
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor, nn

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion import gradient_norm, losses
from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.module import Steps
from netinv_lightning.inversion.objective import Objective, Step
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.stationarity import margin_gradients
from netinv_lightning.ood.detectors.exported import garbage_path
from netinv_lightning.run import run
from netinv_lightning.runs.resume import resumed_config
from netinv_lightning.training import trainer
from netinv_lightning.training.float32 import in_float32
from tests.conftest import FEW_STEPS

PRECISIONS = ("32-true", "bf16-mixed")
PRESETS = (
    "inversion",
    "natural",
    "reconstruction",
    "reference",
)  # the others are parts of the first
SPEC = DataSpec("made_up", 10, 1, 28, (0.1,), (0.3,), tuple("abcdefghij"))


def bfloat16(enabled: bool = True) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# Terms


LABELS = torch.arange(6) % 3
TERMS: dict[str, Callable[[Tensor], Tensor]] = {
    "kl": lambda f: losses.kl_divergence(F.one_hot(LABELS, 16).float(), f),
    "kl, double softmax": lambda f: losses.kl_divergence(
        F.one_hot(LABELS, 16).float(), f, double_softmax=True
    ),
    "ce": lambda f: losses.cross_entropy(f, LABELS),
    "cosine": losses.cosine_similarity,
    "cosine, absolute": lambda f: losses.cosine_similarity(f, absolute=True),
    "orthogonality": losses.orthogonality,
    "orthogonality, D < B": lambda f: losses.orthogonality(f[:, :4]),
    "statistics": lambda f: losses.statistics_distance(f, torch.zeros(16), torch.ones(16)),
    "class spread": lambda f: losses.class_spread(f.view(6, 1, 4, 4), LABELS, distance=5.0, pool=1),
    "variation": lambda f: losses.variation(f.view(6, 1, 4, 4)),
    "pixel": lambda f: losses.pixel_range(f.view(6, 1, 4, 4)),
}
"""Terms by name, of 16 numbers an image."""


@pytest.mark.parametrize("term", TERMS)
def test_terms_are_float32_under_autocast(term: str) -> None:
    """Value and gradient are those without autocast, and half-precision input is widened first."""
    f_BD = (3 * seeded(6, 16) - 1).requires_grad_()
    plain = TERMS[term](f_BD)
    (plain_gradient,) = torch.autograd.grad(plain, f_BD)
    with bfloat16():
        value = TERMS[term](f_BD)
        of_half = TERMS[term](f_BD.detach().bfloat16())
    (gradient,) = torch.autograd.grad(value, f_BD)
    assert torch.equal(value, plain)
    assert torch.equal(gradient, plain_gradient)
    assert of_half.dtype == torch.float32
    assert torch.equal(of_half, TERMS[term](f_BD.detach().bfloat16().float()))


def test_in_float32_restores_autocast_and_keeps_float64() -> None:
    with bfloat16():
        assert in_float32(torch.mm)(torch.eye(2), torch.eye(2)).dtype == torch.float32
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.bfloat16
    assert in_float32(torch.mm)(torch.eye(2).double(), torch.eye(2).double()).dtype == torch.float64


def product(step: Step) -> Tensor:
    """A term of a user's own, with a matrix product."""
    f_BD = step.features["penultimate"]
    return (f_BD @ f_BD.T).square().mean()


class ConvNet(nn.Module):
    """The base of the awkward networks: convolution, pooling, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(1, 4, 3, 2), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convolution(x).relu().mean((2, 3)))  # type: ignore[no-any-return]


class Branching(ConvNet):
    """Branches on a value."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.convolution(x)
        h = h * 1.1 if h.mean() > 0 else h
        return self.linear(h.relu().mean((2, 3)))  # type: ignore[no-any-return]


def rrelu() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3, 4), nn.RReLU(), nn.Flatten(), nn.Linear(4 * 49, 10))


def batch_statistics() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 8),
        nn.BatchNorm1d(8, track_running_stats=False),
        nn.ReLU(),
        nn.Linear(8, 10),
    )


def batch_norm_mlp() -> nn.Module:
    layers = [
        layer
        for a, b in ((784, 16), (16, 24))
        for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.LeakyReLU(0.2))
    ]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(24, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "branching": Branching,
    "RReLU": rrelu,
    "batch statistics": batch_statistics,
    "BatchNorm MLP": batch_norm_mlp,
}


def network(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name]().eval()


def test_a_term_of_a_users_own_is_float32() -> None:
    torch.manual_seed(0)
    classifier = FrozenClassifier(ConvNet(), SPEC)
    objective = Objective({"mine": {"weight": 1.0, "_target_": f"{__name__}.product"}})
    x_BCHW = seeded(4, 1, 28, 28)
    with bfloat16():
        logits_BN, features, _ = classifier.trace(x_BCHW)
        assert logits_BN.dtype == features["penultimate"].dtype == torch.float32
        step = Step(x_BCHW, None, logits_BN, features, classifier)  # type: ignore[arg-type]
        value = objective(step)["mine"]
    f_BD = features["penultimate"]
    assert value == (f_BD @ f_BD.T).square().mean()


# The gradient norm


def naive_norms(model: nn.Module, x_BCHW: Tensor, label_B: Tensor) -> Tensor:
    """Mean over the images of the norm of each one's gradient within the batch."""
    weights = [weight.requires_grad_() for weight in copy.deepcopy(model).parameters()]
    named = dict(zip(dict(model.named_parameters()), weights, strict=True))
    loss_B = F.cross_entropy(
        torch.func.functional_call(model, named, (x_BCHW,)), label_B, reduction="none"
    )
    gradients = [torch.autograd.grad(loss, weights, create_graph=True) for loss in loss_B]
    return torch.stack(
        [torch.stack([g.square().sum() for g in of_image]).sum().sqrt() for of_image in gradients]
    ).mean()


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_norm_of_networks_that_vmap_cannot_run(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All images are on one side of the branch, so that the batch's value is that of each image."""
    model, label_B = network(name), torch.arange(5)
    x_BCHW = seeded(5, 1, 28, 28).requires_grad_()
    expected = naive_norms(model, x_BCHW, label_B)
    (expected_gradient,) = torch.autograd.grad(expected, x_BCHW)
    for half in (False, True):
        with bfloat16(half):
            value = losses.gradient_norm(model, x_BCHW, label_B)
        (gradient,) = torch.autograd.grad(value, x_BCHW)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
    with torch.no_grad():  # a term of weight 0
        torch.testing.assert_close(
            losses.gradient_norm(model, x_BCHW, label_B), expected, rtol=1e-5, atol=1e-6
        )
    slow = name != "BatchNorm MLP"
    assert (
        len(
            [record for record in caplog.records if "one backward pass per image" in record.message]
        )
        == slow
    )  # once per network


def test_the_trial_of_vmap_is_not_counted_as_cost() -> None:
    classifier, x_BCHW = (
        FrozenClassifier(network("branching"), SPEC),
        seeded(5, 1, 28, 28).requires_grad_(),
    )
    before = classifier.passes.forwards, classifier.passes.backwards
    losses.gradient_norm(classifier, x_BCHW, torch.arange(5)).backward()
    assert (classifier.passes.forwards - before[0], classifier.passes.backwards - before[1]) == (
        5,
        5,
    )


def test_out_of_memory_is_not_taken_for_a_missing_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gradient_norm, "_squares_by_vmap", full)
    with pytest.raises(torch.OutOfMemoryError):
        losses.gradient_norm(ConvNet().eval(), seeded(2, 1, 28, 28), torch.arange(2))


def test_margin_gradients_and_adversarial_directions_are_float32() -> None:
    model, x_BCHW, label_B = network("BatchNorm MLP"), seeded(4, 1, 28, 28), torch.arange(4)
    ascent = Perturbation(norm="l2", radius=1.0, direction="adversarial", steps=2, clamp=False)
    plain, _ = margin_gradients(model, x_BCHW, label_B, torch.ones(4))
    torch.manual_seed(0)
    moved_BCHW = ascent(x_BCHW, label_B, model)
    with bfloat16():
        found, _ = margin_gradients(model, x_BCHW, label_B, torch.ones(4))
        torch.manual_seed(0)
        assert torch.equal(ascent(x_BCHW, label_B, model), moved_BCHW)
    assert all(torch.equal(found[name], gradient) for name, gradient in plain.items())


# One training step


def one_step(
    loss: str, model: nn.Module, half: bool, generators: int = 1
) -> tuple[dict[str, float], list[Tensor]]:
    """The terms of a training step, and the gradients of the generators' weights."""
    cfg = netinv_lightning.compose(
        [*FEW_STEPS, "application.batch_size=4", f"loss={loss}", f"n_generators={generators}"]
    )
    module = make_module(cfg, FrozenClassifier(model, SPEC)).to(memory_format=torch.channels_last)
    with bfloat16(half):
        made = [module._values(step) for step in module._steps()]
    sum(total for total, _ in made).backward()  # type: ignore[union-attr]
    running = [buffer for name, buffer in module.generators.named_buffers() if "running" in name]
    assert all(buffer.dtype == torch.float32 for buffer in running)
    values_V = torch.stack([values_V for _, values_V in made]).mean(dim=0)
    assert values_V.dtype == torch.float32
    gradients = [weight.grad for weight in module.generators.parameters()]
    assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients)
    return dict(zip(module.columns, values_V.tolist(), strict=True)), gradients  # type: ignore[return-value]


@pytest.mark.parametrize("loss", PRESETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_preset_on_awkward_networks_in_both_precisions(name: str, loss: str) -> None:
    plain, _ = one_step(loss, network(name), half=False)
    found, gradients = one_step(loss, network(name), half=True)
    assert found.keys() == plain.keys()
    for column in plain.keys() - {names.INVERSION_ACCURACY_TRAIN}:
        assert found[column] == pytest.approx(plain[column], rel=0.05, abs=0.02), column
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_two_generators_in_one_pass_in_bfloat16() -> None:
    plain, of_plain = one_step("natural", network("BatchNorm MLP"), half=False, generators=2)
    found, gradients = one_step("natural", network("BatchNorm MLP"), half=True, generators=2)
    assert found[names.LOSS_TOTAL] == pytest.approx(plain[names.LOSS_TOTAL], rel=0.05)
    flat = [torch.cat([gradient.flatten() for gradient in of]) for of in (of_plain, gradients)]
    assert torch.cosine_similarity(*flat, dim=0) > 0.95


# Applications


def losses_of(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            float(row[names.LOSS_TOTAL])
            for row in csv.DictReader(file)
            if row.get(names.LOSS_TOTAL)
        ]


def summary(folder: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((folder / "summary.json").read_text())
    return content


DIGITS = ["data=mnist5k", "classifier.zoo=mnist_cnn"]
DIGITS_OF_100 = ["data=mnist5k", "data.subset_size=100", "data.batch_size=20"]
TINY = [
    *FEW_STEPS,
    "application.steps=4",
    "application.eval_samples=40",
    "application.grid_every=100",
    *DIGITS,
]


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of two generators in each precision."""
    folders = {
        precision: tmp_path_factory.mktemp("inverted") / precision for precision in PRECISIONS
    }
    for precision, folder in folders.items():
        run(
            netinv_lightning.compose([*TINY, "n_generators=2", f"trainer.precision={precision}"]),
            folder,
        )
    return folders


def test_an_inversion_in_bfloat16_is_near_the_one_in_float32(inverted: dict[str, Path]) -> None:
    plain, half = (losses_of(inverted[precision]) for precision in PRECISIONS)
    assert len(plain) == len(half) == 2
    assert half == pytest.approx(plain, rel=0.05)
    assert half != plain  # autocast was on
    checkpoint = torch.load(inverted["bf16-mixed"] / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(
        value.dtype == torch.float32
        for value in checkpoint["state_dict"].values()
        if value.is_floating_point()
    )
    assert OmegaConf.load(inverted["bf16-mixed"] / "config.yaml").trainer.precision == "bf16-mixed"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("method", ["gradient", "kkt"])
def test_methods_without_a_generator_in_both_precisions(
    method: str, precision: str, tmp_path: Path
) -> None:
    steps = {
        "gradient": ["method.steps=4"],
        "kkt": ["method.steps=4", "method.candidates=20", "classifier.zoo=mnist_mlp"],
    }
    run(
        netinv_lightning.compose(
            [*TINY, f"method={method}", *steps[method], f"trainer.precision={precision}"]
        ),
        tmp_path / "run",
    )
    assert all(math.isfinite(value) for value in losses_of(tmp_path / "run"))
    assert summary(tmp_path / "run")[names.CLASSIFIER_BACKWARDS] > 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLP with BatchNorm, trained in bfloat16 on 100 digits."""
    folder = tmp_path_factory.mktemp("classifier")
    cfg = netinv_lightning.compose([
        "application=train_classifier", *DIGITS_OF_100, "classifier=mlp", "recipe.epochs=1", "+classifier.network.widths=[16]",
        f"application.save_as={folder}/mlp.safetensors", "trainer.precision=bf16-mixed",
    ])  # fmt: skip
    run(cfg, folder / "run")
    return folder / "mlp.safetensors"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_audit_with_its_default_attack_in_both_precisions(
    trained: Path, precision: str, tmp_path: Path
) -> None:
    """Of a classifier with BatchNorm, with all nine terms and the natural prior."""
    cfg = netinv_lightning.compose([
        "application=audit", "data=mnist5k", "classifier=checkpoint", f"classifier.path={trained}", "generator=tiny",
        "application.members=20", "application.reconstructions=20", f"trainer.precision={precision}",
    ])  # fmt: skip
    few = {setting.split("=")[0]: setting for setting in TINY if setting.startswith("application.")}
    cfg.application.overrides = list(few.values())
    metrics = run(cfg, tmp_path / "audit")
    for attack in ("reconstruction", "natural"):
        assert 0 <= metrics[names.reconstruction("auc_attack", attack)] <= 1
        kept = torch.load(
            tmp_path / "audit" / "attacks" / attack / "checkpoints" / "last.ckpt", weights_only=True
        )["state_dict"]
        assert all(value.isfinite().all() for value in kept.values())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_garbage_class_in_both_precisions(precision: str, tmp_path: Path) -> None:
    garbage = {"epochs": 2, "images": 60, "initial": 20, "per_class": 2, "steps": 3}
    cfg = netinv_lightning.compose([
        "application=detect_ood", *DIGITS, "application.samples=100", "application.detectors=[msp]", "garbage=inverted",
        *(f"garbage.inverted.{key}={value}" for key, value in garbage.items()), "data.batch_size=20", f"trainer.precision={precision}",
    ])  # fmt: skip
    cfg.garbage.inverted.inversion = ["generator=tiny", "application.batch_size=8"]
    metrics = run(cfg, tmp_path / "run")
    assert 0 <= metrics[names.ood("inverted", "uniform_noise", "auroc")] <= 1
    weights = load_file(garbage_path(tmp_path / "run", "inverted"))
    assert all(
        value.dtype == torch.float32 for value in weights.values() if value.is_floating_point()
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_distillation_from_an_inversion_in_each_precision(
    inverted: dict[str, Path], precision: str, tmp_path: Path
) -> None:
    asked = [f"application.run={inverted[precision]}", f"trainer.precision={precision}"]
    small = [
        "application.steps=2",
        "application.batch_size=8",
        "application.every=2",
        "+application.student.stages=[[4],[8]]",
    ]
    distilled = run(
        netinv_lightning.compose(["application=distill", *asked, *small]), tmp_path / "distilled"
    )
    assert 0 <= distilled[names.STUDENT_AGREEMENT_FRESH] <= 1


# What `auto` means


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Fakes what the machine has, and how much faster half precision is on it."""

    def fake(cpu: bool = False, cuda: str = "", mps: bool = False, gain: float = 1.0) -> None:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: cuda == "bf16"
        )
        monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: mps))
        monkeypatch.setattr(trainer, "half_gain", lambda device, dtype: gain)

    monkeypatch.delenv(trainer.CHOSEN, raising=False)
    return fake


@pytest.mark.parametrize(
    ("machine", "measured", "unmeasured"),
    [
        ({"cpu": True, "gain": 1.3}, "bf16-mixed", "32-true"),
        ({"cpu": True, "gain": 1.05}, "32-true", "32-true"),  # no clear gain
        ({"cpu": False, "gain": 9.0}, "32-true", "32-true"),  # emulated
        ({"cuda": "bf16", "gain": 1.0}, "bf16-mixed", "bf16-mixed"),
        ({"cuda": "bf16", "gain": 0.5}, "32-true", "bf16-mixed"),
        ({"cuda": "fp16", "gain": 2.0}, "16-mixed", "16-mixed"),
    ],
)
def test_auto_is_the_faster_precision(
    hardware: Callable[..., None], machine: dict[str, Any], measured: str, unmeasured: str
) -> None:
    hardware(**machine)
    assert trainer.best_precision("auto") == measured
    assert trainer.best_precision("auto", measure=False) == unmeasured
    assert trainer.best_precision("cpu") == (measured if "cpu" in machine else "32-true")


def test_the_trial_of_speed_draws_nothing_and_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "TRIAL_SECONDS", 0.0)
    trainer.half_gain.cache_clear()
    before = torch.get_rng_state()
    with torch.no_grad():
        gain = trainer.half_gain("cpu", torch.bfloat16)
    assert 0 < gain < math.inf
    assert torch.equal(torch.get_rng_state(), before)
    assert trainer.half_gain("cpu", torch.bfloat16) == gain
    assert trainer.half_gain.cache_info().hits == 1
    trainer.half_gain.cache_clear()


def test_auto_takes_the_cpu_where_there_is_mps(hardware: Callable[..., None]) -> None:
    hardware(mps=True)
    cfg = netinv_lightning.compose([])
    (first, _) = trainer.settle_trainer(cfg)
    assert first.startswith("accelerator: cpu (MPS lacks operators")
    assert cfg.trainer.accelerator == "cpu"
    made = trainer.make_trainer(
        netinv_lightning.compose([]), callbacks=[], loggers=[], enable_checkpointing=False
    )
    assert made.strategy.root_device.type == "cpu"
    asked = netinv_lightning.compose(["trainer.accelerator=mps"])
    trainer.settle_trainer(asked)
    assert asked.trainer.accelerator == "mps"  # the user's choice
    hardware(mps=True, cuda="bf16")
    assert trainer.available_accelerator("auto") == "auto"


def test_processes_that_lightning_starts_take_the_first_ones_choice(
    hardware: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timings of two processes may differ, and one run has one precision."""
    first, second, explicit = (
        netinv_lightning.compose([]),
        netinv_lightning.compose([]),
        netinv_lightning.compose(["trainer.precision=32"]),
    )
    hardware(cpu=True, gain=1.5)
    assert trainer.settle_trainer(first) == [
        "precision: bf16-mixed (the faster here; to choose another, set trainer.precision)"
    ]
    hardware(cpu=True, gain=1.0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    trainer.settle_trainer(second)
    assert second.trainer.precision == first.trainer.precision == "bf16-mixed"
    assert trainer.settle_trainer(explicit) == []
    assert explicit.trainer.precision == 32
    monkeypatch.delenv(trainer.CHOSEN)
    monkeypatch.setenv("WORLD_SIZE", "2")  # started by torchrun: nothing is measured
    hardware(cpu=True, gain=1.5)
    assert trainer.settle_trainer(netinv_lightning.compose([]))[0].startswith("precision: 32-true")


def test_a_resumed_run_keeps_what_auto_meant(
    hardware: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also on a machine where `auto` means something else."""
    folder = tmp_path / "run"
    hardware(cpu=True, gain=1.5)
    run(
        netinv_lightning.compose(
            [*FEW_STEPS, "application.steps=2", "application.eval_samples=20"]
        ),
        folder,
    )
    assert "precision: bf16-mixed (the faster here" in capsys.readouterr().out
    assert json.loads((folder / "environment.json").read_text())["precision"] == "bf16-mixed"
    assert OmegaConf.load(folder / "config.yaml").trainer.precision == "bf16-mixed"
    hardware(cpu=False)
    for overrides in (
        ["application.steps=4"],
        [*FEW_STEPS, "application.steps=4", "application.eval_samples=20", "loss=inversion"],
    ):
        cfg = netinv_lightning.compose([*overrides, f"resume={folder}"])
        assert (
            resumed_config(cfg, [*overrides, f"resume={folder}"]).trainer.precision == "bf16-mixed"
        )


# float16, which needs its gradients scaled


def linear_pixels(**options: Any) -> PixelInversion:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(seeded(10, 784) - 0.5)
    return PixelInversion(
        Conditioning(10, 28, "label"),
        FrozenClassifier(network, SPEC),
        Objective({"ce": {"weight": 1.0}}),
        **options,
    )


def test_pixels_under_a_scaler_are_those_without() -> None:
    """A first step whose gradient overflows is left out, and nothing becomes NaN."""
    drawn = {}
    for scale in (None, 2.0**10, 2.0**127):
        pixels = linear_pixels(steps=3 if scale != 2.0**127 else 4)
        if scale is not None:
            pixels.scaler = torch.amp.GradScaler("cpu", init_scale=scale, backoff_factor=2**-20)
        torch.manual_seed(0)
        drawn[scale] = pixels.draw(pixels.conditioning.of_labels(torch.arange(10)))
        assert drawn[scale].isfinite().all()
    torch.testing.assert_close(drawn[2.0**10], drawn[None], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(drawn[2.0**127], drawn[None], rtol=1e-4, atol=1e-5)


def test_a_step_that_the_scaler_leaves_out_is_no_error() -> None:
    """With terms that differentiate inside, and a first scale under which the generator's gradient overflows."""
    cfg = netinv_lightning.compose(
        [
            *FEW_STEPS,
            "loss=reconstruction",
            "perturbation.direction=adversarial",
            "application.log_every=1",
        ]
    )
    module = make_module(cfg, FrozenClassifier(network("BatchNorm MLP"), SPEC))
    before = copy.deepcopy(module.generators.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, backoff_factor=2**-12)
    fit = L.Trainer(
        accelerator="cpu", max_steps=4, plugins=[MixedPrecision("16-mixed", "cpu", scaler)], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with trainer.expected_warnings():
        fit.fit(module, train_dataloaders=Steps(4))
    after = module.generators.state_dict()
    assert scaler.get_scale() < 2.0**40  # a step was left out
    assert all(value.isfinite().all() for value in after.values())
    assert any(
        not torch.equal(before[name], value)
        for name, value in after.items()
        if name.endswith("weight")
    )


# The check for GPUs


GPU_CHECK = Path(__file__).parents[2] / "experiments" / "gpu_check" / "run.py"
FEW_PACKAGES = {
    "torch",
    "lightning",
    "torchmetrics",
    "hydra",
    "omegaconf",
    "safetensors",
    "numpy",
    "filelock",
    "yaml",
}
"""The last two come with torch and omegaconf."""


def imported(file: Path) -> Iterator[str]:
    """Names of the modules that a file imports when it is loaded."""

    def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for statement in body:
            if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
                continue
            yield statement
            if not isinstance(statement, ast.FunctionDef):
                yield from statements(getattr(statement, "body", []))

    for statement in statements(ast.parse(file.read_text()).body):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def test_the_gpu_check_needs_few_packages() -> None:
    root, seen, packages, queue = GPU_CHECK.parents[2], set(), set(), [GPU_CHECK]
    while queue:
        for name in imported(queue.pop()):
            parts = name.split(".")
            if parts[0] != "netinv_lightning":
                packages.add(parts[0])
                continue
            for depth in range(1, len(parts) + 1):
                path = root.joinpath(*parts[:depth])
                for file in (path.with_suffix(".py"), path / "__init__.py"):
                    if file.is_file() and file not in seen:
                        seen.add(file)
                        queue.append(file)
    assert len(seen) > 40
    assert packages - set(sys.stdlib_module_names) <= FEW_PACKAGES


def test_the_gpu_check_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    check = runpy.run_path(str(GPU_CHECK))
    monkeypatch.setattr(
        sys, "argv", ["run.py", "--device", "cpu", "--only", "gradient", "two generators"]
    )
    assert check["main"]() == 0
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert torch.__version__ in head
    assert [line[:27].split("  ")[0] for line in lines] == ["gradient", "two generators"] * 2
    assert all(
        re.fullmatch(r".{16} (32-true|bf16-mixed) +\d+\.\d s  ok  [01]\.\d{3}", line)
        for line in lines
    )
    assert last == "4 of 4 checks passed"
    monkeypatch.setitem(check["CHECKS"], "gradient", (lambda precision, device: math.nan, 0.0))
    monkeypatch.setattr(sys, "argv", ["run.py", "--device", "cpu", "--only", "gradient"])
    assert check["main"]() == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["run.py"])
    assert check["main"]() == 2
    assert capsys.readouterr().err.startswith("gpu-check: no CUDA device")
