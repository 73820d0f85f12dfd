"""trainer=ddp: a run in two processes equals the run in one."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import netinv_lightning
from experiments.forked import Command
from netinv_lightning import metric_names as names
from netinv_lightning.run import run
from tests.conftest import FEW_STEPS

FEW = [*FEW_STEPS, "application.steps=4", "data.root=nowhere"]


def losses_of(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [float(row[names.LOSS_TOTAL]) for row in rows if row[names.LOSS_TOTAL]]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the directory of a run in one process, by precision."""
    folder = tmp_path_factory.mktemp("one_process")
    for precision in ("64-true", "bf16-mixed"):
        run(netinv_lightning.compose([*FEW, f"trainer.precision={precision}"]), folder / precision)
    return {path.name: path for path in folder.iterdir()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def start_rank(command: list[str], rank: int, port: str, folder: Path) -> Command:
    """Start one of two processes with the environment that Lightning sets for its own processes."""
    launch = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "NODE_RANK": "0"}
    environment = {**os.environ, **launch, "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    output = folder / f"output_{rank}"
    return Command(command, cwd=folder, stdout=output, stderr=output, environment=environment)


def test_a_run_in_two_processes_equals_the_run_in_one(
    one_process: dict[str, Path], tmp_path: Path
) -> None:
    """Compare losses, weights and metrics, with dropout.

    Use double precision: Adam takes a full step even if a gradient is only a rounding error, and
    rounding differs between machines.
    """
    one, two = one_process["64-true"], tmp_path / "two"
    command = [*FEW, "trainer=ddp", "trainer.precision=64-true", f"hydra.run.dir={two}"]
    port = str(free_port())
    processes = [start_rank(command, rank, port, tmp_path) for rank in range(2)]
    for rank, process in enumerate(processes):
        assert process.wait(120) == 0, (tmp_path / f"output_{rank}").read_text()
    weights, of_two = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (one, two)
    )
    for name, value in weights.items():
        torch.testing.assert_close(of_two[name], value, rtol=0, atol=1e-7)
    assert len(losses_of(one)) == 2
    assert losses_of(two) == pytest.approx(losses_of(one), rel=1e-5)
    summary, found = (json.loads((path / "summary.json").read_text()) for path in (one, two))
    assert found[names.INVERSION_ACCURACY] == summary[names.INVERSION_ACCURACY]
    assert found[names.INVERSION_KL] == pytest.approx(summary[names.INVERSION_KL], rel=1e-5)


def test_the_command_in_two_processes_in_bfloat16(
    one_process: dict[str, Path], tmp_path: Path
) -> None:
    """Start the command once, as a user does.

    There is one run directory, printed once, and its losses are those of one process.
    """
    overrides = [*FEW, "trainer=ddp", "trainer.precision=bf16-mixed", "name=two"]
    command = [sys.executable, "-W", "ignore", "-m", "netinv_lightning.run", *overrides]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (two,) = (tmp_path / "runs" / "two").iterdir()
    assert done.stdout.splitlines().count(str(two)) == 1  # the second process prints nothing
    expected = losses_of(one_process["bf16-mixed"])
    assert losses_of(two) == pytest.approx(expected, rel=0.02)
    assert expected != pytest.approx(losses_of(one_process["64-true"]), rel=1e-6)  # bfloat16 rounds


TRAINING = [
    "application=train_classifier",
    "data=digits",
    "data.batch_size=64",
    "data.shift=1",
    "data.flip=true",
    "classifier=cnn",
    "+classifier.network={stages: [[4],[8]], hidden: 8, dropout: 0}",
    "recipe.epochs=2",
    "recipe.label_smoothing=0",
    "trainer.precision=64-true",
]


def test_a_classifier_trained_by_two_processes_equals_that_of_one(tmp_path: Path) -> None:
    """Compare weights, BatchNorm statistics and accuracies, with augmentation; no dropout."""
    one, two = tmp_path / "one", tmp_path / "two"
    metrics = run(netinv_lightning.compose(TRAINING), one)
    command = [*TRAINING, "trainer=ddp", f"hydra.run.dir={two}"]
    port = str(free_port())
    processes = [start_rank(command, rank, port, tmp_path) for rank in range(2)]
    for rank, process in enumerate(processes):
        assert process.wait(120) == 0, (tmp_path / f"output_{rank}").read_text()
    weights, of_two = (load_file(folder / "classifier.safetensors") for folder in (one, two))
    assert any("running_var" in name for name in weights)
    for name, value in weights.items():
        torch.testing.assert_close(of_two[name], value, rtol=0, atol=1e-7)
    found = json.loads((two / "summary.json").read_text())
    for name in (names.CLASSIFIER_LOSS, names.CLASSIFIER_VAL_ACCURACY):
        assert found[name] == pytest.approx(metrics[name], rel=1e-6)
    for name in (names.CLASSIFIER_TEST_ACCURACY, names.CLASSIFIER_TRAIN_ACCURACY):
        assert found[name] == metrics[name]
