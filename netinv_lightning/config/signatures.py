"""Read names from Python source files without importing them: importing torch takes seconds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

Definition = ast.ClassDef | ast.FunctionDef
NETWORKS = "netinv_lightning.classifiers.networks"
"""Module of the project's own networks."""
TRAINER = "lightning.pytorch.trainer.trainer.Trainer"


def trainer_keys() -> frozenset[str]:
    """Return the arguments of `lightning.Trainer` that `trainer` may contain; empty if unknown."""
    constructor = constructor_of(TRAINER)
    return _arguments(constructor) - {"logger", "callbacks"} if constructor else frozenset()


def network_parts(target: str) -> tuple[frozenset[str], frozenset[str]] | None:
    """Return the arguments and attributes of one of the project's networks; None for others.

    Args:
        target: Dotted name of the class, as in `classifier.network._target_`.
    """
    if target.rpartition(".")[0] != NETWORKS:
        return None
    constructor = constructor_of(target)
    return None if constructor is None else (_arguments(constructor), _attributes(constructor))


def constructor_of(dotted: str) -> ast.FunctionDef | None:
    """Return the constructor of a class, which may be that of its first base class.

    Args:
        dotted: Dotted name of the class, whose module is not imported.
    """
    definition = definition_of(dotted)
    if not isinstance(definition, ast.ClassDef):
        return None
    for node in definition.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return node
    if definition.bases and isinstance(base := definition.bases[0], ast.Name):
        return constructor_of(f"{dotted.rpartition('.')[0]}.{base.id}")
    return None


def docstring_of(dotted: str) -> str:
    """Return the docstring of a class or function; empty if there is none.

    Args:
        dotted: Its dotted name, such as `lightning.pytorch.trainer.trainer.Trainer`.
    """
    definition = definition_of(dotted)
    return "" if definition is None else ast.get_docstring(definition) or ""


@cache
def definition_of(dotted: str) -> Definition | None:
    """Return the syntax tree of a class or function of a module, which may only import it."""
    module, _, name = dotted.rpartition(".")
    for node in statements_of(module):
        if isinstance(node, Definition) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return definition_of(f"{node.module}.{name}")
    return None


@cache
def statements_of(module: str) -> list[ast.stmt]:
    """Return the statements of a module's source file; empty if there is none."""
    path = _source_of(module)
    return [] if path is None else ast.parse(path.read_text(encoding="utf-8")).body


def _source_of(module: str) -> Path | None:
    """Return the source file of a module, whose packages are located but not imported."""
    package, *parts = module.split(".")
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    candidates = (
        path
        for folder in folders or ()
        for path in (
            Path(folder, *parts).with_suffix(".py"),
            Path(folder, *parts, "__init__.py"),
        )
    )
    return next((path for path in candidates if path.is_file()), None)


def defaults_of(definition: ast.FunctionDef) -> dict[str, str]:
    """Return the source text of the default of each argument that has one."""
    arguments = definition.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs: Iterator[tuple[ast.arg, ast.expr | None]] = iter(
        [
            *zip(
                positional[len(positional) - len(arguments.defaults) :],
                arguments.defaults,
                strict=True,
            ),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
    )
    return {argument.arg: ast.unparse(value) for argument, value in pairs if value is not None}


def _arguments(method: ast.FunctionDef) -> frozenset[str]:
    arguments = method.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return frozenset(argument.arg for argument in named) - {"self"}


def _attributes(method: ast.FunctionDef) -> frozenset[str]:
    return frozenset(
        node.attr
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )
