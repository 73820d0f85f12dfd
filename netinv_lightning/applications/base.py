"""The base class of all applications: the steps before and after the computation.

An application checks its input in `check` and computes in `compute`. The base class checks the
logger and the trainer, trains the classifier if `classifier.train=true`, opens the loggers, and
writes, logs and prints the result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from omegaconf import DictConfig

from netinv_lightning.classifiers.cache import train_once
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.runs.peers import first_process
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.loggers import check_logger
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.trainer import check_one_process, check_trainer


class Application(ABC):
    """One application. It is created before the run directory exists, and then run once.

    Args:
        cfg: The config of the run.

    Raises:
        InputError: if the input is wrong; nothing has been written yet.

    Attributes:
        best_metric: Name of the metric that summarises a run; sweeps optimise it unless
            `application.rank_by` names another.
        one_process: Whether the application runs in one process only; it then refuses more devices.
        classifier: The classifier, if `check` sets it. Its weights are trained before `compute`
            if `classifier.train=true`.
    """

    best_metric: str
    one_process = True
    classifier: FrozenClassifier | None = None

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        check_logger(cfg)
        self.processes = 1 if self.one_process else check_trainer(cfg)
        if self.one_process:
            check_one_process(cfg)
        self.check()

    @property
    def ranked_by(self) -> str:
        """Name of the metric by which sweeps compare runs."""
        return str(self.cfg.application.get("rank_by") or self.best_metric)

    @abstractmethod
    def check(self) -> None:
        """Read and check all input of the user.

        Raises:
            InputError: naming the key.
        """

    @abstractmethod
    def compute(self, run: RunContext) -> Result:
        """Run the computation, write all files other than tables, and return the result."""

    def run(self, run_dir: RunDir) -> dict[str, float]:
        """Compute, then write, log and print the result. Return the metrics."""
        with RunContext(self.cfg, run_dir) as run:
            if self.classifier is not None:
                run.trained = train_once(self.cfg, self.classifier, run_dir.path)
            run.start_clock()
            result = self.compute(run)
            result.metrics = run.trained | result.metrics
            if first_process():
                result.publish(run, None if self.classifier is None else self.classifier.spec)
        return result.metrics
