"""Write the pages of the site to a folder: those of the repository, and those made from the schema.

python docs/site_pages.py build/pages

Paths below the folder are those of the repository, so that links between docs/, experiments/ and
README.md work on the site as they do in the repository. The generator of the site then reads
ordinary files; it can be replaced without changing the pages.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from reference_pages import pages  # beside this file

ROOT = Path(__file__).parents[1]
SHOWN = (".md", ".png", ".csv", ".ipynb", ".css")
"""Files of docs/ and experiments/ that are part of the site. Links to others become plain text."""
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(
    r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s]+)(?:\s+\"[^\"]*\")?\)"
)
ITEM = re.compile(r" *(?:[-*]|\d+\.) +")


def site_files() -> list[str]:
    """Return the paths of the site's files of the repository, relative to its root."""
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in ("docs", "experiments")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in SHOWN and "data" not in path.parts
    ]
    return [*TOP, *found]


def write_site(target: Path) -> None:
    """Write all pages and pictures below `target`, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    files, made = site_files(), pages()
    known = {*files, *made}
    for path in files:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".md"):
            text = (ROOT / path).read_text(encoding="utf-8")
            (target / path).write_text(page_of_site(text, path, known), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / path, target / path)
    for path, text in made.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text, encoding="utf-8")


def page_of_site(text: str, path: str, known: set[str]) -> str:
    """Return a page of the repository as the generator reads it.

    Args:
        text: The page.
        path: Its path, relative to the root of the repository.
        known: Paths of the files of the site. Links to other files become plain text.
    """

    def without_dead_link(match: re.Match[str]) -> str:
        linked = (ROOT / path).parent / match[2].partition("#")[0]
        inside = linked.resolve().relative_to(ROOT).as_posix()
        return match[0] if inside in known else match[1]

    return with_deeper_lists(LINK.sub(without_dead_link, text))


def with_deeper_lists(text: str) -> str:
    """Indent what belongs to an item of a list by four spaces per level.

    The pages are indented as in CommonMark, to the text of the item; Python-Markdown reads four.
    Blocks of code in fences are moved as a whole.
    """
    lines: list[str] = []
    columns: list[int] = []  # where the text of each open item begins
    in_fence = False
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        if not in_fence and line.strip():
            while columns and indent < columns[-1]:
                columns.pop()
        base = columns[-1] if columns else 0
        lines.append(" " * (4 * len(columns)) + line[base:] if line.strip() else "")
        if line.lstrip().startswith("```"):
            in_fence = not in_fence
        item = ITEM.match(line)
        if item and not in_fence and indent < base + 4:
            columns.append(len(item[0]))
    return "\n".join(lines)


if __name__ == "__main__":
    write_site(Path(sys.argv[1]))
