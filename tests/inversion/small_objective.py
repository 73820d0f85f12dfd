"""A small network, its images, and values of loss terms."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import CNN
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.perturbation import Perturbation
from netinv_lightning.inversion.terms import Step
from netinv_lightning.training.distributed import Stream

SPEC = DataSpec("small", 4, 1, 28, (0.3,), (0.5,), tuple("abcd"))
PENULTIMATE, EARLIER = "penultimate", "convolutions.0"


def made_step(perturbation: Perturbation | None = None) -> Step:
    """Return one step of a small generator against a small frozen CNN."""
    torch.manual_seed(0)
    classifier = FrozenClassifier(
        CNN(4, 1, 28, stages=((3,), (4,)), hidden=8), SPEC, (PENULTIMATE, EARLIER)
    )
    conditioning = Conditioning(4, 28)
    generator = Generator(
        conditioning, 1, 28, latent_dim=6, hidden=5, seed_widths=[8], image_widths=[8, 6]
    )
    condition = conditioning.sample(6)
    x_BCHW = generator(generator.sample_latent(6), condition)
    logits_BN, features, normed = classifier.trace(x_BCHW)
    patches_BTD = F.unfold(x_BCHW, 9, stride=9).transpose(1, 2)
    tokens = {"tokens": patches_BTD}  # as before a LayerNorm
    perturbation = perturbation or Perturbation("linf", 0.2, "adversarial")
    return Step(
        x_BCHW,
        condition,
        logits_BN,
        features,
        classifier,
        generator,
        perturbation,
        stream=Stream(0),
        normed=normed | tokens,
    )


def value_of(step: Step, name: str, **options: Any) -> Tensor:
    return Objective({name: {"weight": 1.0, **options}})(step)[name]
