"""Launch the jobs of a sweep (`-m`) so that every job counts and no finished job is repeated.

`SweepLauncher` stands between any sweeper of Hydra (grid, Optuna) and any launcher (basic, joblib,
submitit). It numbers each job in `sweep.json` before the job starts, launches only jobs that are
not done, and restarts the jobs of a killed worker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from netinv_lightning.runs.job_device import limit_workers
from netinv_lightning.runs.optuna_study import continue_study
from netinv_lightning.runs.run_directory import STATUS, read_status
from netinv_lightning.runs.signals import exit_on_sigterm, submitit_waits_for_all
from netinv_lightning.runs.sweep_check import check_sweep
from netinv_lightning.runs.sweep_directory import Sweep
from netinv_lightning.runs.sweep_preview import PreviewLauncher, check_known_jobs, no_directory

_sweep: Sweep | None = None
"""The sweep of this process; None in the workers of joblib and submitit."""


def in_worker() -> bool:
    """Return whether this process runs jobs for the process of the sweep."""
    return _sweep is None


@contextmanager
def record_sweep(dry_run: bool = False) -> Iterator[Callable[[], Sweep | None]]:
    """Context in which every sweep of Hydra uses `SweepLauncher`.

    Hydra has no hook that every sweep passes, so two methods of its plugins are replaced.

    Args:
        dry_run: Use `PreviewLauncher` instead, which lists the jobs; nothing is written.

    Yields:
        A function that returns the sweep, or None if the command is not a sweep.
    """
    instantiate_sweeper = Plugins.instantiate_sweeper
    instantiate_launcher = Plugins.instantiate_launcher

    def sweeper(
        self: Plugins,
        *,
        hydra_context: HydraContext,
        task_function: TaskFunction,
        config: DictConfig,
    ) -> Sweeper:
        global _sweep
        check_sweep(config, hydra_context)
        if dry_run:
            check_known_jobs(config)
            exits.enter_context(no_directory(config))
            return instantiate_sweeper(
                self, hydra_context=hydra_context, task_function=task_function, config=config
            )
        _sweep = Sweep(Path(config.hydra.sweep.dir).absolute(), list(config.hydra.overrides.task))
        continue_study(config)
        limit_workers(config)
        return instantiate_sweeper(
            self, hydra_context=hydra_context, task_function=task_function, config=config
        )

    def launcher(
        self: Plugins, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> Launcher:
        if dry_run:
            return PreviewLauncher(hydra_context, config)
        assert _sweep is not None
        return SweepLauncher(
            instantiate_launcher(self, hydra_context, task_function, config), _sweep
        )

    global _sweep
    _sweep = None
    with (
        ExitStack() as exits,
        patch.object(Plugins, "instantiate_sweeper", sweeper),
        patch.object(Plugins, "instantiate_launcher", launcher),
    ):
        try:
            yield lambda: _sweep
        finally:
            if _sweep is not None:
                _sweep.close()


class SweepLauncher(Launcher):
    """Launcher that passes jobs to another launcher; a job that dies does not stop the others."""

    def __init__(self, launcher: Launcher, sweep: Sweep) -> None:
        self.launcher, self.sweep = launcher, sweep

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a batch of jobs and return the best metric of each; None for a job that failed."""
        sweep = self.sweep
        numbers = sweep.number_jobs(job_overrides)
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

    def _launch(self, numbers: list[int], is_retry: bool = False) -> None:
        if not numbers:
            return
        before = {number: self._modified(number) for number in numbers}
        # The launcher counts from 0 in each launch, so each job is given its own directory.
        batch = [[*self.sweep.jobs[number], f"hydra.sweep.subdir={number}"] for number in numbers]
        try:
            returns = self.launcher.launch(batch, initial_job_idx=0)
        except Exception as error:  # of the launcher itself: joblib raises if a worker is killed
            started = [number for number in numbers if self._modified(number) != before[number]]
            if not started and not is_retry:
                raise
            self._restart(numbers, started, error, is_retry)
            return
        for number, returned in zip(numbers, returns, strict=True):
            self.sweep.errors.pop(number, None)
            if returned.status == JobStatus.FAILED:
                self.sweep.errors[number] = returned._return_value

    def _restart(
        self, numbers: list[int], started: list[int], error: Exception, is_retry: bool
    ) -> None:
        """Run again the jobs that a killed worker left unfinished.

        Each interrupted job runs alone, since one of them may have caused the kill.
        """
        interrupted = [number for number in started if self.sweep.state(number) == "running"]
        if not started:
            interrupted = numbers
        killed = RuntimeError(f"its process was killed ({type(error).__name__})")
        self.sweep.errors.update(dict.fromkeys(interrupted, killed))
        if is_retry and len(numbers) == 1:
            return
        print(
            f"a worker was killed; the {len(interrupted)} interrupted jobs are restarted, each "
            "alone",
            file=sys.stderr,
        )
        self._launch(
            [number for number in numbers if number not in {*started, *interrupted}], is_retry=True
        )
        for number in interrupted:
            self._launch([number], is_retry=True)

    def _modified(self, number: int) -> int | None:
        """Return when the status of a job was last written, in nanoseconds."""
        try:
            return (self.sweep.directory(number) / STATUS).stat().st_mtime_ns
        except OSError:
            return None
