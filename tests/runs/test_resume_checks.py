"""`resume=` before anything is computed: damaged checkpoints, and the whole command repeated."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import netinv_lightning
from netinv_lightning.errors import InputError
from netinv_lightning.runs.resume import resumed_config
from netinv_lightning.runs.run_directory import RunDir

DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:60]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a checkpoint"),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_not_resumed(damage: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    with zipfile.ZipFile(checkpoint, "w") as content:
        content.writestr("archive/data.pkl", b"0123456789" * 10)
    RunDir(tmp_path, resuming=True).check_usable()
    DAMAGES[damage](checkpoint)
    with pytest.raises(
        InputError, match=r"last.ckpt is not a complete checkpoint .*; remove it to"
    ):
        RunDir(tmp_path, resuming=True).check_usable()


def test_repeated_command_of_measure_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of measure stores the path, classifier and data of the run that it measures."""
    monkeypatch.chdir(tmp_path)
    words = ["application=measure", "application.run=run", "logger.project=p"]
    saved = netinv_lightning.compose(words)
    saved.application.run = str(tmp_path / "run")
    saved.classifier.zoo, saved.classifier.path = None, "mine.safetensors"
    saved.data.val_fraction = 0.25
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "config.yaml").write_text(OmegaConf.to_yaml(saved, resolve=True))
    again = [*words, "resume=measured"]
    cfg = resumed_config(netinv_lightning.compose(again), again)
    assert (cfg.classifier.path, cfg.data.val_fraction) == ("mine.safetensors", 0.25)
    assert cfg.application.run == str(tmp_path / "run")
    other = [*again, "classifier.path=other.safetensors"]
    with pytest.raises(InputError, match=r"classifier.path cannot be changed"):
        resumed_config(netinv_lightning.compose(other), other)
    elsewhere = [word.replace("=run", "=run2") for word in again]
    with pytest.raises(InputError, match=r"application.run cannot be changed"):
        resumed_config(netinv_lightning.compose(elsewhere), elsewhere)
