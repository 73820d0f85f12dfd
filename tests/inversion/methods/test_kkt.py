"""`method=kkt` and the term `stationarity`: reconstruct training images from the weights.

Haim et al. 2022 (arXiv:2206.07758), Buzaglo et al. 2023 (arXiv:2307.01827).

Shape suffixes: B batch, n images, N classes, D features, P pixels, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.applications import make_application
from netinv_lightning.applications.invert import InvertApplication
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import MLP
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.specs import MNIST5K
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.kkt import KktInversion
from netinv_lightning.metrics.memorisation import memorisation
from netinv_lightning.run import run
from netinv_lightning.training.seeds import own_randomness
from tests.inversion.methods.small_attacks import frozen, small_mlp

Compose = Callable[..., DictConfig]
CPU = torch.device("cpu")
KKT = ("method=kkt", "method.steps=4", "method.candidates=20")
DEALT = (
    "application.eval_samples=20",
    "application.eval_batch_size=20",
    "application.keep_samples=20",
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
            r"^trainer.devices=2: method=kkt runs in one process only. Set trainer=default",
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
