"""Processes that need the same classifier at the same time train it once.

If the training process is killed, another one continues.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from experiments.forked import Command
from netinv_lightning.classifiers.cache import cached_card
from tests.classifiers.test_cache import (
    ACCURACY,
    CPU,
    DATA,
    NETWORK,
    RECIPE,
    SECONDS,
    equal,
    generator,
)
from tests.conftest import FEW_STEPS

SHAPE = ["num_classes=10", "channels=1", "image_size=28"]
GATED = '''
import os
import time
from pathlib import Path

import torch

from netinv_lightning.classifiers.networks import MLP


class Gated(MLP):
    """Its training says who trains, and goes on once the gate is open."""

    def forward(self, x_BCHW):
        if self.training and torch.is_grad_enabled():
            Path(__file__).with_name(f"training.{os.getpid()}").touch()
            while not Path(__file__).with_name("open").exists():
                time.sleep(0.05)
        return super().forward(x_BCHW)
'''


def test_a_waiting_process_continues_a_killed_training(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    (tmp_path / "gated.py").write_text(GATED)
    network = [
        "classifier.network._target_=gated.Gated",
        *(f"+classifier.network.{fact}" for fact in SHAPE),
    ]
    overrides = [*CPU, *NETWORK, *DATA, *RECIPE, *FEW_STEPS, *network, "classifier.train=true"]
    environment = dict(os.environ) | {"NETINV_CLASSIFIERS": str(folder)}

    def start(job: str) -> Command:
        arguments = [*overrides, f"hydra.run.dir={tmp_path / job}"]
        out = tmp_path / f"{job}.out"
        return Command(arguments, cwd=tmp_path, stdout=out, stderr=out, environment=environment)

    def said(job: str) -> str:
        return (tmp_path / f"{job}.out").read_text()

    def trainings() -> set[int]:
        return {int(path.suffix[1:]) for path in tmp_path.glob("training.*")}

    def until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < end
            assert all(job.poll() in (None, -signal.SIGKILL) for job in jobs), [
                said(job.stem) for job in tmp_path.glob("*.out")
            ]
            time.sleep(0.05)

    jobs = [start("killed")]
    try:
        until(lambda: trainings() == {jobs[0].pid})
        jobs += [start("second"), start("third")]
        until(lambda: all("waiting for it" in said(job) for job in ("second", "third")))
        jobs[0].send_signal(signal.SIGKILL)
        jobs[0].wait()
        assert list(folder.glob("*/*")) == []
        until(lambda: len(trainings()) == 2)
        (tmp_path / "open").touch()
        assert [job.wait(timeout=120) for job in jobs[1:]] == [0, 0], said("second") + said("third")
    finally:
        for job in jobs:
            job.kill()
    assert len(trainings()) == 2
    assert len(list(folder.glob("*/classifier.json"))) == 1
    summaries = [
        json.loads((tmp_path / job / "summary.json").read_text()) for job in ("second", "third")
    ]
    assert sorted(SECONDS in summary for summary in summaries) == [False, True]
    assert summaries[0][ACCURACY] == summaries[1][ACCURACY]
    assert equal(generator(tmp_path / "second"), generator(tmp_path / "third"))
    assert (
        cached_card(next(folder.glob("*/classifier.json")).with_suffix(".safetensors")) is not None
    )
