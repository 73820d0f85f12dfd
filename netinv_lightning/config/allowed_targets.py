"""Code that a config may name: the one place where a dotted name becomes an object.

The user's own command line may name any code. A file from outside (a model card, a run directory, a sweep's command) may only describe
one of our networks, or one of torchvision's or timm's classifiers without pretrained weights, by plain arguments; anything else needs
the user's trust (`trusted=[my_package.]`, `load_run(..., trusted=[...])`). `check_network` checks such a description when its file is
read; `construct` and `locate` check again where code is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType
from typing import Any

from netinv_lightning.errors import InputError

OWN_NETWORK = re.compile(
    r"netinv_lightning\.classifiers\."
    r"(networks\.(CNN|MLP|ResNet|ViT)|efficientnet_lite\.efficientnet_lite)"
)
TORCHVISION = re.compile(r"torchvision\.models\.(\w+)")
GET_MODEL = "torchvision.models.get_model"
TIMM = "timm.create_model"
TIMM_NAME = re.compile(r"[\w.-]+")
"""An architecture, and a tag of its weights, which are not loaded; no `hf-hub:` and no `local-dir:`."""
LOADING = re.compile(
    r"weights|pretrained|checkpoint|cache_dir|features_only|feature_cls|url|file|hub"
)
"""Arguments of torchvision's and timm's constructors that load files or make something else than a classifier."""

_trusted: ContextVar[tuple[str, ...] | None] = ContextVar("trusted", default=None)


@contextmanager
def only_allowed(trusted: Sequence[str]) -> Iterator[None]:
    """Within the block `locate` and `construct` refuse all names but the allowed and the trusted ones.

    Outside of such a block the caller is Python code of the user's own, which may name anything.

    Args:
        trusted: Dotted names, and packages, whose content is trusted too.
    """
    token = _trusted.set(tuple(trusted))
    try:
        yield
    finally:
        _trusted.reset(token)


def trusted_names(further: Sequence[str] = ()) -> tuple[str, ...]:
    """The names that a file from outside may use beside the allowed ones."""
    return (*further, *(_trusted.get() or ()))


def is_trusted(target: str, trusted: Sequence[str]) -> bool:
    return any(target == name or target.startswith(f"{name.rstrip('.')}.") for name in trusted)


def named_code(node: Any) -> Iterator[str]:
    """Own code that a config names: each `_target_` outside the allow-list, at every depth and in overrides of further configs."""
    for value in _values(node):
        for target in re.findall(r"(?<!\w)_target_['\"]?\s*[=:]\s*['\"]?([\w.]+)", value):
            if not _is_known(target):
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
    """Refuse interpolations, at every depth and also in keys: what a run writes is resolved, so a file from outside needs none.

    Raises:
        InputError: naming the key.
    """
    for place, value in _leaves(node, key):
        if "${" in place or (isinstance(value, str) and "${" in value):
            entry = f"{place}={value}" if place else value
            raise InputError(
                f"{where}: {entry}: is an interpolation (${{...}}), which a file must not have; write the value"
            )
        if value == "???":
            raise InputError(f"{where}: {place}=???: is missing; write the value")


def without_interpolations(node: Any) -> Any:
    """Plain containers without the entries that `check_literal` refuses as interpolations."""
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
    for place, value in _leaves(node, key):
        if place.rpartition(".")[2] == "_target_" and not is_trusted(str(value), trusted):
            raise InputError(_refusal(where, place, value))


def check_network(
    network: Any, where: str, key: str = "classifier.network", trusted: Sequence[str] = ()
) -> None:
    """Refuse a description of a network that is more than an allowed constructor and plain arguments.

    Args:
        network: The description, as plain containers; empty ones are left to others.
        where: The file, for the message.
        key: Of the description.
        trusted: Further names; their arguments may be anything that is trusted.

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
    if target is None:
        check_no_target(network, where, key, trusted)
        return
    if not isinstance(target, str):
        raise InputError(_refusal(where, f"{key}._target_", target))
    if is_trusted(target, trusted):
        check_no_target(
            {name: value for name, value in network.items() if name != "_target_"},
            where,
            key,
            trusted,
        )
        return
    if not _is_allowed(target):
        raise InputError(_refusal(where, f"{key}._target_", target))
    for name, value in network.items():
        if name != "_target_":
            _check_argument(target, str(name), value, where, f"{key}.{name}", trusted)


def _check_argument(
    target: str, name: str, value: Any, where: str, key: str, trusted: Sequence[str]
) -> None:
    if not _is_plain(value):
        for place, found in _leaves(value, key):
            if place.rpartition(".")[2] == "_target_" and not is_trusted(str(found), trusted):
                raise InputError(_refusal(where, place, found))
        raise InputError(
            f"{where}: {key}={value}: must be a number, a word, true, false or a list of those, since a file names it"
        )
    outside_package = not OWN_NETWORK.fullmatch(target)
    if name.startswith("_") and name not in ("_convert_", "_recursive_"):
        raise InputError(f"{where}: {key}={value}: a file must give arguments by name")
    if outside_package and value and LOADING.search(name):
        raise InputError(
            f"{where}: {key}={value}: would load weights or files, which a file from outside must not ask for; {_remedy(target)}"
        )
    names_model = (target == TIMM and name in ("name", "model_name")) or (
        target == GET_MODEL and name == "name"
    )
    known = (
        TIMM_NAME.fullmatch(str(value))
        if target == TIMM
        else names_model and str(value).lower() in _torchvision_builders()
    )
    if names_model and not known:
        raise InputError(
            f"{where}: {key}={value}: is no classifier of {target.partition('.')[0]}; {_remedy(target)}"
        )


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def _is_known(target: str) -> bool:
    return bool(OWN_NETWORK.fullmatch(target) or TORCHVISION.fullmatch(target) or target == TIMM)


def _is_allowed(target: str) -> bool:
    """Whether it is a constructor of networks; whole names, since through a module's own imports a beginning would let anything in."""
    found = TORCHVISION.fullmatch(target)
    return (
        target in (GET_MODEL, TIMM)
        or bool(OWN_NETWORK.fullmatch(target))
        or (found is not None and _is_torchvision(found[1]))
    )


def _is_torchvision(name: str) -> bool:
    """Whether `torchvision.models` has a classifier of that name, as a function or as a class."""
    if name in _torchvision_builders():
        return True
    from torch import nn
    from torchvision import models

    found = getattr(models, name, None)
    return isinstance(found, type) and issubclass(found, nn.Module)


def _torchvision_builders() -> list[str]:
    """Names of torchvision's classifiers, not of its detectors, which load a backbone's weights unless they are told not to."""
    from torchvision import models

    return list(models.list_models(module=models))


def _refusal(where: str, key: str, target: Any) -> str:
    return (
        f"{where}: {key}={target} is outside the allow-list (networks of netinv_lightning, classifiers of torchvision and timm); "
        f"{_remedy(str(target))}"
    )


def _remedy(target: str) -> str:
    return f"if you trust it, add trusted=[{target}] to the command (netinv explore RUN --trust {target}; load_run(..., trusted=[...]))"


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Each value that is no container, with its dotted key; a key that leads to an empty container too."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, (list, tuple)) and node:
        for number, value in enumerate(node):
            yield from _leaves(value, f"{key}[{number}]")
    else:
        yield key, node


def locate(target: str, key: str) -> Any:
    """Import what a dotted name means.

    Args:
        target: Such as `package.module.function`.
        key: That names it, for the message.

    Raises:
        InputError: within `only_allowed`, if the name is neither allowed nor trusted.
        ImportError, AttributeError, ValueError: if there is no such thing.
    """
    check_located(target, key)
    module, *names = target.rsplit(".", 1)
    if not names:
        raise ValueError("no module is named")
    try:
        return getattr(import_module(module), names[0])
    except ModuleNotFoundError as error:
        if "." not in module or not module.startswith(str(error.name)):
            raise
        outer = locate(module, key)  # a class within a class
        return getattr(outer, names[0])


def module_of(target: str, key: str) -> ModuleType:
    """Import the module that a dotted name lies in; `Raises` as `locate`."""
    check_located(target, key)
    return import_module(target.rpartition(".")[0])


def check_located(target: str, key: str) -> None:
    """`locate` without the import."""
    trusted = _trusted.get()
    if trusted is not None and not _is_allowed(target) and not is_trusted(target, trusted):
        raise InputError(_refusal("config", key, target))


def construct(description: Mapping[str, Any], key: str) -> Any:
    """Make what a description means, as Hydra's `instantiate` does.

    Args:
        description: Plain containers, resolved: `_target_` and arguments.
        key: That holds it, for the message.

    Raises:
        InputError: if it holds an interpolation, which would be resolved only now; or within `only_allowed`, if it names code at any
            depth that is neither allowed nor trusted.
        hydra.errors.InstantiationException: if the constructor fails.
    """
    from hydra.utils import instantiate

    check_literal(description, "config", key)
    for place, value in _leaves(description, key):
        if place.rpartition(".")[2] == "_target_":
            check_located(str(value), place)
    return instantiate(dict(description))
