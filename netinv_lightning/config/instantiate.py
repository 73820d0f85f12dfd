"""The only place where a dotted name becomes an object."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from netinv_lightning.config.allowed_targets import check_target
from netinv_lightning.config.description_check import check_literal, targets


def locate(target: str, key: str) -> Any:
    """Import the object with a dotted name.

    Args:
        target: A dotted name, such as `package.module.function`.
        key: The key that contains it, for the message.

    Raises:
        InputError: in the context of `only_allowed`, if the name is neither allowed nor trusted.
        ImportError, AttributeError, ValueError: if there is no such object.
    """
    check_target(target, key)
    module, *names = target.rsplit(".", 1)
    if not names:
        raise ValueError("the name must contain a module, as module.object")
    try:
        return getattr(import_module(module), names[0])
    except ModuleNotFoundError as error:
        if "." not in module or not module.startswith(str(error.name)):
            raise
        outer = locate(module, key)  # a class within a class
        return getattr(outer, names[0])


def module_of(target: str, key: str) -> ModuleType:
    """Import the module of a dotted name; raises as `locate`."""
    check_target(target, key)
    return import_module(target.rpartition(".")[0])


def construct(description: Mapping[str, Any], key: str) -> Any:
    """Create the object of a description, as Hydra's `instantiate` does.

    Args:
        description: Plain, resolved containers: `_target_` and arguments.
        key: The key that contains it, for the message.

    Raises:
        InputError: if it contains an interpolation; or, in the context of `only_allowed`, if it
            names code at any depth that is neither allowed nor trusted.
        hydra.errors.InstantiationException: if the constructor fails.
    """
    from hydra.utils import instantiate

    check_literal(description, "config", key)
    for place, target in targets(description, key):
        check_target(target, place)
    return instantiate(dict(description))
