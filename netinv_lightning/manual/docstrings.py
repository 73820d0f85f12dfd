"""Docstrings read from source files, without importing them: importing torch takes seconds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

Definition = ast.ClassDef | ast.FunctionDef


def named_values(docstring: str, *headings: str) -> dict[str, str]:
    """Return the text of each name in sections such as `Args:`, on one line.

    Args:
        docstring: A docstring without common indentation.
        headings: Titles of the sections, without the colon.
    """
    found: dict[str, str] = {}
    names: list[str] = []
    inside, indent = False, 0
    for line in docstring.splitlines():
        text, depth = line.strip(), len(line) - len(line.lstrip())
        if text.removesuffix(":") in headings and text.endswith(":"):
            inside, indent, names = True, 0, []
        elif inside and text:
            indent = indent or depth
            if depth < indent:
                inside = False
            elif depth == indent and ":" in text:
                head, _, rest = text.partition(":")
                names = [name.strip() for name in head.split(",")]
                found.update(dict.fromkeys(names, rest.strip()))
            else:
                found.update({name: f"{found[name]} {text}" for name in names})
    return found


def description(docstring: str) -> str:
    """Return a docstring without its sections, such as `Args:`."""
    return re.split(r"\n\s*(?:Args|Attributes|Raises|Returns|Yields):\n", docstring)[0].strip()


def first_sentence(text: str) -> str:
    """Return the first sentence of a text without its full stop; indented lines end it."""
    lines = text.strip().splitlines()
    first = takewhile(lambda line: line[:2].strip(), lines)
    paragraph = " ".join(" ".join(first).split())
    sentence = re.split(r"(?<=[^.\s]\.) (?=[A-Z`+])", paragraph)[0].rstrip(".:")
    return sentence[:1].upper() + sentence[1:]


def docstring_of(dotted: str) -> str:
    """Return the docstring of a class or function; empty if there is none.

    Args:
        dotted: Its dotted name, such as `lightning.pytorch.trainer.trainer.Trainer`.
    """
    definition = definition_of(dotted)
    return "" if definition is None else ast.get_docstring(definition) or ""


def definition_of(dotted: str) -> Definition | None:
    """Return the syntax tree of a class or function of a module, which may only import it."""
    module, _, name = dotted.rpartition(".")
    for node in _statements(module):
        if isinstance(node, Definition) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return definition_of(f"{node.module}.{name}")
    return None


@cache
def _statements(module: str) -> list[ast.stmt]:
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


def called_functions(definition: Definition, module: str) -> list[str]:
    """Return the names of the functions of `module` that a function calls as `module.name`."""
    return [
        node.attr
        for node in ast.walk(definition)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == module
    ]


def assigned_names(module: str, variable: str) -> dict[str, str]:
    """Return the names in a mapping of texts to names that a module assigns to a variable."""
    for node in _statements(module):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == variable:
            assert isinstance(node.value, ast.Dict)
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return {
                str(key.value): ast.unparse(value)
                for key, value in pairs
                if isinstance(key, ast.Constant)
            }
    return {}
