"""The site of the documentation: it builds without warnings and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from reference_pages import commands_page, config_page  # noqa: E402
from site_pages import page_of_site, site_files, with_deeper_lists, write_site  # noqa: E402

from netinv_lightning.manual.keys import all_keys  # noqa: E402
from netinv_lightning.run import COMMANDS  # noqa: E402

LOADED = re.compile(
    r"<(?:script|img|source|iframe)\b[^>]*\b(?:src|srcset)=[\"']?(?:https?:)?//[^>]+>"
    r"|<link\b(?=[^>]*rel=[\"']?(?:stylesheet|icon|preload|preconnect))[^>]*href=[\"']?https?:[^>]+>"
    r"|@import[^;]*https?:|url\([\"']?https?:"
)
"""What a browser would load from another host. Links that a reader may follow are not loaded."""


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs the extra docs")
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    write_site(tmp_path / "build" / "pages")
    (tmp_path / "mkdocs.yml").write_text((ROOT / "mkdocs.yml").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "build" / "site"
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 45
    for path in [*pages, *site.rglob("*.css")]:
        assert LOADED.findall(path.read_text()) == [], path
    first = (site / "docs" / "applications" / "invert.html").read_text()
    assert 'src="../../experiments/natural_images/mnist_invert.png"' in first


def test_loading_from_another_host_is_recognised() -> None:
    for text in (
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="https://fonts.example/css">',
        "<img alt='' src=//cdn.example/x.png>",
        "body { background: url(https://cdn.example/x.png) }",
    ):
        assert LOADED.search(text), text
    assert not LOADED.search('<a href="https://arxiv.org/abs/2411.17777">paper</a>')


def test_every_page_of_the_repository_is_on_the_site() -> None:
    files = site_files()
    pages = {
        path.relative_to(ROOT).as_posix()
        for folder in ("docs", "experiments")
        for path in (ROOT / folder).rglob("*.md")
    }
    assert pages <= set(files)
    assert "README.md" in files


def test_the_reference_lists_every_key() -> None:
    page = config_page()
    for key in all_keys():
        last = key.name if key.name.count(".") == 0 else key.name.partition(".")[2]
        assert f"| `{last}` |" in page, key.name


def test_the_reference_has_the_usage_of_every_command() -> None:
    page = commands_page()
    for command in (*COMMANDS, "retry"):
        usage = page.partition(f"## {command}\n")[2].partition("\n## ")[0]
        assert f"netinv {command}" in usage, command


def test_links_to_files_outside_the_site_become_text() -> None:
    text = "[code](../tests/conftest.py) [page](verdict.md#metrics) [paper](https://x.y)"
    page = page_of_site(text, "docs/index.md", {"docs/verdict.md"})
    assert page == "code [page](verdict.md#metrics) [paper](https://x.y)"


def test_lists_are_indented_by_four_spaces_per_level() -> None:
    page = "- a\n  b\n\n  - c\n    d\n1. e\n\n   ```\n     - f\n   ```\n\ntext\n\n    code"
    assert with_deeper_lists(page) == (
        "- a\n    b\n\n    - c\n        d\n1. e\n\n    ```\n      - f\n    ```\n\ntext\n\n    code"
    )


def test_the_gallery_has_every_figure() -> None:
    """The single strips of `training_size` are parts of its figure 5."""
    text = (ROOT / "docs" / "gallery.md").read_text()
    figures = {path for path in (ROOT / "experiments").rglob("*.png") if "strips" not in path.parts}
    shown = {(ROOT / "docs" / path).resolve() for path in re.findall(r"!\[.+?\]\((.+?)\)", text)}
    assert shown == figures
