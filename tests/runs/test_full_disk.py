"""The message of a full disk names it, whichever disk it is and whichever library noticed."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from netinv_lightning.runs import full_disk
from netinv_lightning.runs.full_disk import mount_point

Usage = namedtuple("Usage", "free")


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A disk with free space for the run, and a full one for the cached classifiers."""
    full = tmp_path / "full"
    full.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path in (full, Path("/")))
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: Usage(7 if Path(path).is_relative_to(full) else 10**9)
    )
    return {
        "the run directory": tmp_path / "run",
        "classifier.kept_in": full / "classifiers" / "more",
    }


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),  # a write that names no file
        ValueError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),  # of safetensors
        RuntimeError(
            "[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"
        ),  # of torch
    ],
    ids=["python", "safetensors", "torch"],
)
def test_the_disk_with_the_least_free_space_is_named(
    disks: dict[str, Path], tmp_path: Path, error: Exception
) -> None:
    full = f"{tmp_path}/full"
    place = f"{full} has 7 bytes free; writing classifier.kept_in={full}/classifiers/more"
    assert full_disk.full_disk(error, disks) == f"the disk is full ({place})"


def test_the_file_that_an_error_names_has_priority(disks: dict[str, Path]) -> None:
    message = full_disk.full_disk(
        OSError(errno.ENOSPC, "No space left on device", "/elsewhere/file"), disks
    )
    assert message == "the disk is full (/ has 1000000000 bytes free; writing /elsewhere/file)"
    quota = full_disk.full_disk(OSError(errno.EDQUOT, "", "/elsewhere/file"), disks)
    assert quota == "disk quota exceeded (/ has 1000000000 bytes free; writing /elsewhere/file)"


def test_other_errors_do_not_mean_a_full_disk(disks: dict[str, Path], tmp_path: Path) -> None:
    assert full_disk.full_disk(OSError(errno.EACCES, "Permission denied"), disks) is None
    assert full_disk.full_disk(RuntimeError("shapes do not match"), disks) is None
    roomy = {"the run directory": tmp_path / "run"}
    assert (
        full_disk.full_disk(RuntimeError("inline_container.cc:668: file not found"), roomy) is None
    )


def test_a_missing_path_has_the_mount_point_of_its_folder() -> None:
    assert mount_point(Path("/not/there/yet")) == Path("/")
