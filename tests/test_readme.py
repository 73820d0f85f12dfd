"""Every command of the README composes, and every file that it links to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import netinv_lightning
from netinv_lightning.applications import APPLICATIONS
from netinv_lightning.run import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    """The `netinv` commands in code blocks, continued lines joined, comments dropped."""
    joined = README.replace("\\\n", " ")
    lines = [line.strip().split("  #")[0] for line in joined.splitlines() if line.startswith("    netinv ")]
    return [line for line in lines if "resume=" not in line and line.split()[1] not in ("retry", *COMMANDS)]


@pytest.mark.parametrize("command", commands())
def test_every_command_composes(command: str) -> None:
    overrides = [word for word in shlex.split(command)[1:] if word != "-m"]
    first_of_sweep = [word if "[" in word or "{" in word else word.split(",")[0] for word in overrides]
    assert netinv_lightning.compose(first_of_sweep).application.name in APPLICATIONS


def test_there_are_commands() -> None:
    assert len(commands()) >= 14


def test_every_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *ROOT.glob("experiments/**/README.md")]:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
