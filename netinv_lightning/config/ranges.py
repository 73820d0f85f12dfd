"""The rule of each key of the schema: its range of numbers, or its names.

This module does not import torch.

`RULES` has one table per schema class. A test fails for a numeric key without a rule. Upper bounds
are far above common values. A run with a larger value would not finish or not fit into memory.
"""

from __future__ import annotations

from collections.abc import Mapping

from netinv_lightning.config import application_schema as of_application
from netinv_lightning.config import downstream_schema as of_downstream
from netinv_lightning.config import schema as config
from netinv_lightning.config.detection_schema import DETECTORS, DetectOodConfig
from netinv_lightning.config.garbage_schema import GarbageConfig
from netinv_lightning.config.monitor_schema import MonitorConfig
from netinv_lightning.config.rules import (
    BATCH,
    CHANNELS,
    EVERY,
    IMAGES,
    INPUT_SIDE,
    JITTER,
    LEAST_STUDIED,
    MATRICES,
    NOT_NEGATIVE,
    PARAMETRISATION_NAMES,
    PIXELS,
    POSITIVE,
    SHARE,
    STEPS,
    WIDTH,
    Count,
    Names,
    Number,
    Rule,
    Seed,
)
from netinv_lightning.config.shapes import MODALITIES, MOST_CHANNELS
from netinv_lightning.metric_names import METRIC_GROUPS

_PIXELS: dict[str, Rule] = {
    "steps": Count(1, 1_000_000),
    "lr": POSITIVE,
    "parametrisation": PARAMETRISATION_NAMES,
    "jitter": JITTER,
    "init_std": NOT_NEGATIVE,
}

RULES: dict[type, Mapping[str, Rule]] = {
    config.Config: {"seed": Seed(), "n_generators": Count(1, 256)},
    config.DataConfig: {
        "classes": Count(0, 99_999), "batch_size": BATCH, "val_fraction": Number(0, 1, below=True),
        "subset_size": Count(2, 100_000_000), "split_seed": Seed(), "shift": JITTER,
        "image_size": PIXELS, "modality": Names(tuple(MODALITIES)),
    },
    config.ClassifierConfig: {
        "num_classes": Count(2, 100_000), "shape": INPUT_SIDE, "channels": CHANNELS,
        "image_size": PIXELS, "mean": Number(), "std": POSITIVE, "bounds": Number(),
        "groups": Count(0, MOST_CHANNELS - 1), "query_directions": Count(0, 1_000_000),
        "query_sigma": Number(0, 10, above=True),
    },
    config.RecipeConfig: {
        "epochs": Count(1, 100_000), "optimizer": Names(("sgd", "adamw")), "lr": POSITIVE,
        "momentum": SHARE, "weight_decay": NOT_NEGATIVE, "l1": NOT_NEGATIVE,
        "label_smoothing": SHARE, "warmup": SHARE, "seed": Seed(),
    },
    config.ConditioningConfig: {
        "mode": Names(("label", "vector", "matrix", "vector_matrix")),
        "vectors": Names(("soft", "hot")), "temperature": POSITIVE,
        "matrix": MATRICES,
    },
    config.GeneratorConfig: {
        "latent_dim": WIDTH, "hidden": WIDTH, "seed_widths": WIDTH, "image_widths": WIDTH,
        "upsampling": Names(("auto", "transposed", "resize")), "dropout": Number(0, 1, below=True),
        "slope": SHARE, "weight_std": Number(0, 100, above=True), "stage1": Count(0, 16_384),
        "stage2": Count(0, 16_384),
    },
    config.PerturbationConfig: {
        "norm": Names(("l1", "l2", "linf")), "radius": NOT_NEGATIVE,
        "direction": Names(("random", "sign", "adversarial")), "steps": Count(1, 10_000),
    },
    config.AugmentationConfig: {
        "shift": Number(0, 4096), "rotation": Number(0, 360), "scale": Number(0, 1, below=True),
        "shear": Number(0, 10), "noise": Number(0, 10), "resize": PIXELS,
    },
    GarbageConfig: {
        "source": Names(("inverted", "noise", "outliers")), "start": Names(("trained", "scratch")),
        "epochs": Count(1, 100_000), "lr": POSITIVE, "label_smoothing": SHARE,
        "images": Count(2, 100_000_000), "initial": Count(2, 10_000_000),
        "per_class": Count(1, 1_000_000), "generator": Names(("warm", "fresh")),
        "zoom": Number(1, 100), "distil": SHARE, "balanced": Names(("all", "garbage")),
        "weight": POSITIVE, "batch_norm": Names(("batch", "kept")), "steps": STEPS,
        "warm_steps": STEPS, "score": Names(("odds", "odds_and_energy", "uncertainty")),
    },
    MonitorConfig: {
        "mode": Names(("max", "min")), "patience": Count(1, 1_000_000), "min_delta": NOT_NEGATIVE,
        "every": EVERY,
    },
    config.MeasureConfig: {
        "samples": IMAGES, "controls": Names(("noise", "class_means", "real", "gradient")),
        "metrics": Names(tuple(METRIC_GROUPS)),
    },
    config.InterpretConfig: {
        "samples": Count(LEAST_STUDIED, 1_000_000), "analyses": Names(tuple(config.ANALYSES)),
        "embedded": Count(1, 100_000), "perplexities": Number(1), "embedding_seeds": Seed(),
        "sparse_units": Count(1, 1_000_000), "sparse_active": Count(1, 1_000_000),
        "map_active": Count(1, 1_000_000),
    },
    config.LoggerConfig: {
        "name": Names(("csv", "wandb", "tensorboard")),
        "mode": Names(("online", "offline", "disabled")),
    },
    of_application.InvertConfig: {
        "classes": Count(0, 99_999),
        "steps": STEPS, "batch_size": BATCH, "lr": POSITIVE, "weight_decay": NOT_NEGATIVE,
        "betas": Number(0, 1, below=True), "warmup": Count(0, 10_000_000), "final_lr": SHARE,
        "sampling_batch_norm": Names(("running", "batch")), "eval_samples": IMAGES,
        "eval_batch_size": Count(1, 65_536), "keep_samples": Count(1, 1_000_000),
        "grid_columns": Count(1, 50), "grid_every": EVERY, "log_every": Count(1, 100_000),
        "checkpoint_every": EVERY, "micro_batch": Count(1, 65_536), "round_steps": STEPS,
    },
    of_application.ReconstructConfig: {
        "trained_on": Names(("all", "split")), "reconstructions": IMAGES, "members": IMAGES,
    },
    of_application.AuditConfig: {
        "trained_on": Names(("all", "split")),
        "attacks": Names(("reconstruction", "natural", "kkt", "inversion", "informed")),
        "effort": Names(("quick", "full")), "reconstructions": IMAGES, "members": IMAGES,
        "known": Count(1, 1_000_000), "targets": Count(2, 100_000), "models": Count(2, 1_000_000),
        "fail_if": Names(("leak",)), "shadow": Count(4, 1024),
    },
    of_application.ApproachConfig: {
        **_PIXELS, "target": Names(("soft", "logits", "neuron", "features")),
        "units": Count(0, 100_000_000), "value": Number(), "rows": Count(1, 100_000),
        "images": Count(1, 100_000), "log_every": Count(1, 100_000),
    },
    DetectOodConfig: {
        "detectors": Names(DETECTORS), "samples": Count(LEAST_STUDIED, 10_000_000),
        "strengths": Number(0, 1, above=True), "shifted": Count(LEAST_STUDIED, 10_000_000),
    },
    of_downstream.DistillConfig: {
        "steps": STEPS, "batch_size": BATCH, "lr": POSITIVE, "temperature": POSITIVE,
        "features": NOT_NEGATIVE, "adversarial": NOT_NEGATIVE, "every": EVERY,
        "checkpoint_every": EVERY, "micro_batch": Count(1, 65_536),
    },
    of_downstream.CounterfeitConfig: {"confidence": SHARE, "samples": IMAGES},
    of_downstream.FinetuneConfig: {
        "kind": Names(("labels", "adversarial")), "share": SHARE, "images": IMAGES, "steps": STEPS,
        "lr": POSITIVE, "radius": SHARE, "attack_steps": Count(1, 10_000), "attacked": IMAGES,
        "checkpoint_every": EVERY,
    },
    of_application.BenchmarkConfig: {"seeds": Seed()},
    of_application.TrainClassifierConfig: {"checkpoint_every": EVERY},
}  # fmt: skip
"""The rule of each key, by schema class. It applies to each entry of a list. None is always
allowed. `config/method_schema.py` adds the rules of methods, which stand in their constructors."""


AT_LEAST: dict[type, Mapping[str, str]] = {}
"""Keys whose value must be at least that of another key of the section, by schema class. Methods
add theirs."""


DISTINCT: dict[type, Mapping[str, int]] = {
    of_application.AuditConfig: {"attacks": 1},
    of_application.BenchmarkConfig: {
        "experiments": 1, "methods": 1, "conditionings": 1, "seeds": 1,
    },
    DetectOodConfig: {"detectors": 1, "outliers": 1, "strengths": 0},
}  # fmt: skip
"""Lists whose values must differ, and their minimum length, by schema class."""


def rule_of(schema: type, key: str) -> Rule | None:
    """Return the rule of a key, also of an inherited one; None if there is none."""
    return next((RULES[base][key] for base in schema.__mro__ if key in RULES.get(base, ())), None)
