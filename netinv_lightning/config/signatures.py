"""Read names from Python source files without importing them: importing torch takes seconds."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

NETWORKS = "netinv_lightning.classifiers.networks"
"""Module of the project's own networks."""


def trainer_keys() -> frozenset[str]:
    """Return the arguments of `lightning.Trainer` that `trainer` may contain; empty if unknown."""
    constructor = constructors("lightning", "pytorch/trainer/trainer.py").get("Trainer")
    return constructor[0] - {"logger", "callbacks"} if constructor else frozenset()


def network_parts(target: str) -> tuple[frozenset[str], frozenset[str]] | None:
    """Return the arguments and attributes of one of the project's networks; None for others.

    Args:
        target: Dotted name of the class, as in `classifier.network._target_`.
    """
    module, _, name = target.rpartition(".")
    if module != NETWORKS:
        return None
    return constructors("netinv_lightning", "classifiers/networks.py").get(name)


@cache
def constructors(package: str, file: str) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """Return the arguments and the attributes of the constructor of each class in a source file.

    Args:
        package: A top-level package, which is located but not imported.
        file: Path of the source file in the package.
    """
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    path = next(
        (Path(place) / file for place in places or () if (Path(place) / file).is_file()), None
    )
    if path is None:
        return {}
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                found[node.name] = (_arguments(method), _attributes(method))
    return found


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
