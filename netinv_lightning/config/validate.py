"""Check the values of a config that its types cannot check.

This module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf

from netinv_lightning.config.application_schema import APPLICATION_KEYS, INVERSIONS
from netinv_lightning.config.black_box_keys import check_black_box
from netinv_lightning.config.garbage_schema import GarbageConfig
from netinv_lightning.config.loss_check import check_loss
from netinv_lightning.config.method_check import check_method
from netinv_lightning.config.method_schema import METHOD_KEYS
from netinv_lightning.config.monitor_check import check_monitor
from netinv_lightning.config.ranges import AT_LEAST, DISTINCT, rule_of
from netinv_lightning.config.rules import LARGEST_SEED
from netinv_lightning.config.schema import Config, LoggerConfig
from netinv_lightning.config.shapes import checked_shape, fault_of_size
from netinv_lightning.config.signatures import network_parts
from netinv_lightning.config.trainer_check import check_trainer_values
from netinv_lightning.errors import InputError, nearest


def check(cfg: DictConfig) -> None:
    """Refuse values that are out of range or contradict each other.

    Raises:
        InputError: naming the key, its value and what is allowed.
    """
    check_loss(cfg)
    for key, value in _numbers(OmegaConf.to_container(cfg, resolve=True)):
        if not math.isfinite(value):
            raise InputError(f"{key}={value}: must be a finite number")
    for prefix, schema, section in _sections(cfg):
        if (
            schema is not LoggerConfig or cfg.logger.name != "csv"
        ):  # WANDB_MODE may have any value if W&B is not used
            _check_section(prefix, schema, section)
    check_trainer_values(cfg)
    check_method(cfg)
    check_monitor(cfg)
    _check_network_arguments(cfg)
    _check_together(cfg)
    check_black_box(cfg)
    if cfg.classifier.train:
        _check_to_be_trained(cfg)


def _sections(cfg: DictConfig) -> Iterator[tuple[str, type, DictConfig]]:
    """Yield the key prefix, the schema class and the values of each section of the config."""
    yield "", Config, cfg
    hints = get_type_hints(Config)
    for field in fields(Config):
        if hasattr(hints[field.name], "__dataclass_fields__"):
            yield f"{field.name}.", hints[field.name], cfg[field.name]
    for group, schemas in (("application", APPLICATION_KEYS), ("method", METHOD_KEYS)):
        if cfg[group].name not in schemas:
            name = str(cfg[group].name)
            advice = f"Set {group}=NAME"
            raise InputError(f"{group}.name={name}: {nearest(name, schemas, advice)}")
        yield f"{group}.", schemas[cfg[group].name], cfg[group]
    for name in cfg.garbage:
        yield f"garbage.{name}.", GarbageConfig, cfg.garbage[name]


def _check_section(prefix: str, schema: type, section: DictConfig) -> None:
    known, given = [field.name for field in fields(schema)], list(section)
    for key in given:  # +KEY=VALUE adds keys that the schema lacks
        if key not in known:
            raise InputError(f"{prefix}{key!s}: there is no such key; {nearest(str(key), known)}")
    for field in fields(schema):
        # `in section` is false for null too.
        if OmegaConf.is_missing(section, field.name) or field.name not in given:
            raise InputError(f"{prefix}{field.name}: must be given, as {prefix}{field.name}=VALUE")
        if (rule := rule_of(schema, field.name)) is None:
            continue
        for value in _entries(section[field.name]):
            if fault := rule.fault(value):
                raise InputError(f"{prefix}{field.name}={value}: {fault}")
    for key, other in AT_LEAST.get(schema, {}).items():
        if section[key] < section[other]:
            raise InputError(
                f"{prefix}{key}={section[key]}: must be {prefix}{other}={section[other]} or more"
            )
    for key, least in DISTINCT.get(schema, {}).items():
        if (values := section[key]) is None:
            continue
        if len(values) < least:
            raise InputError(f"{prefix}{key}=[]: is empty. Give at least one entry")
        if len(set(values)) < len(values):
            raise InputError(f"{prefix}{key}={list(values)}: contains a value twice")


def _check_network_arguments(cfg: DictConfig) -> None:
    network = cfg.classifier.network or {}
    if (parts := network_parts(str(network.get("_target_")))) is None:
        return
    for key in map(str, network):
        if key not in parts[0] and not key.startswith("_"):
            raise InputError(
                f"classifier.network.{key}: {network['_target_'].rpartition('.')[2]} has no such "
                f"argument; {nearest(key, parts[0])}"
            )


def _entries(value: Any) -> Iterator[Any]:
    """Yield the value, or the entries of a list at any depth; nothing for null."""
    if OmegaConf.is_list(value):
        for entry in value:
            yield from _entries(entry)
    elif value is not None:
        yield value


def _numbers(node: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield every floating-point number of the config with its key."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _numbers(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, list):
        for value in node:
            yield from _numbers(value, prefix)
    elif isinstance(node, float):
        yield prefix, node


def _check_together(cfg: DictConfig) -> None:
    """Refuse values that contradict each other."""
    app = cfg.application
    channels = _check_shape(cfg)
    if cfg.seed + cfg.n_generators - 1 > LARGEST_SEED:
        raise InputError(
            f"seed={cfg.seed}: the {cfg.n_generators} generators have the seeds seed, seed + 1 and "
            f"so on. The last one must be at most {LARGEST_SEED}"
        )
    if app.name in INVERSIONS and len(app.betas) != 2:
        raise InputError(
            f"application.betas={list(app.betas)}: must be the two decay rates of Adam, such as "
            "[0.5,0.99]"
        )
    resize = cfg.augmentation.resize
    if resize is not None and (len(resize) != 2 or resize[0] > resize[1]):
        raise InputError(
            f"augmentation.resize={list(resize)}: must be the smallest and the largest side of the "
            "views, in pixels, such as [96,256]"
        )
    for key in ("seed_widths", "image_widths"):
        if cfg.generator[key] is not None and not cfg.generator[key]:
            raise InputError(f"generator.{key}=[]: is empty. Give at least one width")
    if cfg.perturbation.direction == "sign" and cfg.perturbation.norm != "linf":
        raise InputError(
            "perturbation.direction=sign: requires perturbation.norm=linf, but it is "
            f"{cfg.perturbation.norm}. Change one of the two keys"
        )
    interpret = cfg.interpret
    if interpret.sparse_active > interpret.sparse_units:
        raise InputError(
            f"interpret.sparse_active={interpret.sparse_active}: must be from 1 to "
            f"interpret.sparse_units={interpret.sparse_units}. The key is the number of active "
            "units per sample"
        )
    mean, std = cfg.classifier.mean, cfg.classifier.std
    for key, values in (("mean", mean), ("std", std)):
        if values is not None and channels is not None and len(values) != channels:
            raise InputError(
                f"classifier.{key}={list(values)}: must have {channels} values, one per channel"
            )


def check_network_chosen(cfg: DictConfig) -> None:
    """Refuse a config without a network to train.

    Raises:
        InputError: naming the key.
    """
    if not cfg.classifier.network:
        raise InputError(
            "classifier.network: choose a network to train: classifier=cnn, mlp, resnet or vit; or "
            "your own: classifier=cnn 'classifier.network={_target_: my_package.MyNetwork}'"
        )


def _check_shape(cfg: DictConfig) -> int | None:
    """Refuse invalid sizes. Return the number of channels; None if the config does not set it."""
    for section in ("classifier", "data"):
        size = cfg[section].image_size
        if OmegaConf.is_list(size) and len(size) != 2:
            raise InputError(
                f"{section}.image_size={list(size)}: must be the side of square images, or "
                "[height, width]"
            )
    for bound in cfg.classifier.bounds or ():
        if not OmegaConf.is_list(bound) or len(bound) != 2:
            raise InputError(
                f"classifier.bounds={list(cfg.classifier.bounds)}: must be one pair "
                "[lowest, highest] per channel"
            )
    shape, channels, size = (cfg.classifier[key] for key in ("shape", "channels", "image_size"))
    if shape is not None:
        if channels is not None or size is not None:
            raise InputError(
                f"classifier.shape={list(shape)}: contains the channels and the size already; "
                "leave out classifier.channels and classifier.image_size"
            )
        channels, size = checked_shape(shape, "classifier.shape")
    elif cfg.application.name in INVERSIONS and size is not None and (fault := fault_of_size(size)):
        raise InputError(f"classifier.image_size={size}: {fault}")
    return None if channels is None else int(channels)


def _check_to_be_trained(cfg: DictConfig) -> None:
    """Refuse values that contradict `classifier.train=true`."""
    classifier = cfg.classifier
    for key in ("zoo", "path"):
        if classifier[key] is not None:
            raise InputError(
                f"classifier.train=true: classifier.{key}={classifier[key]} names trained weights "
                "already. Choose a network to train (classifier=cnn, mlp, resnet or vit), or leave "
                "classifier.train out"
            )
    check_network_chosen(cfg)
    if cfg.application.name == "train_classifier":
        raise InputError(
            "classifier.train=true: application=train_classifier always trains the classifier. "
            "Leave the key out"
        )
