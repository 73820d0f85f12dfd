"""Check which code a config may name as `_target_`.

The command line may name any code. A file from somebody else (a model card, a run directory, the
command of a sweep) may only describe one of the project's networks, or a classifier of torchvision
or timm without pretrained weights, by plain arguments. The user must allow everything else:
`trusted=[my_package]` or `load_run(..., trusted=[...])`.

`description_check.py` checks the description of a network when its file is read. `instantiate.py`
checks names again when code is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from netinv_lightning.config.black_box_keys import command_name, command_refusal
from netinv_lightning.errors import InputError

OWN_NETWORK = re.compile(
    r"netinv_lightning\.classifiers\."
    r"(networks\.(CNN|MLP|BinarisedMLP|ResNet|SignalFCN|StridedCNN|ViT)"
    r"|efficientnet_lite\.efficientnet_lite)"
)
TORCHVISION = re.compile(r"torchvision\.models\.(\w+)")
GET_MODEL = "torchvision.models.get_model"
TIMM = "timm.create_model"

_trusted: ContextVar[tuple[str, ...] | None] = ContextVar("trusted", default=None)


@contextmanager
def only_allowed(trusted: Sequence[str]) -> Iterator[None]:
    """Context in which `locate` and `construct` refuse names that are neither allowed nor trusted.

    Without this context, the user's own Python code is the caller, and it may name any code.

    Args:
        trusted: Dotted names of code, and of packages, which are trusted as a whole.
    """
    token = _trusted.set(tuple(trusted))
    try:
        yield
    finally:
        _trusted.reset(token)


def trusted_names(further: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names that a file from somebody else may use besides the allowed ones."""
    return (*further, *(_trusted.get() or ()))


def is_trusted(target: str, trusted: Sequence[str]) -> bool:
    """Return whether a name or one of its packages is among the trusted names."""
    return any(target == name or target.startswith(f"{name.rstrip('.')}.") for name in trusted)


def is_own_code(target: str) -> bool:
    """Return whether a name cannot be on the allow-list, by its form; nothing is imported."""
    forms = (OWN_NETWORK, TORCHVISION)
    return target != TIMM and not any(form.fullmatch(target) for form in forms)


def is_allowed(target: str) -> bool:
    """Return whether a name is an allowed constructor of networks.

    The whole name is compared. A prefix would also allow everything that the module imports.
    """
    if target in (GET_MODEL, TIMM) or OWN_NETWORK.fullmatch(target):
        return True
    found = TORCHVISION.fullmatch(target)
    return found is not None and _is_torchvision(found[1])


def _is_torchvision(name: str) -> bool:
    """Return whether a function or class of `torchvision.models` is a classifier."""
    if name in torchvision_builders():
        return True
    from torch import nn
    from torchvision import models

    found = getattr(models, name, None)
    return isinstance(found, type) and issubclass(found, nn.Module)


def torchvision_builders() -> list[str]:
    """Return the names of torchvision's classifiers.

    Its detectors are left out: by default they load the weights of a backbone.
    """
    from torchvision import models

    return list(models.list_models(module=models))


def check_target(target: str, key: str) -> None:
    """Refuse a name that is neither allowed nor trusted, in the context of `only_allowed`.

    Args:
        target: A dotted name, such as `package.module.function`.
        key: The key that contains it, for the message.

    Raises:
        InputError: naming the key.
    """
    trusted = _trusted.get()
    if trusted is not None and not is_allowed(target) and not is_trusted(target, trusted):
        raise InputError(refusal("config", key, target))


def check_command(command: Sequence[str]) -> None:
    """Refuse a command that is not trusted, in the context of `only_allowed`.

    Raises:
        InputError: naming the key.
    """
    trusted = _trusted.get()
    if trusted is not None and command_name(command) not in trusted:
        raise InputError(command_refusal("config", list(command)))


def refusal(where: str, key: str, target: Any) -> str:
    """Return the message about a name that is not allowed."""
    return (
        f"{where}: {key}={target} is outside the allow-list (networks of netinv_lightning, "
        f"classifiers of torchvision and timm). {remedy(str(target))}"
    )


def remedy(target: str) -> str:
    """Return how to trust a name."""
    return (
        f"If you trust it, add trusted=[{target}] to the command "
        f"(netinv explore RUN --trust {target}; load_run(..., trusted=[...]))"
    )
