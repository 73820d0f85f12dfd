"""Configs of short runs of `application=approach`."""

from __future__ import annotations

import torch
from omegaconf import DictConfig
from torch import Tensor

import netinv_lightning

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


def config_of(*overrides: str) -> DictConfig:
    return netinv_lightning.compose([*QUICK, *overrides])
