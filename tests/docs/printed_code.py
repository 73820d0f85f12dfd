"""The code that docs/extending.md prints, and the places in the repository where it belongs."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
PLACES = {
    "new": r"New file `(?P<path>[^`]+)`",
    "imports": r"To the imports of `(?P<path>[^`]+)`",
    "before": r"Before `(?P<name>\w+)` in `(?P<path>[^`]+)`",
    "end": r"At the end of `(?P<name>\w+)` in `(?P<path>[^`]+)`",
    "line": r"After the line `(?P<name>[^`]+)` in `(?P<path>[^`]+)`",
    "row": r"After the row of `(?P<name>\w+)` in `(?P<path>[^`]+)`",
}
"""The phrases of the page that say where a block of code belongs."""


@dataclass(frozen=True)
class Block:
    """A block of code of the page: its section, kind of place, name at the place, and file."""

    section: str
    kind: str
    name: str
    path: str
    code: str


def blocks() -> list[Block]:
    """Return the blocks of code of the page, in order, each with the place that the text names."""
    found = []
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        for match in re.finditer(r"^( *)```\w+\n(.*?)^ *```$", section, re.MULTILINE | re.DOTALL):
            text = " ".join(section[: match.start()].rstrip().rpartition("\n\n")[2].split())
            places = [
                (where.start(), kind, where.groupdict())
                for kind, phrase in PLACES.items()
                for where in re.finditer(phrase, text)
            ]
            assert places, f"{title}: the text does not say where this belongs: {match.group(2)}"
            _, kind, groups = max(places, key=lambda place: place[0])
            indent = len(match.group(1))
            code = "".join(line[indent:] or "\n" for line in match.group(2).splitlines(True))
            found.append(Block(title, kind, groups.get("name", ""), groups["path"], code))
    return found


def commands(section: str) -> list[list[str]]:
    """Return the arguments of the `netinv` commands in the code of a section."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0].replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    netinv (.*)$", text, re.MULTILINE)]


def literal_of(tree: ast.Module, name: str) -> ast.expr:
    """Return the outermost list, tuple, set or dictionary in the value of a variable."""
    for node in ast.walk(tree):
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign) and node.value
            else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert isinstance(node, (ast.Assign, ast.AnnAssign))
            assert node.value is not None
            return next(
                part
                for part in ast.walk(node.value)
                if isinstance(part, (ast.Dict, ast.Tuple, ast.List, ast.Set))
            )
    raise AssertionError(f"there is no variable {name}")


def insertion(block: Block, text: str) -> tuple[int, str]:
    """Return the index in the text of a file where a block belongs, and the block's text there."""
    lines = text.splitlines(True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    if block.kind == "line":
        return starts[lines.index(f"{block.name}\n") + 1], block.code
    if block.kind == "row":
        row = next(n for n, line in enumerate(lines) if line.startswith(f"| [{block.name}]"))
        return starts[row + 1], block.code
    tree = ast.parse(text)
    if block.kind == "imports":
        imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        return starts[max(node.end_lineno or 0 for node in imports)], block.code
    if block.kind == "before":
        place = next(
            node.lineno
            for node in tree.body
            if isinstance(node, (ast.Assign, ast.AnnAssign))
            and block.name in ast.unparse(node).partition("=")[0]
        )
        gap = "" if "\n" not in block.code.strip() else "\n\n"
        return starts[place - 1], block.code + gap
    end = literal_of(tree, block.name)
    index = starts[(end.end_lineno or 0) - 1] + (end.end_col_offset or 0) - 1
    comma = "" if text[:index].rstrip().endswith((",", "(", "[", "{")) else ","
    return index, f"{comma}{block.code.rstrip()}\n"


def apply(block: Block, root: Path) -> None:
    """Make the change that a block of the page describes."""
    path = root / block.path
    if block.kind == "new":
        assert not path.exists(), f"{block.path} exists already"
        path.write_text(block.code)
        return
    text = path.read_text()
    index, code = insertion(block, text)
    path.write_text(text[:index] + code + text[index:])
