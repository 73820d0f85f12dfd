"""Checks of the content of files from other people: no interpolations, no unknown code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netinv_lightning.config.allowed_targets import (
    GET_MODEL,
    OWN_NETWORK,
    TIMM,
    is_allowed,
    is_own_code,
    is_trusted,
    refusal,
    remedy,
    torchvision_builders,
)
from netinv_lightning.config.black_box_keys import black_box_code
from netinv_lightning.errors import InputError

TIMM_NAME = re.compile(r"[\w.-]+")
"""Name of a timm model without `hf-hub:`. Weights that it names by a tag are not loaded."""
LOADING = re.compile(
    r"weights|pretrained|checkpoint|cache_dir|features_only|feature_cls|url|file|hub"
)
"""Arguments of constructors of torchvision and timm that load files or make no classifier."""


def named_code(node: Any) -> Iterator[str]:
    """Yield the user's own code that a config names.

    This is the code of a black box, and each `_target_` outside the allow-list, at every depth and
    also in overrides of other configs.
    """
    yield from (name for _, name in black_box_code(node))
    for value in _values(node):
        for target in re.findall(r"(?<!\w)_target_['\"]?\s*[=:]\s*['\"]?([\w.]+)", value):
            if is_own_code(target):
                yield target


def _values(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield f"_target_={value}"
            else:
                yield from _values(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _values(value)
    elif isinstance(node, str):
        yield node


def check_literal(node: Any, where: str, key: str = "") -> None:
    """Refuse interpolations, at every depth and also in keys.

    A run resolves all interpolations before it writes a file, so they are not needed.

    Raises:
        InputError: naming the key.
    """
    for place, value in leaves(node, key):
        if "${" in place or (isinstance(value, str) and "${" in value):
            entry = f"{place}={value}" if place else value
            raise InputError(
                f"{where}: {entry}: is an interpolation (${{...}}), which is not allowed in a "
                "file. Write the value"
            )
        if value == "???":
            raise InputError(f"{where}: {place}=???: is missing. Write the value")


def without_interpolations(node: Any) -> Any:
    """Return plain containers without the entries that `check_literal` refuses."""
    if isinstance(node, Mapping):
        kept = {
            key: value
            for key, value in node.items()
            if not any(isinstance(part, str) and "${" in part for part in (key, value))
        }
        return {key: without_interpolations(value) for key, value in kept.items()}
    if isinstance(node, (list, tuple)):
        return [
            without_interpolations(value)
            for value in node
            if not (isinstance(value, str) and "${" in value)
        ]
    return node


def check_no_target(node: Any, where: str, key: str, trusted: Sequence[str] = ()) -> None:
    """Refuse every `_target_` that is not trusted, at every depth.

    Raises:
        InputError: naming the key.
    """
    for place, target in targets(node, key):
        if not is_trusted(target, trusted):
            raise InputError(refusal(where, place, target))


def check_network(
    network: Any, where: str, key: str = "classifier.network", trusted: Sequence[str] = ()
) -> None:
    """Refuse a network that is described by more than an allowed constructor and plain arguments.

    Args:
        network: The description as plain containers. Empty ones are not checked.
        where: The file, for the message.
        key: The key of the description.
        trusted: Further names that are allowed; their arguments may name trusted code.

    Raises:
        InputError: naming the key and its value.
    """
    if not isinstance(network, Mapping):
        if network:
            raise InputError(
                f"{where}: {key}={network}: must be a mapping with _target_ and arguments"
            )
        return
    check_literal(network, where, key)
    target = network.get("_target_")
    arguments = {name: value for name, value in network.items() if name != "_target_"}
    if target is None or (isinstance(target, str) and is_trusted(target, trusted)):
        check_no_target(network if target is None else arguments, where, key, trusted)
        return
    if not isinstance(target, str) or not is_allowed(target):
        raise InputError(refusal(where, f"{key}._target_", target))
    for name, value in arguments.items():
        place = f"{key}.{name}"
        if not _is_plain(value):
            check_no_target(value, where, place, trusted)
            raise InputError(
                f"{where}: {place}={value}: in a file, must be a number, a string, true, false or "
                "a list of these"
            )
        if fault := _fault(target, str(name), value):
            raise InputError(f"{where}: {place}={value}: {fault}")


def _fault(target: str, name: str, value: Any) -> str:
    """Return what is wrong with a plain argument of an allowed constructor; empty if nothing."""
    if name.startswith("_") and name not in ("_convert_", "_recursive_"):
        return "arguments in a file must be given by name"
    if not OWN_NETWORK.fullmatch(target) and value and LOADING.search(name):
        return f"would load weights or files, which is not allowed in a file. {remedy(target)}"
    known = True
    if target == TIMM and name in ("name", "model_name"):
        known = TIMM_NAME.fullmatch(str(value)) is not None
    elif target == GET_MODEL and name == "name":
        known = str(value).lower() in torchvision_builders()
    return "" if known else f"is not a classifier of {target.split('.')[0]}. {remedy(target)}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def targets(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the value of each `_target_`, at every depth."""
    for place, value in leaves(node, key):
        if place.rpartition(".")[2] == "_target_":
            yield place, str(value)


def leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of everything except containers that are not empty."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, (list, tuple)) and node:
        for number, value in enumerate(node):
            yield from leaves(value, f"{key}[{number}]")
    else:
        yield key, node
