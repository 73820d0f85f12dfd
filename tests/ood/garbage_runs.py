"""Short trainings with a garbage class."""

from __future__ import annotations

from omegaconf import DictConfig

import netinv_lightning
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.ood.garbage.build import build_garbage_training
from netinv_lightning.ood.garbage.garbage_training import GarbageTraining

QUICK = [
    "application=detect_ood",
    "data=mnist5k",
    "classifier.zoo=mnist_mlp",
    "data.batch_size=100",
    "garbage=inverted",
    "garbage.inverted.epochs=3",
    "garbage.inverted.lr=0.01",
    "garbage.inverted.distil=0",
    "garbage.inverted.weight=0.5",
    "garbage.inverted.images=600",
    "garbage.inverted.initial=200",
    "garbage.inverted.per_class=20",
    "garbage.inverted.inversion=[]",
    "garbage.inverted.steps=30",
    "garbage.inverted.warm_steps=10",
    "garbage.inverted.zoom=1",
    "garbage.inverted.balanced=all",
]


def config(*overrides: str) -> DictConfig:
    return netinv_lightning.compose([*QUICK, *overrides])


def training_of(cfg: DictConfig, name: str = "inverted") -> GarbageTraining:
    return build_garbage_training(name, cfg, load_classifier(cfg), ImageDataModule(**cfg.data))
