"""The directory of a sweep, and its manifest `sweep.json`: the command, and the jobs by number.

A job keeps its number, so the same command in the same directory continues the sweep.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.file_writing import (
    check_writable_content,
    separate_hard_links,
    write_json,
)
from netinv_lightning.runs.outside_files import read_json
from netinv_lightning.runs.run_directory import RunDir, read_status

MANIFEST = "sweep.json"
LOCK = ".sweep.lock"


class Sweep:
    """Directory of one sweep, with a number for each job.

    Args:
        path: The directory; created here.
        overrides: The words of the command line without Hydra's own settings.

    Attributes:
        jobs: The overrides of each job, by its number.
        errors: The error of each job that failed in this process, by its number. They have priority
            over `status.json`.

    Raises:
        InputError: if the directory contains another sweep, or another process runs this sweep.
    """

    def __init__(self, path: Path, overrides: list[str]) -> None:
        self.path, self.overrides = path, overrides
        self.errors: dict[int, BaseException] = {}
        self.numbered: set[int] = set()
        manifest = self._manifest(overrides=overrides, jobs={})
        if manifest["overrides"] != overrides:
            raise InputError(
                f"hydra.sweep.dir={path}: contains another sweep "
                f"({' '.join(manifest['overrides'])}); continue that one with netinv retry {path}, "
                "or choose another directory"
            )
        self.jobs: dict[int, list[str]] = {
            int(number): job for number, job in manifest["jobs"].items()
        }
        path.mkdir(parents=True, exist_ok=True)
        check_writable_content(path, deep=False)
        self.lock = FileLock(path / LOCK, timeout=0)
        try:
            self.lock.acquire()
        except Timeout:
            raise InputError(
                f"hydra.sweep.dir={path}: another process runs this sweep; wait for it, or stop it"
            ) from None
        separate_hard_links(path, deep=False)
        self._save()

    def directory(self, number: int) -> Path:
        """Return the run directory of a job."""
        return self.path / str(number)

    def state(self, number: int) -> str | None:
        """Return the state of a job; None if it never started."""
        return read_status(self.directory(number)).get("state")

    def number_jobs(self, batch: Sequence[Sequence[str]]) -> list[int]:
        """Return the number of each job: its number in the manifest, or the next free one."""
        numbers = []
        for overrides in map(list, batch):
            known = (
                number
                for number, job in self.jobs.items()
                if job == overrides and number not in self.numbered
            )
            number = next(known, max(self.jobs, default=-1) + 1)
            self.jobs[number] = overrides
            self.numbered.add(number)
            numbers.append(number)
        self._save()
        return numbers

    def close(self) -> None:
        """Release the directory; remove it if it contains no job."""
        self.lock.release()
        if not self.jobs:
            for name in (LOCK, MANIFEST, "multirun.yaml"):
                (self.path / name).unlink(missing_ok=True)
            RunDir(self.path).discard()

    def _manifest(self, **default: Any) -> dict[str, Any]:
        return read_manifest(self.path) if (self.path / MANIFEST).exists() else default

    def _save(self) -> None:
        """Write the manifest; a continued sweep keeps its first command and working directory."""
        first = self._manifest(command=sys.argv[1:], cwd=os.getcwd())
        content = {**first, "overrides": self.overrides, "jobs": self.jobs}
        write_json(self.path / MANIFEST, content)


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the content of `sweep.json` in the directory of a sweep.

    Raises:
        InputError: if it is missing or damaged.
    """
    try:
        manifest = read_json(path / MANIFEST, path)
        _check_manifest(manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path}: is not a sweep (it has no {MANIFEST}); give a directory in sweeps/"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path / MANIFEST}: is damaged ({one_line(error)}); start the sweep again"
        ) from None
    return dict(manifest)


def _check_manifest(manifest: Any) -> None:
    """Refuse a manifest whose keys or types are wrong.

    Raises:
        ValueError: naming the reason.
    """
    if not isinstance(manifest, dict) or not {"command", "overrides", "jobs"} <= set(manifest):
        raise ValueError("keys are missing")
    jobs = manifest["jobs"]
    if not isinstance(jobs, dict) or not all(map(str.isdecimal, jobs)):
        raise ValueError("jobs are not numbered")
    if not isinstance(manifest.get("cwd", ""), str):
        raise ValueError("cwd is not a path")
    for words in (manifest["command"], manifest["overrides"], *jobs.values()):
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("a command is not a list of words")
