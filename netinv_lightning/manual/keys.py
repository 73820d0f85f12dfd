"""Every key of the config: type, default, allowed values and meaning."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from sys import modules
from typing import Any, Union, get_args, get_origin, get_type_hints

from netinv_lightning.config import application_schema
from netinv_lightning.config.application_schema import APPLICATION_KEYS
from netinv_lightning.config.garbage_schema import GarbageConfig
from netinv_lightning.config.loss_terms import (
    LOSS_TERMS,
    OPTION_MEANINGS,
    OPTIONS_OF_ALL_TERMS,
)
from netinv_lightning.config.method_schema import METHOD_KEYS
from netinv_lightning.config.ranges import rule_of
from netinv_lightning.config.rules import Flag, Names, Rule
from netinv_lightning.config.schema import Config
from netinv_lightning.config.signatures import (
    TRAINER,
    defaults_of,
    definition_of,
    docstring_of,
    trainer_keys,
)
from netinv_lightning.config.trainer_check import TRAINER_RULES
from netinv_lightning.manual.docstrings import (
    called_functions,
    description,
    named_values,
)

TERMS, LOSSES = "netinv_lightning.inversion.terms", "netinv_lightning.inversion.losses"
SHARED = "Shared keys"
"""Section of a module's docstring with the meaning of keys that several of its classes have."""


@dataclass(frozen=True)
class Key:
    """One key of the config.

    Attributes:
        name: The key, such as `conditioning.temperature`.
        kind: Its type, in words.
        default: Its default, as it is written on a command line.
        allowed: Which values are allowed; empty if the type says it all.
        meaning: What it does.
        owner: The choices that have this key, such as `application=invert`; empty for all.
    """

    name: str
    kind: str
    default: str
    allowed: str
    meaning: str
    owner: str = ""

    @property
    def group(self) -> str:
        return self.name.partition(".")[0] if "." in self.name else ""


@cache
def all_keys() -> tuple[Key, ...]:
    """Return all keys, in the order of the schema."""
    return tuple(key for group in ("", *group_names()) for key in keys_of(group))


@cache
def keys_of(group: str) -> tuple[Key, ...]:
    """Return the keys of a group of the root config; of the root itself for an empty name."""
    if group == "":
        keys = _schema_keys("", Config)
        return tuple(key for key in keys if key.name not in group_names())
    if group in _chosen():
        return tuple(_keys_of_choices(group, _chosen()[group]))
    if group == "garbage":
        return tuple(_schema_keys("garbage.NAME.", GarbageConfig))
    if group == "loss":
        return tuple(_loss_keys())
    if group == "trainer":
        return tuple(_trainer_keys())
    return tuple(_schema_keys(f"{group}.", get_type_hints(Config)[group]))


@cache
def group_names() -> tuple[str, ...]:
    """Return the keys of the root that have keys themselves."""
    hints, special = get_type_hints(Config), {*_chosen(), "garbage", "loss", "trainer"}
    return tuple(
        field.name
        for field in fields(Config)
        if field.name in special or hasattr(hints[field.name], "__dataclass_fields__")
    )


def meaning_of_group(group: str) -> str:
    """Return what a group is for, in one sentence or more."""
    if own := meanings(Config).get(group):
        return own
    doc = inspect.getdoc(get_type_hints(Config)[group]) or ""
    constructor = re.match(r"Arguments of\s+`([\w.]+)`", doc)
    return description(docstring_of(constructor[1]) if constructor else doc)


def _chosen() -> dict[str, Mapping[str, type]]:
    """Return the groups whose choices have different keys."""
    return {"application": APPLICATION_KEYS, "method": METHOD_KEYS}


def _keys_of_choices(group: str, schemas: Mapping[str, type]) -> Iterator[Key]:
    """Yield the keys of all choices; equal keys of several choices are one."""
    owners: dict[Key, list[str]] = {}
    for choice, schema in schemas.items():
        for key in _schema_keys(f"{group}.", schema):
            if not key.name.endswith(".name"):
                owners.setdefault(key, []).append(choice)
    yield Key(
        name=f"{group}.name",
        kind="text",
        default="",
        allowed=Names(tuple(schemas)).allowed(),
        meaning=meanings(next(iter(schemas.values())))["name"],
    )
    for key, names in sorted(owners.items(), key=lambda pair: pair[0].name):
        yield replace(key, owner=", ".join(f"{group}={name}" for name in names))


def _schema_keys(prefix: str, schema: type) -> Iterator[Key]:
    hints, texts, defaults = get_type_hints(schema), meanings(schema), schema()
    for field in fields(schema):
        rule = rule_of(schema, field.name)
        yield Key(
            name=f"{prefix}{field.name}",
            kind=_kind(hints[field.name]),
            default=written(getattr(defaults, field.name)),
            allowed=_allowed(rule, hints[field.name]),
            meaning=_as_config(texts.get(field.name, "")),
        )


def _allowed(rule: Rule | None, hint: Any) -> str:
    if rule is None:
        return ""
    return f"each {rule.allowed()}" if _kind(hint).startswith("list") else rule.allowed()


@cache
def meanings(schema: type) -> Mapping[str, str]:
    """Return the meaning of the keys of a schema class.

    They are in the docstring of the class (`Attributes:`), in that of the constructor whose
    arguments it names, of another schema class that it names, or of its module (`Shared keys:`).
    The shared keys of all applications are in the module `application_schema`.
    """
    found: dict[str, str] = {}
    for base in reversed(schema.__mro__[:-1]):
        module, doc = modules[base.__module__], inspect.getdoc(base) or ""
        shared = application_schema if base in APPLICATION_KEYS.values() else module
        found = named_values(inspect.getdoc(shared) or "", SHARED) | found
        for other in re.findall(r"See `(\w+)` for the other keys", doc):
            found |= meanings(getattr(module, other))
        for dotted in re.findall(r"[Aa]rguments of\s+`(netinv_lightning[\w.]+)`", doc):
            found |= named_values(docstring_of(dotted), "Args")
        found |= named_values(doc, "Attributes")
    return found


def _loss_keys() -> Iterator[Key]:
    for term, rules in LOSS_TERMS.items():
        function = definition_of(f"{TERMS}.{term}")
        assert isinstance(function, ast.FunctionDef)
        own = docstring_of(f"{TERMS}.{term}")
        called = [f"{LOSSES}.{name}" for name in called_functions(function, "losses")]
        texts = [text for text in (*map(docstring_of, called[::-1]), own) if text]
        options = {name: text for doc in texts for name, text in named_values(doc, "Args").items()}
        defaults = defaults_of(function)
        yield Key(
            name=f"loss.{term}",
            kind="mapping",
            default="",
            allowed=f"a weight, and options: {', '.join((*OPTIONS_OF_ALL_TERMS, *rules)[1:])}",
            meaning=description(texts[-1]),
        )
        for option, rule in {**OPTIONS_OF_ALL_TERMS, **rules}.items():
            meaning = options.get(option) or OPTION_MEANINGS.get(option)
            yield _option(
                f"loss.{term}.{option}",
                rule,
                default=defaults.get(option, ""),
                meaning=meaning or _sentence_about(option, texts),
            )


def _option(name: str, rule: Rule, *, default: str, meaning: str) -> Key:
    kind = "true or false" if isinstance(rule, Flag) else ""
    return Key(
        name=name,
        kind=kind,
        default=_as_config(default),
        allowed="" if kind else rule.allowed(),
        meaning=_as_config(meaning),
    )


def _sentence_about(option: str, texts: list[str]) -> str:
    """Return the first sentence of docstrings that contains the option in backticks."""
    for text in texts:
        for paragraph in description(text).split("\n\n"):
            for sentence in re.split(r"(?<=\.) (?=[A-Z`])", " ".join(paragraph.split())):
                if f"`{option}`" in sentence:
                    return sentence
    return ""


def _trainer_keys() -> Iterator[Key]:
    trainer = definition_of(TRAINER)
    body = trainer.body if trainer is not None else []
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            texts = named_values(ast.get_docstring(node) or "", "Args")
            defaults = defaults_of(node)
            for name in (argument.arg for argument in node.args.kwonlyargs):
                if name in trainer_keys():
                    rule = TRAINER_RULES.get(name)
                    yield Key(
                        name=f"trainer.{name}",
                        kind="",
                        default=_as_config(defaults.get(name, "")).strip("'"),
                        allowed="" if rule is None else rule.allowed(),
                        meaning=_as_config(_plain(texts.get(name, ""))),
                    )


def _plain(text: str) -> str:
    """Return a text of Lightning's documentation without its markup and defaults."""
    text = re.sub(r"``|\s*Default: .*$", "", text)
    return re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", text)


def _kind(hint: Any) -> str:
    """Return a type in words."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    if get_origin(hint) is Union and len(parts) == 1:
        return f"{_kind(parts[0])}, or null"
    words = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    if get_origin(hint) is list:
        several = {int: " of whole numbers", float: " of numbers", str: " of texts"}
        inner = f" of {_kind(parts[0])}" if get_origin(parts[0]) is list else ""
        return f"list{several.get(parts[0], inner)}"
    return words.get(hint, "mapping" if get_origin(hint) is dict else "")


def written(value: Any) -> str:
    """Return a default as it is written on a command line; empty if there is none."""
    if value == "???":
        return ""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {written(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    text = f"{value:g}" if isinstance(value, float) else _as_config(str(value))
    return re.sub(r"\$\{oc\.env:(\w+),(\w+)\}", r"the environment variable \1, or \2", text)


def _as_config(text: str) -> str:
    """Return a Python text with null, true and false as in a config."""
    for python, config in (("None", "null"), ("True", "true"), ("False", "false")):
        text = re.sub(rf"\b{python}\b", config, text)
    return text
