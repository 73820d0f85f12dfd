"""Parts of docstrings, and names that source files contain, read without importing them."""

from __future__ import annotations

import ast
import re
from itertools import takewhile

from netinv_lightning.config.signatures import Definition, statements_of


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
    for node in statements_of(module):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == variable:
            assert isinstance(node.value, ast.Dict)
            pairs = zip(node.value.keys, node.value.values, strict=True)
            return {
                str(key.value): ast.unparse(value)
                for key, value in pairs
                if isinstance(key, ast.Constant)
            }
    return {}
