"""`netinv -m ... --dry-run`: list the jobs of a sweep without running them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from netinv_lightning.config.validate import check
from netinv_lightning.errors import InputError, printable

DRY_RUN = "--dry-run"
"""The option; Hydra does not know it."""


def check_preview(words: Sequence[str]) -> None:
    """Refuse the option for a command line that is not a sweep.

    Raises:
        InputError: naming what to do.
    """
    if not {"-m", "--multirun"} & set(words):
        raise InputError(
            f"{DRY_RUN}: lists the jobs of a sweep, and needs -m. For the config of a single run "
            "use --cfg job"
        )


def check_known_jobs(config: DictConfig) -> None:
    """Refuse a sweep whose jobs depend on the results of other jobs.

    Raises:
        InputError: naming the sweeper.
    """
    sweeper = str(config.hydra.sweeper._target_)
    if not sweeper.endswith("BasicSweeper"):
        raise InputError(
            f"{DRY_RUN}: {sweeper.rpartition('.')[2]} chooses its jobs while it runs. Leave out "
            f"{DRY_RUN}, or sweep over lists of values"
        )


@contextmanager
def no_directory(config: DictConfig) -> Iterator[None]:
    """Context in which the files that Hydra's sweeper writes go to a temporary folder."""
    with TemporaryDirectory() as folder:
        config.hydra.sweep.dir = folder
        yield


class PreviewLauncher(Launcher):
    """Launcher that prints the number and the overrides of each job instead of running it.

    Args:
        context: The configs.
        config: The config of the sweep.
    """

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        self.loader, self.config, self.jobs = context.config_loader, config, 0

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        pass

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Print a batch of jobs.

        Raises:
            InputError: after all have been printed, if some of them would be refused.
        """
        refused = 0
        for words in job_overrides:
            print(f"job {self.jobs}: {printable(shlex.join(words))}")
            try:
                check(self._config_of(words))
            except InputError as error:
                print(f"  would be refused: {error}")
                refused += 1
            self.jobs += 1
        if refused:
            raise InputError(f"{DRY_RUN}: {refused} of {self.jobs} jobs would be refused")
        return [
            JobReturn(overrides=words, status=JobStatus.COMPLETED, _return_value=None)
            for words in job_overrides
        ]

    def _config_of(self, words: Sequence[str]) -> DictConfig:
        cfg: DictConfig = self.loader.load_sweep_config(self.config, list(words))
        with open_dict(cfg):
            cfg.pop("hydra")
        return cfg
