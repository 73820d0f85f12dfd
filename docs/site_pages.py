"""The pages of the site: those of the repository in their places, and those made from the schema.

MkDocs calls the functions that begin with `on_`. Its pages are normally those of one folder; here
they are also README.md and the pages of experiments/, so that links between them work on the site
as they do in the repository.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

HERE = Path(__file__).parent
ROOT = HERE.parent
SHOWN = (".md", ".png", ".csv")
"""Files of docs/ and experiments/ that are part of the site. Links to others become plain text."""
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE")
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)([^)\s]+)(?: \"[^\"]*\")?\)")
ITEM = re.compile(r"( *)((?:[-*]|\d+\.) +)")


def site_files() -> list[str]:
    """Return the paths of the site's files of the repository, relative to its root."""
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in ("docs", "experiments")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in SHOWN and "data" not in path.parts
    ]
    return [*TOP, *found]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by those of the whole repository, and add the made pages."""
    sys.path.insert(0, str(HERE))
    from reference_pages import pages  # beside this file

    of_theme = [file for file in files if not str(file.abs_src_path or "").startswith(str(HERE))]
    own = [
        File.generated(config, path, abs_src_path=str(ROOT / path)) for path in site_files()
    ]
    made = [File.generated(config, path, content=text) for path, text in pages().items()]
    return Files([*of_theme, *own, *made])


def on_page_markdown(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write a page as MkDocs reads it."""
    folder = Path(page.file.src_uri).parent

    def without_dead_link(match: re.Match[str]) -> str:
        target = (ROOT / folder / match[2].partition("#")[0]).resolve()
        inside = target.is_relative_to(ROOT) and target.relative_to(ROOT).as_posix()
        return match[0] if inside and files.get_file_from_path(inside) else match[1]

    return deeper_lists(LINK.sub(without_dead_link, text))


def deeper_lists(text: str) -> str:
    """Indent what belongs to an item of a list by four spaces per level.

    The pages are indented as in CommonMark, to the text of the item; Python-Markdown reads four.
    """
    lines, columns, fence = [], [], ""
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip())
        if line.strip() and not fence:
            while columns and indent < columns[-1]:
                columns.pop()
        depth = len(columns)
        base = columns[-1] if columns else 0
        lines.append(" " * (4 * depth) + line[base:] if line.strip() else "")
        mark = line.strip()[:3]
        if mark == "```":
            fence = "" if fence else mark
        item = ITEM.match(line)
        if item and not fence and (len(item[1]) == base or (columns and len(item[1]) < base + 4)):
            columns.append(len(item[0]))
    return "\n".join(lines)
