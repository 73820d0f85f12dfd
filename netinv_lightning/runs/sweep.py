"""Sweeps (`-m`): every job counts, and no job is done twice.

`SweepLauncher` stands between any sweeper of Hydra's (grid, Optuna) and any launcher (basic, joblib, submitit). It gives
each job its place and writes it into `sweep.json` before the job starts; hands over only jobs that are not done; and
starts again what a killed worker took with it. So the same command into the same directory, which is all that
`netinv retry` is, goes on where a sweep ended. What came out: netinv_lightning/runs/sweep_table.py.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from netinv_lightning.config.error_messages import explain
from netinv_lightning.config.outside_config import check_words
from netinv_lightning.errors import InputError, Preempted, one_line
from netinv_lightning.runs.optuna_study import continue_study
from netinv_lightning.runs.outside_files import check_writable_content, read_json
from netinv_lightning.runs.resume import changed_keys, read_config
from netinv_lightning.runs.run_directory import RunDir, write_atomically
from netinv_lightning.runs.signals import (
    SIGTERM_STATUS,
    end_with_parent,
    exit_on_sigterm,
    submitit_waits_for_all,
)
from netinv_lightning.runs.sweep_table import read_status, sweep_rows, sweep_status, write_table

MANIFEST = "sweep.json"


class Sweep:
    """One sweep's directory and its manifest: the command, and each job's overrides by number.

    Args:
        path: The directory; made here.
        overrides: What the command line said, without Hydra's own settings.

    Raises:
        InputError: if the directory holds another sweep, or another process runs this one.
    """

    def __init__(self, path: Path, overrides: list[str]) -> None:
        self.path = path
        self.errors: dict[
            int, BaseException
        ] = {}  # of this process's jobs; more recent than any status.json
        self.entered: set[int] = set()
        before: dict[str, Any] = (
            read_manifest(path)
            if (path / MANIFEST).exists()
            else {"overrides": overrides, "jobs": {}}
        )
        if before["overrides"] != overrides:
            raise InputError(
                f"hydra.sweep.dir={path}: holds another sweep ({' '.join(before['overrides'])}); continue that one with "
                f"netinv retry {path}, or choose another directory"
            )
        self.jobs: dict[int, list[str]] = {
            int(number): job for number, job in before["jobs"].items()
        }
        path.mkdir(parents=True, exist_ok=True)
        check_writable_content(path, deep=False)
        self.lock = FileLock(path / ".sweep.lock", timeout=0)
        try:
            self.lock.acquire()
        except Timeout:
            raise InputError(
                f"hydra.sweep.dir={path}: another process runs this sweep; wait for it, or stop it"
            ) from None
        self.overrides = overrides
        self.save()

    def directory(self, number: int) -> Path:
        return self.path / str(number)

    def state(self, number: int) -> str | None:
        return read_status(self.directory(number)).get("state")

    def save(self) -> None:
        """A retry gives the first command again, so a continued sweep keeps it, and the folder that it was given in."""
        old = (
            read_manifest(self.path)
            if (self.path / MANIFEST).exists()
            else {"command": sys.argv[1:], "cwd": os.getcwd()}
        )
        write_atomically(
            self.path / MANIFEST,
            json.dumps({**old, "overrides": self.overrides, "jobs": self.jobs}, indent=2) + "\n",
        )

    def enter(self, batch: Sequence[Sequence[str]]) -> list[int]:
        """The number of each job: the one that it has in the manifest already, else the next."""
        numbers = []
        for overrides in map(list, batch):
            known = (
                number
                for number, job in self.jobs.items()
                if job == overrides and number not in self.entered
            )
            number = next(known, max(self.jobs, default=-1) + 1)
            self.jobs[number] = overrides
            self.entered.add(number)
            numbers.append(number)
        self.save()
        return numbers

    def close(self) -> None:
        """Frees the directory; one in which no job was to run is removed."""
        self.lock.release()
        if not self.jobs:
            for name in (".sweep.lock", MANIFEST, "multirun.yaml"):
                (self.path / name).unlink(missing_ok=True)
            RunDir(self.path).discard()


class SweepLauncher(Launcher):
    """Launches by another launcher, so that each job ends in a known state and none takes others with it."""

    def __init__(self, launcher: Launcher, sweep: Sweep) -> None:
        self.launcher, self.sweep = launcher, sweep

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs the batch; a sweeper gets the best metric of each job, and None (no exception) of one that failed."""
        sweep = self.sweep
        numbers = sweep.enter(job_overrides)
        with exit_on_sigterm(), submitit_waits_for_all():
            self._launch([number for number in numbers if sweep.state(number) != "done"])
        returns = []
        for number in numbers:
            status = read_status(sweep.directory(number))
            value = status.get("best_metric") if status.get("state") == "done" else None
            returns.append(
                JobReturn(
                    overrides=sweep.jobs[number], status=JobStatus.COMPLETED, _return_value=value
                )
            )
        return returns

    def _launch(self, numbers: list[int], again: bool = False) -> None:
        if not numbers:
            return
        before = {number: self._stamp(number) for number in numbers}
        # The place is the job's, not the launcher's count, which begins at 0 in each launch.
        batch = [[*self.sweep.jobs[number], f"hydra.sweep.subdir={number}"] for number in numbers]
        try:
            returns = self.launcher.launch(batch, initial_job_idx=0)
        except Exception as error:  # the launcher itself, as when the system kills a worker of joblib's for its memory
            broken = RuntimeError(f"its process was killed ({type(error).__name__})")
            started = [number for number in numbers if self._stamp(number) != before[number]]
            if not started and not again:
                raise
            cut_off = (
                [number for number in started if self.sweep.state(number) == "running"]
                if started
                else numbers
            )
            self.sweep.errors.update(dict.fromkeys(cut_off, broken))
            if again and len(numbers) == 1:
                return
            print(
                f"a worker was killed; the {len(cut_off)} jobs that ran are started again, each alone",
                file=sys.stderr,
            )
            self._launch(
                [number for number in numbers if number not in started and number not in cut_off],
                again=True,
            )
            for number in cut_off:  # one of them may have brought it about
                self._launch([number], again=True)
        else:
            for number, done in zip(numbers, returns, strict=True):
                self.sweep.errors.pop(number, None)
                if done.status == JobStatus.FAILED:
                    self.sweep.errors[number] = done._return_value

    def _stamp(self, number: int) -> int | None:
        try:
            return (self.sweep.directory(number) / "status.json").stat().st_mtime_ns
        except OSError:
            return None


_sweep_here: Sweep | None = None
"""The sweep of this process; None in the workers of joblib and submitit."""


@contextmanager
def sweeps_watched() -> Iterator[Callable[[], Sweep | None]]:
    """Puts `SweepLauncher` into Hydra, which has no other place where every sweep passes; gives the sweep, if one came."""
    make_sweeper, make_launcher = Plugins.instantiate_sweeper, Plugins.instantiate_launcher

    def sweeper(
        self: Plugins,
        *,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
    ) -> Sweeper:
        global _sweep_here
        _check_overrides(config, hydra_context)
        _sweep_here = Sweep(
            Path(config.hydra.sweep.dir).absolute(), list(config.hydra.overrides.task)
        )
        continue_study(config)
        if _one_per_job(config) and config.hydra.launcher.get("n_jobs") == -1 and (gpus := _gpus()):
            with open_dict(config):
                config.hydra.launcher.n_jobs = gpus
        return make_sweeper(
            self, hydra_context=hydra_context, task_function=task_function, config=config
        )

    def launcher(
        self: Plugins, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> Launcher:
        assert _sweep_here is not None
        return SweepLauncher(make_launcher(self, hydra_context, task_function, config), _sweep_here)

    global _sweep_here
    _sweep_here = None
    with (
        patch.object(Plugins, "instantiate_sweeper", sweeper),
        patch.object(Plugins, "instantiate_launcher", launcher),
    ):
        try:
            yield lambda: _sweep_here
        finally:
            if _sweep_here is not None:
                _sweep_here.close()


def run_swept_job(cfg: DictConfig, job_dir: Path, run: Callable[..., Any]) -> float | None:
    """One job of a sweep, on whatever machine: runs it, goes on with it, or leaves it if it is done.

    Args:
        cfg: The job's config.
        job_dir: Its place in the sweep.
        run: `netinv_lightning.run.run`.

    Raises:
        InputError: if its input is wrong, or the directory holds another job.
        RuntimeError: if it failed; one line, since not every exception can travel between processes.
    """
    if _sweep_here is None:
        end_with_parent()
    status = read_status(job_dir)
    if status.get("state") == "done":
        return status.get("best_metric")
    begun = status.get("state") is not None and not status.get("refused")
    try:
        check_job(cfg)
        set_device(cfg)
        if begun:
            _check_same_job(cfg, job_dir)
        run(cfg, job_dir, resuming=bool(status))
    except (InputError, OmegaConfBaseException) as error:
        if not begun:
            run_dir = RunDir(job_dir)
            run_dir.record_refusal(cfg, explain(error))
            run_dir.record(refused=True)
        print(f"job {job_dir.name} refused: {one_line(explain(error))}", file=sys.stderr)
        raise InputError(explain(error)) from None
    except Exception as error:
        message = one_line(f"{type(error).__name__}: {error}")
        print(f"job {job_dir.name} failed: {message} (traceback in run.log)", file=sys.stderr)
        if _sweep_here is not None and isinstance(error, Preempted):
            raise SystemExit(SIGTERM_STATUS) from None  # ends the sweep, not this job alone
        raise RuntimeError(message) from None
    except SystemExit as end:
        ours = end.code == SIGTERM_STATUS or isinstance(end.__context__, KeyboardInterrupt)
        if ours or _sweep_here is None:  # submitit leaves a job so to put it back into the queue
            raise
        raise RuntimeError(f"exit({end.code}) was called") from None
    return read_status(job_dir).get("best_metric")


def finish_sweep(sweep: Sweep, status: int) -> int:
    """Writes and prints the table of the sweep, however it ended, and gives the exit status of the command.

    Args:
        sweep: The sweep.
        status: How Hydra's part ended; above 2 where a signal ended it.
    """
    if not sweep.jobs:
        return status
    rows = sweep_rows(sweep.path, sweep.jobs, sweep.errors)
    write_table(sweep.path, rows)
    return status if status > 2 else sweep_status(rows) or status


def check_job(cfg: DictConfig) -> None:
    """Refuses what cannot be in a sweep.

    Raises:
        InputError: naming the remedy.
    """
    if cfg.resume is not None:
        raise InputError(
            f"resume={cfg.resume}: continues one run, without -m; a sweep is continued with netinv retry SWEEP_DIRECTORY"
        )
    strategy, devices = str(cfg.trainer.get("strategy", "")), cfg.trainer.get("devices", "auto")
    by_script = strategy.startswith("ddp") and not any(
        kind in strategy for kind in ("spawn", "fork", "notebook")
    )
    if (
        by_script
        and str(devices) not in ("1", "one_per_job")
        and not (OmegaConf.is_list(devices) and len(devices) == 1)
    ):
        raise InputError(
            f"trainer.strategy={strategy}: would start the whole sweep again in every process; use trainer.strategy=ddp_spawn, or "
            f"trainer.devices=one_per_job with hydra/launcher=joblib"
        )


def set_device(cfg: DictConfig) -> None:
    """`trainer.devices=one_per_job`: the GPUs by turns, or one CPU process."""
    if _one_per_job(cfg):
        hydra_cfg: Any = (
            HydraConfig.instance().cfg
        )  # None in notebooks, and without a number outside a sweep
        number = (
            OmegaConf.select(hydra_cfg, "hydra.job.num", throw_on_missing=False) or 0
            if hydra_cfg
            else 0
        )
        cfg.trainer.devices = [number % gpus] if (gpus := _gpus()) else 1


def read_manifest(path: Path) -> dict[str, Any]:
    """`sweep.json` of a sweep's directory.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    try:
        manifest = read_json(path / MANIFEST, path)
        if not isinstance(manifest, dict) or not {"command", "overrides", "jobs"} <= set(manifest):
            raise ValueError("keys are missing")
        jobs = manifest["jobs"]
        if (
            not isinstance(jobs, dict)
            or not all(map(str.isdecimal, jobs))
            or not isinstance(manifest.get("cwd", ""), str)
        ):
            raise ValueError("jobs are not numbered")
        for words in (manifest["command"], manifest["overrides"], *jobs.values()):
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise ValueError("a command is not a list of words")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path}: is no sweep (it has no {MANIFEST}); give a directory below sweeps/"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path / MANIFEST}: is damaged ({one_line(error)}); start the sweep anew"
        ) from None
    return dict(manifest)


def retry_arguments(arguments: list[str]) -> list[str]:
    """`netinv retry SWEEP [hydra/launcher=...]`: the sweep's own command again, into its directory.

    Raises:
        InputError: if it is no sweep, or more than Hydra's own settings are to change.
    """
    if not arguments:
        raise InputError("retry: which sweep? netinv retry SWEEP_DIRECTORY")
    path = Path(arguments[0]).absolute()
    manifest = read_manifest(path)
    command, trusted = (
        manifest["command"],
        [argument for argument in arguments[1:] if argument.startswith("trusted=")],
    )
    further = [argument for argument in arguments[1:] if argument not in (*command, *trusted)]
    for argument in further:
        if not argument.lstrip("+~").startswith(("hydra.", "hydra/")):
            raise InputError(
                f"{argument}: would make other jobs of them; a retry takes the sweep, Hydra's own settings (hydra...=), words of the "
                "sweep's own command that need your consent, and trusted=[...]"
            )
    folder = Path(manifest.get("cwd", ""))
    if (
        folder.is_dir() and folder.resolve() != Path.cwd().resolve()
    ):  # paths of the command are relative to it
        os.chdir(folder)
        os.environ["PYTHONSAFEPATH"] = (
            "1"  # no process that is started there imports what lies there under the name of a package
        )
    _check_command(
        [word for word in command if word not in arguments[1:]], path / MANIFEST, trusted
    )
    return [*command, *further, f"hydra.sweep.dir={path}"]


def _check_command(command: list[str], where: Path, trusted: list[str]) -> None:
    """Refuse a command that leads to code, to the network or to files outside, and that the user has not repeated.

    Raises:
        InputError: naming the word.
    """
    words = [word for word in command if word not in ("-m", "--multirun")]
    for word in words:
        if word.startswith("-"):
            raise InputError(
                f"{where}: command: {word}: is not taken from a file; repeat it: netinv retry {where.parent} {word}"
            )
    names = [
        name.strip(" '\"")
        for argument in trusted
        for name in argument.removeprefix("trusted=").strip("[]").split(",")
    ]
    check_words(words, f"{where}: command", [name for name in names if name])


def _check_overrides(config: DictConfig, hydra_context: HydraContext) -> None:
    """Composes each value of each swept key once, before anything is written or started."""
    given = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(config_loader=hydra_context.config_loader)
    values: dict[str, list[str]] = {}
    for override in parser.parse_overrides([*given, *config.hydra.overrides.task]):
        key = override.get_key_element()
        if not override.is_sweep_override():
            values[key] = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            values[key] = list(override.sweep_string_iterator())
        else:
            values[key] = [str(getattr(override.value(), "start", None))]
        if not values[key]:
            raise InputError(f"{override.input_line}: holds no value, so there would be no job")
    first = {key: options[0] for key, options in values.items()}
    jobs = [
        first,
        *({**first, key: option} for key, options in values.items() for option in options[1:]),
    ]
    for job in jobs:
        overrides = [f"{key}={value}" for key, value in job.items()]
        check_job(hydra_context.config_loader.load_sweep_config(config, overrides))


def _one_per_job(cfg: DictConfig) -> bool:
    return bool(cfg.trainer.get("devices") == "one_per_job")


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _check_same_job(cfg: DictConfig, job_dir: Path) -> None:
    network = (
        cfg.classifier.network or {}
    )  # code that the command itself names may be in the directory's config too
    saved = read_config(job_dir, trusted=[network["_target_"]] if "_target_" in network else [])
    if keys := changed_keys(saved, cfg):
        raise InputError(
            f"hydra.sweep.dir: {job_dir} holds another job ({', '.join(keys[:3])} differ); choose another directory"
        )
