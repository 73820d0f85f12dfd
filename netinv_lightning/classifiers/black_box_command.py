"""A command as a black box: it reads images from one .npy file and writes scores to another."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netinv_lightning.classifiers.black_box import Answer, BlackBoxError
from netinv_lightning.errors import one_line


def command_answer(command: Sequence[str]) -> Answer:
    """Return a function that runs a command on images and returns its scores.

    The command is run for each call, without a shell. Two arguments are added: the .npy file of the
    images, and the .npy file that it must write. Neither file can contain code.

    Args:
        command: The program and its arguments.
    """
    name = f"classifier.command={list(command)}"

    def answer(array_BCHW: NDArray[np.float32]) -> NDArray[Any]:
        with TemporaryDirectory() as folder:
            images, scores = Path(folder) / "images.npy", Path(folder) / "scores.npy"
            np.save(images, array_BCHW, allow_pickle=False)
            _run([*command, str(images), str(scores)], name)
            try:
                found: NDArray[Any] = np.load(scores, allow_pickle=False)
            except (ValueError, EOFError, OSError) as error:
                raise BlackBoxError(
                    f"{name}: must write an array of scores with numpy.save(sys.argv[-1], scores) "
                    f"({type(error).__name__})"
                ) from error
        return found

    return answer


def _run(command: Sequence[str], name: str) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise BlackBoxError(f"{name}: cannot be run ({error.strerror})") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise BlackBoxError(
            f"{name}: ended with status {done.returncode} ({one_line(lines[-1])[:200]})"
        )
