"""Check the files of a classifier without torch: missing or wrong weights, unknown layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from netinv_lightning.classifiers.formats.recognise import format_of
from netinv_lightning.classifiers.named_weights import (
    named_weights,
    network_missing,
    require_weights,
)
from netinv_lightning.config.layer_names import LOGITS, PENULTIMATE
from netinv_lightning.config.signatures import network_parts
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.runs.file_check import check_file, check_safetensors
from netinv_lightning.runs.outside_files import read_json_object

WRAPPERS = ("_orig_mod", "module")
"""Components of names that torch.compile and DataParallel add."""
PREFIX_DEPTH = 3
"""Maximum number of components of the prefix that is removed from names of weights on loading."""


def check_classifier(cfg: DictConfig) -> Mapping[str, Any]:
    """Refuse weights that are missing, damaged, or from a different network of the project.

    Returns:
        The model card; empty if there is none.

    Raises:
        InputError: naming the key.
    """
    path = _weights(cfg)
    if path is None:
        return {}
    where = (
        f"classifier.path={path}"
        if cfg.classifier.path is not None
        else f"classifier.zoo={cfg.classifier.zoo}"
    )
    shapes = check_safetensors(path, where) if path.suffix == ".safetensors" else {}
    card = read_json_object(path.with_suffix(".json"))  # loading fails if it is damaged
    described = card.get("network")
    trained: Mapping[str, Any] = described if isinstance(described, Mapping) else {}
    target = str((cfg.classifier.network or trained).get("_target_"))
    if (parts := network_parts(target)) is None:
        return card
    attributes = parts[1]
    if shapes and not _names_fit([*shapes], attributes):
        name = target.rpartition(".")[2]
        trained_as = str(trained.get("_target_", "")).rpartition(".")[2]
        raise InputError(
            f"{where}: these weights do not belong to the architecture {name}"
            + (f" but to {trained_as}" if trained_as else "")
            + ". Set classifier.network to the trained network. With a model card, no network "
            "is needed: use classifier=zoo or classifier=checkpoint"
        )
    _check_num_classes(cfg, shapes, where)
    _check_layers(cfg, attributes)
    return card


def _weights(cfg: DictConfig) -> Path | None:
    """Return the file of weights that `classifier` names; None if it names none."""
    path = named_weights(cfg.classifier)
    if path is None or cfg.classifier.zoo is not None:
        return path
    require_weights(path)
    if not path.is_dir() or not format_of(path):
        check_file(path, f"classifier.path={path}")
    if format_of(path):
        return None
    if not path.with_suffix(".json").is_file() and not cfg.classifier.network:
        raise network_missing(path)
    return path


def _names_fit(names: Sequence[str], attributes: frozenset[str]) -> bool:
    """Return whether the names of weights without a common prefix are attributes of the network."""
    split = [tuple(part for part in name.split(".") if part not in WRAPPERS) for name in names]
    for depth in range(PREFIX_DEPTH + 1):
        below: dict[tuple[str, ...], set[str]] = {}
        for parts in split:
            if len(parts) > depth:
                below.setdefault(parts[:depth], set()).add(parts[depth])
        if any(found <= attributes for found in below.values()):
            return True
    return False


def _check_num_classes(cfg: DictConfig, shapes: Mapping[str, Sequence[int]], where: str) -> None:
    number = cfg.classifier.num_classes
    head = shapes.get("head.weight")
    if number is not None and head and head[0] != number:
        raise InputError(
            f"classifier.num_classes={number}: the weights of {where} are for {head[0]} classes. "
            "Leave out classifier.num_classes"
        )


def _check_layers(cfg: DictConfig, attributes: frozenset[str]) -> None:
    for key, layer in _layers(cfg):
        first, dot, rest = layer.partition(".")
        if layer not in (PENULTIMATE, LOGITS) and first not in attributes:
            known = [PENULTIMATE, LOGITS, *(attribute + dot + rest for attribute in attributes)]
            raise InputError(
                f"{key}={layer}: the network has no such layer; {nearest(layer, known)}"
            )


def _layers(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield the layers that a config names, with their keys."""
    for layer in cfg.classifier.feature_layers:
        yield "classifier.feature_layers", layer
    for section, name in (
        ("interpret", "layer"),
        ("interpret", "map_layer"),
        ("application", "layer"),
    ):
        if isinstance(layer := cfg[section].get(name), str):
            yield f"{section}.{name}", layer
