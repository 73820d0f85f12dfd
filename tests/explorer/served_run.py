"""The page of a short run, served by a process of its own."""

from __future__ import annotations

import json
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import netinv_lightning
from experiments.forked import Command
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.run import run
from tests.conftest import FEW_STEPS

NAMES = (
    "<img src=x onerror=document.title='run'>",
    "${value} {{value}}",
    "<b>two</b>",
    "3",
    "4",
    "5 & 6",
    "6",
    "7",
    "8",
    "nine",
)
"""Class names of a model card may be any text."""


@dataclass(frozen=True)
class Served:
    """Address, run directory, classifier and server process of a page."""

    address: str
    directory: Path
    classifier: Path
    process: Command
    stdout: Path
    stderr: Path
    uploads: list[Path] = field(default_factory=list)


@contextmanager
def served_run(folder: Path) -> Iterator[Served]:
    """Invert a zoo classifier briefly, give its classes unusual names, and serve the run."""
    classifier = folder / "mine.safetensors"
    shutil.copy(zoo_path("mnist_mlp"), classifier)
    shutil.copy(zoo_path("mnist_mlp").with_suffix(".json"), classifier.with_suffix(".json"))
    directory = folder / "run"
    of_its_own = [
        "+experiment=mnist_invert",
        "data=mnist5k",
        "classifier=checkpoint",
        f"classifier.path={classifier}",
    ]
    steps = [
        "application.verifiers=[]",
        "application.steps=150",
        "application.checkpoint_every=1000",
        "application.batch_size=32",
        "generator.dropout=0.3",
    ]
    run(netinv_lightning.compose([*FEW_STEPS, *of_its_own, *steps]), directory)
    # The names are changed after the run, because they do not fit into figures.
    card = json.loads(classifier.with_suffix(".json").read_text())
    card["data"]["class_names"] = NAMES
    classifier.with_suffix(".json").write_text(json.dumps(card))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stdout, stderr = folder / "stdout", folder / "stderr"
    arguments = ["explore", str(directory), f"--port={port}"]
    process = Command(arguments, cwd=folder, stdout=stdout, stderr=stderr)
    while "\n" not in stdout.read_text():  # printed when the server listens
        assert process.poll() is None, stderr.read_text()
        time.sleep(0.05)
    line = f"{directory} at http://127.0.0.1:{port}  (Ctrl-C to stop)\n"
    assert stdout.read_text() == line
    yield Served(f"http://127.0.0.1:{port}", directory, classifier, process, stdout, stderr)
    process.kill()
    process.wait()


def response_of(served: Served, route: str, body: bytes, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(f"{served.address}/gradio_api/{route}", body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
