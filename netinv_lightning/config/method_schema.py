"""The keys of each method: the keyword-only arguments of its constructor, with types and ranges.

This module does not import torch. It reads the source of the methods instead:

    def __init__(self, classifier: FrozenClassifier, *, steps: Annotated[int, STEPS] = 50)

gives the key `method.steps`, a whole number in the range `STEPS` of `config/rules.py`, with the
default 50.

Shared keys:
    name: Name of the method; `method=NAME` selects it.
    auxiliary: Images that a method with `data=True` in the registry learns from: the name of a set
        other than the classifier's data, such as `emnist_letters` for MNIST or `cifar100` for
        CIFAR-10, or your own images, an .npz file with X or a folder such as `photos/`.
"""

from __future__ import annotations

import ast
from dataclasses import field, make_dataclass
from types import UnionType
from typing import Annotated, Any, Optional, get_args, get_origin

from omegaconf import DictConfig

from netinv_lightning.config import ranges
from netinv_lightning.config import rules as rules_of_keys
from netinv_lightning.config.method_registry import METHODS, Method
from netinv_lightning.config.signatures import constructor_of


def method_keys(name: str, method: Method) -> type:
    """Return the schema class of a method.

    Raises:
        TypeError: if a key has no default, or its annotation is not `Annotated[type, rule]`.
    """
    keys: list[tuple[str, Any, Any]] = [("name", str, field(default=name))]
    rules: dict[str, rules_of_keys.Rule] = {}
    at_least: dict[str, str] = {}
    if method.data:
        keys.append(("auxiliary", Optional[str], field(default=None)))
    constructor = None if method.trains_generator else constructor_of(method.target)
    for argument, default in _keys(constructor):
        assert argument.annotation is not None
        hint = _evaluated(argument.annotation)
        if get_origin(hint) is not Annotated or default is None:
            raise TypeError(
                f"{method.target}: {argument.arg} must be Annotated[type, rule] with a default"
            )
        kind, *facts = get_args(hint)
        for fact in facts:
            if isinstance(fact, rules_of_keys.AtLeast):
                at_least[argument.arg] = fact.key
            else:
                rules[argument.arg] = fact
        keys.append((argument.arg, _optional(kind), _default(_evaluated(default))))
    schema = make_dataclass(f"{name.title().replace('_', '')}MethodConfig", keys)
    schema.__module__ = __name__
    schema.__doc__ = (
        "`method=generator`: train a generator; the keys of its training are in `application`."
        if constructor is None
        else f"`method={name}`. The keys are arguments of `{method.target}`."
    )
    ranges.RULES[schema], ranges.AT_LEAST[schema] = rules, at_least
    return schema


def _keys(constructor: ast.FunctionDef | None) -> list[tuple[ast.arg, ast.expr | None]]:
    if constructor is None:
        return []
    return [*zip(constructor.args.kwonlyargs, constructor.args.kw_defaults, strict=True)]


def _evaluated(source: ast.expr) -> Any:
    """Evaluate an annotation or a default of our own source: types, rules and values."""
    return eval(ast.unparse(source), {**vars(rules_of_keys), "Annotated": Annotated})


def _optional(kind: Any) -> Any:
    """Return `T | None` as `Optional[T]`, the form that OmegaConf's releases all read."""
    if isinstance(kind, UnionType):
        (inner,) = (part for part in get_args(kind) if part is not type(None))
        return Optional[inner]
    return kind


def _default(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return field(default_factory=lambda: list(value))
    return field(default=value)


METHOD_KEYS: dict[str, type] = {name: method_keys(name, method) for name, method in METHODS.items()}
"""The schema class of each method, by the name of the method."""


def trains_generator(cfg: DictConfig) -> bool:
    """Return whether the method of a config trains generators and stores them in a checkpoint."""
    return METHODS[cfg.method.name].trains_generator
