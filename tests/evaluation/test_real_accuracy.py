"""Accuracy of a classifier on the real images that a run reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.evaluation.real_accuracy import largest_chance, report_accuracy
from netinv_lightning.runs.notices import notices_of_a_run


class Brightness(nn.Module):
    """Classifier that predicts class 1 for bright images, if its input is not normalised."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((1, 2, 3))
        return torch.stack([0.5 - x, x - 0.5], 1)


@pytest.mark.parametrize(("mean", "accuracy"), [(0.0, 1.0), (0.9, 0.5)])
def test_accuracy_near_chance_on_real_images_is_a_warning(
    mean: float, accuracy: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bright = np.arange(200) % 2
    images = np.repeat((bright * 200 + 20).astype(np.uint8), 784).reshape(200, 28, 28)
    np.savez(tmp_path / "bright.npz", X=images, y=bright)
    real = ImageDataModule("npz", path=str(tmp_path / "bright.npz"), val_fraction=0.5)
    frozen = FrozenClassifier(Brightness(), replace(real.spec, mean=(mean,), std=(1.0,)), ())
    with notices_of_a_run():
        report_accuracy(frozen, real)
    printed = capsys.readouterr().err
    # Two images are classified when the wrapper is constructed.
    assert (frozen.real_accuracy, frozen.forward_count.forwards) == (
        accuracy,
        2,
    )
    assert f"classifier: accuracy {accuracy:.4f} on 100 test images of bright" in printed
    assert ("warning: this is near chance" in printed) == (accuracy < 1)
    assert largest_chance(0.7, 10, 1000) == pytest.approx(0.7 + 3 * (0.7 * 0.3 / 1000) ** 0.5)
