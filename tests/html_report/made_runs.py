"""Run and sweep directories that no run wrote, and the elements of their pages."""

from __future__ import annotations

import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from netinv_lightning.html_report.command import main

HOSTILE = "<img src=x onerror=alert(1)>"
VERDICT = {
    "verdict": "adversarial noise",
    "line": "verdict: adversarial noise: other networks disagree (inversion/accuracy 0.900)",
    "evidence": [
        {
            "question": "agree?",
            "metric": "inversion/accuracy",
            "value": 0.9,
            "threshold": 0.55,
            "passed": True,
            "margin": 0.35,
        },
        {
            "question": "others?",
            "metric": "transfer/accuracy",
            "value": 0.2,
            "threshold": 0.5,
            "passed": False,
            "margin": -0.3,
        },
    ],
    "not_tested": [],
    "diagnosis": [
        {
            "failure": "noise",
            "meaning": "not recognised",
            "metric": "transfer/accuracy",
            "value": 0.2,
            "threshold": 0.5,
            "settings": ["loss=natural"],
        },
    ],
}


def made_run(
    path: Path,
    accuracy: float = 0.9,
    state: str = "done",
    words: tuple[str, ...] = ("seed=0",),
    **status: Any,
) -> Path:
    """Write a run directory like that of `application=invert`, with a grid of noise."""
    (path / "figures").mkdir(parents=True)
    config = {
        "name": "made",
        "seed": 0,
        "application": {"name": "invert", "lr": 0.1},
        "data": {"name": "mnist"},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "environment.json").write_text(
        json.dumps({"command": ["netinv", "+experiment=made", *words], "git_sha": "abc"})
    )
    (path / "status.json").write_text(
        json.dumps(
            {"state": state, "best_metric": accuracy, "seconds": 61.0, "error": None, **status}
        )
    )
    summary = {
        "inversion/accuracy": accuracy,
        "transfer/accuracy": 1 - accuracy,
        "cost/seconds": 50.0,
        f"ood/{'long_' * 7}/auroc": 0.5,
    }
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "verdict.json").write_text(json.dumps(VERDICT))
    steps = [f"{step},{1 / (step + 1)},{step / 40}," for step in range(40)]
    (path / "metrics.csv").write_text(
        "\n".join(["step,loss/kl,inversion/accuracy_train,cost/seconds", *steps, "40,,,50.0"])
        + "\n"
    )
    (path / "run.log").write_text("it began\n")
    draw(path / "figures" / "grid.png")
    return path


def draw(path: Path, side: int = 300) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def files_of(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in path.rglob("*")
        if file.is_file()
    }


def made_sweep(path: Path) -> Path:
    """Write a sweep of two settings and three seeds: one job failed, one did not start."""
    jobs = {
        str(3 * s + seed): ["+experiment=made", f"loss.kl.weight={w}", f"seed={seed}"]
        for s, w in enumerate((1, 10))
        for seed in (0, 1, 2)
    }
    for number, overrides in jobs.items():
        if number == "5":
            continue
        failed = number == "4"
        made_run(
            path / number,
            0.5 + int(number) / 10,
            "failed" if failed else "done",
            tuple(overrides),
            error="out of memory" if failed else None,
        )
    command = [
        "-m",
        "+experiment=made",
        "loss.kl.weight=1,10",
        "seed=0,1,2",
        f"hydra.sweep.dir={path}",
    ]
    (path / "sweep.json").write_text(
        json.dumps({"command": command, "cwd": "/", "overrides": command[1:4], "jobs": jobs})
    )
    return path


class Elements(HTMLParser):
    """HTML parser that collects the elements of a page, their attributes and the visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._hidden = False
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("script", "style")
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    def each(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_of(directory: Path, capsys: pytest.CaptureFixture[str]) -> Elements:
    assert main([str(directory)]) == 0
    path = Path(capsys.readouterr().out.splitlines()[-1])
    return Elements(path.read_text())
