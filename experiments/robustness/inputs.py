"""Make small damaged weights, data and finished runs in one folder, for the cases."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from experiments.jobs import NETINV

SMALL = [
    "generator=tiny", "application.steps=8", "application.batch_size=8", "application.log_every=2",
    "application.grid_every=4",
    "application.checkpoint_every=4", "application.eval_samples=64",
    "application.eval_batch_size=32", "application.keep_samples=16",
    "application.grid_columns=2",
]  # fmt: skip
"""Overrides of an inversion that takes a few seconds."""


def make_weights(folder: Path) -> None:
    """Write checkpoints of `classifier=cnn`, each damaged in one way, and arrays of images."""
    folder.mkdir(parents=True)
    state = {"layer.weight": torch.zeros(3, 3), "layer.bias": torch.zeros(3)}
    save_file(state, folder / "foreign.safetensors")
    whole = (folder / "foreign.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-7])
    (folder / "longer.safetensors").write_bytes(whole + b"more")
    (folder / "header.safetensors").write_bytes((10**12).to_bytes(8, "little") + whole[8:])
    (folder / "text.safetensors").write_text("these are no weights")
    (folder / "empty.safetensors").touch()
    (folder / "empty.pt").touch()
    (folder / "folder.pt").mkdir()
    torch.save(state, folder / "foreign.pt")
    (folder / "epoch=3-step=100.ckpt").write_bytes((folder / "foreign.pt").read_bytes())
    np.savez(folder / "good.npz", X=np.zeros((100, 28, 28), np.uint8), y=np.arange(100) % 10)
    for name, classes in (("labels_from_1", [1, 2, 3]), ("labels_with_a_gap", [0, 1, 3])):
        y = np.resize(classes, 100)
        np.savez(folder / f"{name}.npz", X=np.zeros((100, 28, 28), np.uint8), y=y)
    (folder / "cut.npz").write_bytes((folder / "good.npz").read_bytes()[:500])
    (folder / "text.npz").write_text("no arrays")
    (folder / "empty.npz").touch()
    (folder / "pickle.npz").write_bytes(pickle.dumps({"X": 1}))
    (folder / "no_classes").mkdir()
    (folder / "no_classes" / "image.png").touch()


def make_run(folder: Path) -> Path:
    """Execute an inversion and return its run directory.

    Raises:
        RuntimeError: If the inversion fails; the message is its error output.
    """
    done = subprocess.run(
        [*NETINV, *SMALL, f"hydra.run.dir={folder}"],
        capture_output=True,
        text=True,
        cwd=folder.parent,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return folder


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _edit(old: str, new: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return edit


def _summary(change: Callable[[dict[str, float]], object]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return rewrite


CHECKPOINT, SUMMARY, CONFIG, STATUS = (
    "checkpoints/last.ckpt",
    "summary.json",
    "config.yaml",
    "status.json",
)
DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "checkpoint cut": (CHECKPOINT, _cut),
    "checkpoint empty": (CHECKPOINT, lambda path: path.write_bytes(b"")),
    "checkpoint of text": (CHECKPOINT, lambda path: path.write_text("not a checkpoint")),
    "checkpoint a folder": (CHECKPOINT, _folder),
    "checkpoint gone": (CHECKPOINT, Path.unlink),
    "summary gone": (SUMMARY, Path.unlink),
    "summary empty": (SUMMARY, lambda path: path.write_text("")),
    "summary a list": (SUMMARY, lambda path: path.write_text("[1, 2]")),
    "summary with NaN": (
        SUMMARY,
        _summary(lambda summary: {**summary, "inversion/accuracy": float("nan")}),
    ),
    "summary with text": (
        SUMMARY,
        _summary(lambda summary: {**summary, "inversion/accuracy": "high"}),
    ),
    "summary without metrics": (SUMMARY, lambda path: path.write_text("{}")),
    "status gone": (STATUS, Path.unlink),
    "status damaged": (STATUS, _cut),
    "config gone": (CONFIG, Path.unlink),
    "config empty": (CONFIG, lambda path: path.write_text("")),
    "config not YAML": (CONFIG, lambda path: path.write_text("seed: [1")),
    "config a list": (CONFIG, lambda path: path.write_text("- 1\n- 2\n")),
    "unknown method": (CONFIG, _edit("method:\n  name: generator", "method:\n  name: telepathy")),
    "unknown application": (CONFIG, _edit("name: invert\n  steps", "name: divert\n  steps")),
    "unknown loss": (CONFIG, _edit("cosine:", "cosinus:")),
    "unknown key": (CONFIG, _edit("n_generators:", "generators:")),
}
"""Kinds of damage to a finished run: the file, and a function that damages it."""


def damage_runs(run: Path, folder: Path) -> None:
    """Copy a run to `folder` once per kind of damage, and damage one file in each copy.

    The copies have the names of `DAMAGES`, with _ instead of blanks.
    """
    folder.mkdir()
    for name, (file, damage) in DAMAGES.items():
        copy = folder / name.replace(" ", "_")
        shutil.copytree(run, copy, symlinks=True)
        damage(copy / file)
