"""Generators are trained against a classifier with folded BatchNorm layers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.run import run

FEW = ("application.steps=4", "application.eval_samples=20", "generator.dropout=0")
DOUBLE = ("trainer.precision=64-true", "classifier.zoo=mnist_mlp")


def test_folding_changes_nothing_but_rounding(
    compose: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded_layers = []
    training_step = InversionModule.training_step

    def watched(self: InversionModule, batch: object, batch_idx: int) -> torch.Tensor:
        folded_layers.append(sorted(self.classifier.recorder.folded))
        return training_step(self, batch, batch_idx)

    monkeypatch.setattr(InversionModule, "training_step", watched)
    cfg = compose(*DOUBLE, *FEW)
    run(cfg, tmp_path / "folded")
    monkeypatch.setattr(InversionModule, "folded", lambda self: nullcontext())
    run(cfg, tmp_path / "plain")
    norms = sorted(make_module(cfg).classifier.batch_norms)
    assert folded_layers == [norms] * 4 + [[]] * 4
    assert norms
    folded, plain = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("folded", "plain")
    )
    for name, value in plain.items():
        torch.testing.assert_close(folded[name], value, rtol=1e-6, atol=1e-9, msg=name)


def test_statistics_of_batch_norm_are_read_from_the_layers_themselves(
    compose: Callable[..., DictConfig],
) -> None:
    module = make_module(compose(*DOUBLE, "loss=natural"))
    with module.folded():
        assert module.classifier.recorder.folded == frozenset()
