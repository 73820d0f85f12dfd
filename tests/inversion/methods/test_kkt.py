"""`method=kkt` and the term `stationarity`: reconstruct training images from the weights.

Haim et al. 2022 (arXiv:2206.07758), Buzaglo et al. 2023 (arXiv:2307.01827).

Shape suffixes: B batch, n images, N classes, D features, P pixels, C channels, H height, W width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.forked import run_command
from netinv_lightning import metric_names as names
from netinv_lightning.applications import make_application
from netinv_lightning.applications.invert import InvertApplication
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import CNN, MLP, ViT
from netinv_lightning.config import method_schema as config
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.specs import MNIST5K, DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.kkt import KktInversion
from netinv_lightning.inversion.stationarity import (
    SmoothGates,
    best_scale,
    check_twice_differentiable,
    margin_gradients,
    margins,
    misalignment,
    stationarity,
)  # fmt: skip
from netinv_lightning.metrics.memorisation import memorisation
from netinv_lightning.run import run
from netinv_lightning.training.gradient_steps import decayed_weights
from netinv_lightning.training.seeds import own_randomness

Compose = Callable[..., DictConfig]
CPU = torch.device("cpu")
SPEC = DataSpec("made_up", 3, 1, 4, (0.2,), (0.5,), ("a", "b", "c"))
KKT = ("method=kkt", "method.steps=4", "method.candidates=20")
DEALT = (
    "application.eval_samples=20",
    "application.eval_batch_size=20",
    "application.keep_samples=20",
)


def frozen(network: nn.Module, spec: DataSpec = SPEC) -> FrozenClassifier:
    return FrozenClassifier(network, spec)


def small_mlp(spec: DataSpec = SPEC, slope: float = 0.0, seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    return MLP(
        spec.num_classes,
        spec.channels,
        spec.image_size,
        widths=(12, 7),
        dropout=0.0,
        slope=slope,
        batch_norm=False,
    )


def images_and_labels(n: int = 5) -> tuple[Tensor, Tensor]:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(n) % 3


# Mathematics


def test_margin_and_its_gradient_agree_with_cross_entropy() -> None:
    """Test -d CE = (1 - p_y) d m: the multipliers of cross-entropy are the error probabilities."""
    logits_BN = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]], requires_grad=True)
    label_B = torch.tensor([0, 1])
    m_B = margins(logits_BN, label_B)
    torch.testing.assert_close(
        m_B[0], torch.tensor(2.0) - torch.tensor([1.0, 0.0]).exp().sum().log()
    )
    p_B = logits_BN.softmax(dim=1)[[0, 1], label_B]
    torch.testing.assert_close(m_B.sigmoid(), p_B)
    (of_margins,) = torch.autograd.grad(((1 - p_B.detach()) * m_B).sum(), logits_BN)
    (of_loss,) = torch.autograd.grad(
        F.cross_entropy(logits_BN, label_B, reduction="sum"), logits_BN
    )
    torch.testing.assert_close(of_margins, -of_loss)


def test_a_linear_classifier_of_its_images_is_stationary() -> None:
    """Test a classifier of two classes with theta_y = sum_i +-lambda_i x_i, in normalised pixels.

    The term is 0 for these images and multipliers, and positive for others.
    """
    spec = DataSpec("two", 2, 1, 4, (0.2,), (0.5,), ("a", "b"))
    x_BCHW, label_B, multiplier_B = (
        images_and_labels(4)[0],
        torch.tensor([0, 1, 0, 1]),
        torch.tensor([0.5, 1.0, 2.0, 0.25]),
    )
    sign_BN = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])[label_B]
    weight_NP = (multiplier_B[:, None] * sign_BN).T @ ((x_BCHW - 0.2) / 0.5).flatten(1)
    linear = nn.Linear(16, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(weight_NP)
    classifier = frozen(nn.Sequential(nn.Flatten(), linear), spec)
    weights = decayed_weights(classifier)

    def value(x_BCHW: Tensor, multiplier_B: Tensor) -> Tensor:
        return stationarity(weights, margin_gradients(classifier, x_BCHW, label_B, multiplier_B)[0])

    assert value(x_BCHW, multiplier_B).item() == pytest.approx(0, abs=1e-10)
    assert value(x_BCHW, 0 * multiplier_B).item() == pytest.approx(1)
    # |theta - 3 theta|^2 / |theta|^2
    assert value(x_BCHW, 3 * multiplier_B).item() == pytest.approx(4, rel=1e-5)
    assert value(x_BCHW.roll(1, 0), multiplier_B).item() > 0.01
    gradients, logits_BN = margin_gradients(classifier, x_BCHW, label_B, 3 * multiplier_B)
    assert misalignment(weights, gradients).item() == pytest.approx(0, abs=1e-6)
    assert best_scale(weights, gradients).item() == pytest.approx(1 / 3, rel=1e-5)
    away = {name: -gradient for name, gradient in gradients.items()}
    assert misalignment(weights, away).item() == pytest.approx(2, abs=1e-6)
    assert best_scale(weights, away).item() == 0
    torch.testing.assert_close(logits_BN, classifier(x_BCHW))


@pytest.mark.parametrize("kind", ["mlp", "cnn", "vit"])
def test_second_derivatives_equal_finite_differences(kind: str) -> None:
    torch.manual_seed(0)
    spec = DataSpec("larger", 3, 1, 8, (0.2,), (0.5,), ("a", "b", "c"))
    made: dict[str, Callable[[], nn.Module]] = {
        "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 3)),
        "cnn": lambda: CNN(3, 1, 8, stages=((3,),), hidden=4, pool="avg"),
        "vit": lambda: ViT(3, 1, 8, dim=8, depth=1, heads=2, stem=0),
    }
    classifier = frozen(made[kind](), spec).double()
    x_BCHW = torch.rand(4, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    log_B = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    weights = decayed_weights(classifier)

    def both(x_BCHW: Tensor, log_B: Tensor) -> Tensor:
        # There are no smooth gates here. Their derivative is not the derivative of their values,
        # so finite differences would give another result.
        gradients, _ = margin_gradients(classifier, x_BCHW, torch.tensor([0, 1, 2, 0]), log_B.exp())
        return torch.stack([stationarity(weights, gradients), misalignment(weights, gradients)])

    assert torch.autograd.gradcheck(both, (x_BCHW, log_B), fast_mode=True)


@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("inplace", [False, True])
def test_smooth_gates_keep_values_and_smooth_the_gradient(slope: float, inplace: bool) -> None:
    layer = nn.LeakyReLU(slope, inplace) if slope else nn.ReLU(inplace)
    x = torch.tensor([-3.0, -0.1, 0.0, 0.1, 3.0], requires_grad=True)
    with SmoothGates(10.0):
        y = layer(x)
    torch.testing.assert_close(y, F.leaky_relu(x, slope))
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    gate = (10 * x).sigmoid()
    torch.testing.assert_close(first, slope + (1 - slope) * gate)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, (1 - slope) * 10 * gate * (1 - gate), rtol=1e-4, atol=1e-6)


def test_without_sharpness_the_gradients_are_those_of_autograd() -> None:
    x_BCHW, label_B = images_and_labels()
    classifier, multiplier_B = frozen(small_mlp()), torch.linspace(0.5, 2, 5)
    gradients, _ = margin_gradients(classifier, x_BCHW, label_B, multiplier_B)
    classifier.requires_grad_(True)
    names_of = [name for name, weight in classifier.named_parameters() if weight.ndim > 1]
    total = (multiplier_B * margins(classifier(x_BCHW), label_B)).sum()
    expected = torch.autograd.grad(total, [classifier.get_parameter(name) for name in names_of])
    assert list(gradients) == names_of
    for name, gradient in zip(names_of, expected, strict=True):
        torch.testing.assert_close(gradients[name], gradient)


def test_weights_after_weight_decay_are_a_sum_of_gradients() -> None:
    """Test wd n theta = sum_i (1 - p_i) d m_i at a stationary point of training.

    The attack relies on this equation. It holds without BatchNorm and for decayed weights, not for
    biases.
    """
    x_BCHW, label_B = images_and_labels(6)
    classifier = frozen(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3, bias=False))
    )
    classifier.requires_grad_(True)
    decayed = [weight for weight in classifier.parameters() if weight.ndim > 1]
    optimizer = torch.optim.LBFGS(
        classifier.parameters(), max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(classifier(x_BCHW), label_B) + 0.01 / 2 * sum(
            weight.square().sum() for weight in decayed
        )
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    with torch.no_grad():
        error_B = 1 - classifier(x_BCHW).softmax(dim=1)[torch.arange(6), label_B]
    weights = decayed_weights(classifier)
    of_training, _ = margin_gradients(classifier, x_BCHW, label_B, error_B / (0.01 * 6))
    of_others, _ = margin_gradients(classifier, x_BCHW.flip(3), label_B, error_B / (0.01 * 6))
    assert stationarity(weights, of_training).item() < 1e-4
    assert stationarity(weights, of_others).item() > 0.05


def test_an_mlp_without_batch_norm_is_homogeneous() -> None:
    """With three layers and a bias in the first, doubling the weights multiplies logits by 8."""
    network = small_mlp(slope=0.1)
    assert [name for name, _ in network.named_parameters() if name.endswith("bias")] == [
        "hidden.1.bias"
    ]
    x_BCHW, _ = images_and_labels()
    before = network(x_BCHW)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2)
    torch.testing.assert_close(network(x_BCHW), 8 * before)


# Networks that cannot be differentiated twice


def test_in_place_layers_are_refused_without_second_derivative() -> None:
    def of(*layers: nn.Module) -> FrozenClassifier:
        return frozen(nn.Sequential(nn.Flatten(), nn.Linear(16, 8), *layers, nn.Linear(8, 3)))

    check_twice_differentiable(of(nn.ReLU(inplace=True)), "loss.gradient")
    message = (
        r"^loss.gradient: the classifier's network has no second derivative \(.*\); "
        r"set inplace=False in its 3$"
    )
    with pytest.raises(InputError, match=message):
        check_twice_differentiable(of(nn.Sigmoid(), nn.ReLU(inplace=True)), "loss.gradient")
    with pytest.raises(
        InputError,
        match=r"^method=kkt: .*hardsigmoid.*choose another layer there, or leave it out$",
    ):
        check_twice_differentiable(of(nn.Hardsigmoid()), "method=kkt")


def test_a_network_without_weights_is_refused() -> None:
    class Sums(nn.Module):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            return x_BCHW.flatten(1)[:, :3]

    classifier = FrozenClassifier(Sums(), SPEC, feature_layers=())
    with pytest.raises(
        InputError,
        match=r"^loss.stationarity: .*has none to train \(no matrix or kernel\); leave it out$",
    ):
        check_twice_differentiable(classifier, "loss.stationarity")
    # Two forward passes of the construction; the check is not counted.
    assert (classifier.forward_count.forwards, classifier.forward_count.backwards) == (
        2,
        0,
    )


# The attack


def drawn(kkt: KktInversion, labels: list[int], seed: int = 0) -> Tensor:
    with own_randomness(seed, CPU):
        return kkt.draw(kkt.conditioning.of_labels(torch.tensor(labels)))


def made(seed: int = 0, **options: float) -> KktInversion:
    return KktInversion(
        Conditioning(3, 4, "label"),
        frozen(small_mlp()),
        candidates=9,
        steps=3,
        seed=seed,
        **options,
    )  # type: ignore[arg-type]


def test_all_candidates_of_a_class_are_drawn_before_one_repeats() -> None:
    kkt = made()
    all_candidates = kkt.reconstruct()
    assert all_candidates.label_M.tolist() == [0, 1, 2] * 3
    assert (all_candidates.multiplier_M > 0).all()
    assert (
        0 <= float(all_candidates.images_MCHW.min()) <= float(all_candidates.images_MCHW.max()) <= 1
    )
    x_BCHW = drawn(kkt, [2, 2, 0, 2, 2])
    of_two_CHW = {tuple(image.flatten().tolist()) for image in all_candidates.images_MCHW[2::3]}
    assert {tuple(image.flatten().tolist()) for image in x_BCHW[[0, 1, 3]]} == of_two_CHW
    assert torch.equal(x_BCHW[4], x_BCHW[0])  # the fourth image of a class with three candidates
    assert any(torch.equal(x_BCHW[2], image) for image in all_candidates.images_MCHW[0::3])


def test_a_seed_gives_bit_identical_candidates() -> None:
    first, same, other = made(), made(), made(seed=1)
    before = {name: value.clone() for name, value in first.classifier.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    images = first.reconstruct().images_MCHW
    assert torch.rand(()) == expected  # the global generator is unchanged
    torch.manual_seed(6)
    assert torch.equal(same.reconstruct().images_MCHW, images)
    assert not torch.equal(other.reconstruct().images_MCHW, images)
    assert torch.equal(drawn(first, [0, 1]), drawn(same, [0, 1]))
    assert all(
        torch.equal(before[name], value) for name, value in first.classifier.state_dict().items()
    )
    assert all(
        not weight.requires_grad and weight.grad is None for weight in first.classifier.parameters()
    )


def test_each_candidate_costs_two_passes_per_step() -> None:
    kkt = made()
    drawn(kkt, [0, 1])
    drawn(kkt, [2, 1], seed=3)
    # One more forward pass finds the first multipliers.
    assert (kkt.images, kkt.forwards, kkt.backwards) == (
        9,
        9 * (3 + 1),
        9 * 3,
    )


def test_training_images_are_recovered_and_others_are_not() -> None:
    """Attack two networks, each trained on one half of forty digits (two per class and half).

    For each network the reconstructions are closer to its own training half than to the other half.
    """
    data = ImageDataModule("mnist5k", subset_size=40, val_fraction=0.1)
    order = data.train[1].argsort(stable=True)
    images_nCHW, labels_n = (values[order] for values in data.train)
    halves = [(images_nCHW[half::2].float() / 255, labels_n[half::2]) for half in (0, 1)]
    gaps = []
    for training, held_out in (halves, halves[::-1]):
        classifier = trained(*training)
        attack = KktInversion(Conditioning(10, 28, "label"), classifier, candidates=30, steps=150)
        found = memorisation(attack.reconstruct().images_MCHW, training[0], held_out[0])
        assert found[names.MEMORISATION_GAP_P_VALUE] < 0.05
        gaps.append(found[names.MEMORISATION_GAP])
    assert min(gaps) > 0.05, gaps


def trained(x_nCHW: Tensor, label_n: Tensor) -> FrozenClassifier:
    """Return an MLP without BatchNorm, trained for 200 full-batch steps with weight decay."""
    torch.manual_seed(0)
    classifier = frozen(
        MLP(10, 1, 28, widths=(150,), dropout=0.0, slope=0.0, batch_norm=False), MNIST5K
    )
    classifier.requires_grad_(True)
    decayed = [weight for weight in classifier.parameters() if weight.ndim > 1]
    biases = [weight for weight in classifier.parameters() if weight.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 0.02}, {"params": biases}],
        0.1,
        momentum=0.9,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(classifier(x_nCHW), label_n).backward()
        optimizer.step()
        schedule.step()
    return frozen(classifier.network.requires_grad_(False), MNIST5K)


# Configuration as a method and as a term


def test_keys_mirror_the_constructor() -> None:
    defaults, parameters = config.KktMethodConfig(), inspect.signature(KktInversion).parameters
    keys = {field.name for field in fields(config.KktMethodConfig)} - {"name"}
    assert keys == set(parameters) - {"conditioning", "classifier", "seed", "log_every"}
    assert all(getattr(defaults, key) == parameters[key].default for key in keys)


def test_a_run_saves_the_measured_images(compose: Compose, tmp_path: Path) -> None:
    metrics = run(compose(*KKT, *DEALT, "classifier.zoo=mnist_mlp"), tmp_path / "a")
    again = run(compose(*KKT, *DEALT, "classifier.zoo=mnist_mlp"), tmp_path / "b")
    samples = [
        load_file(tmp_path / name / "samples" / "inverted.safetensors")["images"] for name in "ab"
    ]
    assert samples[0].shape == (20, 1, 28, 28)
    assert torch.equal(*samples)
    assert again[names.INVERSION_ACCURACY] == metrics[names.INVERSION_ACCURACY]
    assert metrics[names.CLASSIFIER_FORWARDS] == 20 * (4 + 1)
    columns = (tmp_path / "a" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert names.loss("stationarity") in columns


def test_stationarity_is_a_term_of_a_generators_objective(compose: Compose, tmp_path: Path) -> None:
    overrides = (
        "+loss.stationarity={weight: 1.0}",
        "classifier.zoo=mnist_mlp",
        "application.steps=20",
        "application.batch_size=32",
    )
    run(compose(*overrides, "application.log_every=5", "loss.kl.weight=0.1"), tmp_path)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index(names.loss("stationarity"))
    values = [float(value) for line in lines[1:] if (value := line.split(",")[column])]
    assert values[-1] < 0.97 * values[0]
    assert 0 < values[-1] < 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["n_generators=2"],
            r"^n_generators=2: method=kkt has no generator. For more images set method.candidates$",
        ),
        (
            ["trainer=ddp"],
            r"^trainer.devices=2: method=kkt works in one process. Set trainer=default$",
        ),
        (["application.compile=true"], r"^application.compile=true: .*\. Leave it out$"),
        (["method.candidates=0"], r"^method.candidates=0: must be 1 or more$"),
        (["method.candidates=9"], r"^method.candidates=9: must be 10 or more, one per class$"),
        (["method.steps=0"], r"^method.steps=0: must be 1 or more$"),
        (["method.lr=0"], r"^method.lr=0.0: must be above 0$"),
        (["method.multiplier_lr=inf"], r"^method.multiplier_lr=inf: must be a finite number$"),
        (["method.sharpness=-1"], r"^method.sharpness=-1.0: must be above 0$"),
        (
            ["method.final_sharpness=1"],
            r"^method.final_sharpness=1.0: must be method.sharpness=10.0 or more$",
        ),
        (["method.init_std=-1"], r"^method.init_std=-1.0: must be 0 or more$"),
    ],
)
def test_invalid_values_are_refused(
    compose: Compose, job_dir: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(compose("method=kkt", *overrides), job_dir)
    assert not job_dir.exists()


def test_an_infeasible_combination_gives_one_line(tmp_path: Path) -> None:
    command = ["method=kkt", "method.candidates=3", f"output={tmp_path / 'runs'}"]
    done = run_command(command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == "error: method.candidates=3: must be 10 or more, one per class"
    assert not (tmp_path / "runs").exists()


def test_batch_norm_causes_a_warning(compose: Compose, caplog: pytest.LogCaptureFixture) -> None:
    application = make_application(compose(*KKT, "classifier.zoo=mnist_mlp"))
    assert isinstance(application, InvertApplication)
    assert isinstance(application.module, KktInversion)
    assert "the network has BatchNorm, for which the theory does not hold" in caplog.text


def test_trainer_max_steps_limits_the_steps(compose: Compose) -> None:
    application = make_application(compose("method=kkt", "+debug=fast"))
    assert isinstance(application, InvertApplication)
    assert isinstance(application.module, KktInversion)
    assert application.module.steps == 4
