"""What pyproject.toml declares is what the package imports, and what a package index shows."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import netinv_lightning

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "netinv_lightning"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
DISTRIBUTIONS = {
    "pysat": "python-sat",
    "PIL": "pillow",
    "hydra": "hydra-core",
    "markupsafe": "jinja2",
    "pytorch_ood": "pytorch-ood",
    "sklearn": "scikit-learn",
    "wandb_workspaces": "wandb-workspaces",
    "yaml": "pyyaml",
    "optuna": "hydra-optuna-sweeper",
    "submitit": "hydra-submitit-launcher",
    **dict.fromkeys(("fastapi", "starlette", "uvicorn"), "gradio"),
}
"""Requirements that bring a package of another name, or another package."""
OF_EXTRAS = ("dashboard", "explorer")
"""Packages of this project that are imported only if an extra is used."""


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}  # type: ignore[index]


def imports(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the requirements of the imports among statements."""
    for node in body:
        modules = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
        for name in (module.partition(".")[0] for module in modules):
            if name not in sys.stdlib_module_names and name != PACKAGE.name:
                yield DISTRIBUTIONS.get(name, name)


def test_every_import_is_declared() -> None:
    declared = requirement_names(PROJECT["project"]["dependencies"])
    declared |= {name for of in EXTRAS.values() for name in requirement_names(of)}
    imported = {
        name
        for file in PACKAGE.rglob("*.py")
        for name in imports([*ast.walk(ast.parse(file.read_text()))])  # type: ignore[list-item]
    }
    assert len(imported) > 20
    assert imported - declared == set()


def test_the_core_imports_no_extra_when_it_is_loaded() -> None:
    core = requirement_names(PROJECT["project"]["dependencies"])
    needed = {
        f"{file.relative_to(PACKAGE)}: {name}"
        for file in PACKAGE.rglob("*.py")
        if file.relative_to(PACKAGE).parts[0] not in OF_EXTRAS
        for name in imports(ast.parse(file.read_text()).body)
        if name not in core
    }
    assert needed == set()


def test_every_requirement_has_a_lower_bound() -> None:
    every = [*PROJECT["project"]["dependencies"], *(part for of in EXTRAS.values() for part in of)]
    assert [
        part for part in every if not re.search(r">=|==", part) and PACKAGE.name not in part
    ] == []


def test_the_readme_of_an_index_has_no_relative_links() -> None:
    readme = (ROOT / "README.md").read_text()
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for rule in hook["substitutions"]:
        readme = re.sub(rule["pattern"], rule["replacement"], readme)
    assert re.findall(r"\]\((?!https?:)[^)]*\)|<img", readme) == []
    assert "[Suhail, Tang, Sethi, 2024," in readme
    assert "| invert | Generate images" in readme


def test_versions_agree() -> None:
    version = PROJECT["project"]["version"]
    assert netinv_lightning.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
