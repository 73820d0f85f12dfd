"""The GPU check (experiments/gpu_check), on a CPU."""

from __future__ import annotations

import ast
import math
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

GPU_CHECK = Path(__file__).parents[2] / "experiments" / "gpu_check" / "run.py"
FEW_PACKAGES = {
    "torch",
    "lightning",
    "torchmetrics",
    "hydra",
    "omegaconf",
    "safetensors",
    "numpy",
    "filelock",
    "yaml",
}
"""filelock comes with torch, yaml with omegaconf."""


def imported(file: Path) -> Iterator[str]:
    """Yield the names of the modules that a file imports when it is loaded."""

    def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for statement in body:
            if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
                continue
            yield statement
            if not isinstance(statement, ast.FunctionDef):
                yield from statements(getattr(statement, "body", []))

    for statement in statements(ast.parse(file.read_text()).body):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def test_the_gpu_check_needs_few_packages() -> None:
    root, seen, packages, queue = GPU_CHECK.parents[2], set(), set(), [GPU_CHECK]
    while queue:
        for name in imported(queue.pop()):
            parts = name.split(".")
            if parts[0] != "netinv_lightning":
                packages.add(parts[0])
                continue
            for depth in range(1, len(parts) + 1):
                path = root.joinpath(*parts[:depth])
                for file in (path.with_suffix(".py"), path / "__init__.py"):
                    if file.is_file() and file not in seen:
                        seen.add(file)
                        queue.append(file)
    assert len(seen) > 40
    assert packages - set(sys.stdlib_module_names) <= FEW_PACKAGES


def test_the_gpu_check_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    check = runpy.run_path(str(GPU_CHECK))
    monkeypatch.setattr(
        sys, "argv", ["run.py", "--device", "cpu", "--only", "gradient", "two generators"]
    )
    assert check["main"]() == 0
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert torch.__version__ in head
    assert [line[:27].split("  ")[0] for line in lines] == ["gradient", "two generators"] * 2
    assert all(
        re.fullmatch(r".{16} (32-true|bf16-mixed) +\d+\.\d s  ok  [01]\.\d{3}", line)
        for line in lines
    )
    assert last == "4 of 4 checks passed"
    monkeypatch.setitem(check["CHECKS"], "gradient", (lambda precision, device: math.nan, 0.0))
    monkeypatch.setattr(sys, "argv", ["run.py", "--device", "cpu", "--only", "gradient"])
    assert check["main"]() == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["run.py"])
    assert check["main"]() == 2
    assert capsys.readouterr().err.startswith("gpu-check: no CUDA device")
