"""float16 training scales gradients and skips a step whose gradient overflows."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

import netinv_lightning
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.training import Steps
from netinv_lightning.training import trainer
from tests.conftest import FEW_STEPS
from tests.inversion.precision_cases import SPEC, network, seeded


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


def test_scaled_gradients_give_the_same_pixels() -> None:
    """The gradient of the first step overflows: it is skipped, and no pixel becomes NaN."""
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


def test_a_skipped_step_is_not_an_error() -> None:
    """Include terms that take gradients themselves; the generator's first gradient overflows."""
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
        accelerator="cpu",
        max_steps=4,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with trainer.expected_warnings():
        fit.fit(module, train_dataloaders=Steps(4))
    after = module.generators.state_dict()
    assert scaler.get_scale() < 2.0**40  # at least one step was skipped
    assert all(value.isfinite().all() for value in after.values())
    assert any(
        not torch.equal(before[name], value)
        for name, value in after.items()
        if name.endswith("weight")
    )
