"""`method=background`: a decoder inverts the classifier on the auxiliary distribution.

Shape suffixes: n images, B batch, N classes, C features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.background import (
    BackgroundInversion,
    ConfidentOutputs,
    log_scores,
    truncated,
)
from netinv_lightning.run import run
from netinv_lightning.training.seeds import own_randomness
from tests.inversion.methods.test_trained import context

Compose = Callable[..., DictConfig]
CPU = torch.device("cpu")
FEATURES = 3
SPEC = DataSpec("made_up", 4, FEATURES, (), (0.5,) * 3, (0.1,) * 3, tuple("abcd"))
WEIGHT_NC = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -0.5], [0.5, 0.0, 1.0], [0.0, 0.0, 0.0]])


class Linear(nn.Module):
    """Logits W x with a last logit of 0, so that differences of logits determine x."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, 4, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(WEIGHT_NC)

    def forward(self, x_BC: Tensor) -> Tensor:
        return self.layer(x_BC)


def made_up(n: int, seed: int) -> Tensor:
    """Tables of three features, each 0.2 to 0.8, as uint8."""
    rows_nC = torch.rand(n, FEATURES, generator=torch.Generator().manual_seed(seed))
    return (255 * (0.2 + 0.6 * rows_nC)).round().to(torch.uint8)


def method_of(**options: object) -> BackgroundInversion:
    return BackgroundInversion(
        Conditioning(4, (), "label"),
        FrozenClassifier(Linear(), SPEC),
        lambda: made_up(400, 1),
        seed=0,
        log_every=100,
        **{"steps": 150, "lr": 0.02, "width": 16, "rescale": 8.0, **options},  # type: ignore[arg-type]
    )


def test_a_linear_invertible_classifier_is_inverted(tmp_path: Path) -> None:
    """All scores determine x, so new rows are recovered. The label alone does not determine it.

    With one score, no decoder is better than the mean of the rows of each label; ours comes near.
    """
    errors = {}
    x_nC = made_up(500, 2).float() / 255
    for top in (None, 1):
        method = method_of(top=top)
        method.fit(context(tmp_path / str(top)))
        log_nN = log_scores(method.classifier(x_nC), multi_label=False)
        with torch.no_grad():
            made_nC = method.decoder(method.vectors(log_nN))
        errors[top] = float((made_nC - x_nC).square().mean())
    variance = float(x_nC.var(dim=0, correction=0).mean())
    assert errors[None] < 0.1 * variance
    label_n = log_nN.argmax(dim=1)
    spread = torch.stack(
        [(x_nC[label_n == k] - x_nC[label_n == k].mean(dim=0)).square().sum() for k in range(3)]
    )
    bound = float(spread.sum()) / x_nC.numel()
    # The one score that is kept says a little more than the label.
    assert 0.3 * bound < errors[1] < 1.3 * bound
    assert method.cost().forwards == 400 + 150 * 16
    assert method.cost().backwards == 0


def test_truncation_keeps_the_largest_scores() -> None:
    p_BN = torch.tensor([[0.5, 0.25, 0.125, 0.125 - 1e-3, 1e-3]])
    v_BN = truncated(p_BN.log(), 2, rescale=4.0)
    expected = [1 + math.log(0.5) / 4, 1 + math.log(0.25) / 4, 0, 0, 0]
    torch.testing.assert_close(v_BN[0], torch.tensor(expected))
    everything_BN = truncated(p_BN.log(), None, rescale=4.0)
    assert everything_BN[0, 4] == 0  # 0.001 < exp(-4)
    assert (everything_BN[0, :4] > 0).all()
    assert torch.equal(truncated(p_BN.log(), 5, rescale=4.0), everything_BN)


def test_the_surest_outputs_of_each_class_are_stored() -> None:
    outputs = ConfidentOutputs(3)
    log_nN = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    log_nN[:, 2] = -9.0  # no output has class 2
    log_nN = log_nN.log_softmax(dim=1)
    outputs.store(log_nN)
    assert outputs.count_N.tolist() == [64, 64, 0]
    best_n, label_n = log_nN.max(dim=1)
    for k in (0, 1):
        expected = best_n[label_n == k].sort(descending=True).values[:64]
        torch.testing.assert_close(outputs.log_NKN[k, :, k], expected)
    otherwise_BN = torch.zeros(3, 3)
    found_BN = outputs(torch.tensor([0, 1, 2]), torch.tensor([0.0, 0.999, 0.5]), otherwise_BN)
    assert torch.equal(found_BN[:2], torch.stack([outputs.log_NKN[0, 0], outputs.log_NKN[1, 63]]))
    assert torch.equal(found_BN[2], otherwise_BN[2])


def test_images_depend_on_the_conditions_and_the_seed(tmp_path: Path) -> None:
    method = method_of(steps=20)
    method.fit(context(tmp_path / "run"))
    condition = method.conditioning.of_labels(torch.tensor([0, 1, 2, 2]))

    def drawn(one: BackgroundInversion, seed: int) -> Tensor:
        with own_randomness(seed, CPU):
            return one.draw(condition)

    loaded = method_of(steps=20)
    loaded.load(tmp_path / "run", channels_last=False)
    assert torch.equal(drawn(method, 3), drawn(loaded, 3))
    assert drawn(method, 3).shape == (4, FEATURES)
    assert not torch.equal(drawn(method, 3), drawn(method, 4))
    vector = method_of(steps=20, targets="vector")
    vector.load(tmp_path / "run", channels_last=False)
    assert torch.equal(drawn(vector, 3), drawn(vector, 4))


def test_more_scores_than_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^top=5: must be at most the 4 classes"):
        method_of(top=5)


def test_a_run_with_own_auxiliary_images(compose: Compose, tmp_path: Path) -> None:
    shapes_nHW = np.random.default_rng(0).integers(0, 256, (64, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", X=shapes_nHW)
    command = (
        "method=background",
        f"method.auxiliary={tmp_path / 'own.npz'}",
        "method.steps=3",
        "method.width=4",
        "classifier.zoo=mnist_mlp",
        "application.eval_samples=20",
        "application.keep_samples=20",
    )
    metrics = run(compose(*command), tmp_path / "run")
    assert metrics[names.CLASSIFIER_FORWARDS] == 64 + 3 * 16
    assert metrics[names.CLASSIFIER_BACKWARDS] == 0
    assert (tmp_path / "run" / "checkpoints" / "method.ckpt").is_file()


@pytest.mark.parametrize(
    ("auxiliary", "message"),
    [
        ("mnist", r"^method.auxiliary=mnist: is the classifier's own data \(mnist\)"),
        ("emnist_leters", r"^method.auxiliary=emnist_leters: .*did you mean 'emnist_letters'"),
        ("none.npz", r"^method.auxiliary=none.npz: there is no such file or folder"),
        ("null", r"^method.auxiliary: is missing"),
    ],
)
def test_unfit_auxiliary_images_are_refused(
    compose: Compose, job_dir: Path, auxiliary: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(compose("method=background", f"method.auxiliary={auxiliary}"), job_dir)
    assert not job_dir.exists()
