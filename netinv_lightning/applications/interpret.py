"""`application=interpret`: what the inverted features of a finished run show (S2 section 5.1).

    netinv application=interpret application.run=RUN_DIRECTORY

The same follows an inversion at once with `interpret=full`. The studies are in netinv_lightning/interpretability.
"""

from __future__ import annotations

from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.evaluation.finished_run import open_finished
from netinv_lightning.interpretability.build import build_study
from netinv_lightning.inversion.checkpoint import checkpoint_of
from netinv_lightning.runs.finished_check import named_run
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.loggers import check_logger, open_loggers


class InterpretApplication:
    """Studies the run that `cfg.application.run` names.

    The data root, what is studied and the logger are this command's, all else is the run's.
    """

    best_metric = names.CLUSTERS

    def __init__(self, cfg: DictConfig) -> None:
        directory = named_run(cfg)
        check_logger(cfg)
        self.cfg = cfg
        self.inversion = open_finished(directory, "interpret.samples", cfg)
        run_cfg = self.inversion.cfg
        run_cfg.interpret = cfg.interpret
        run_cfg.interpret.full = True
        self.study = build_study(run_cfg, self.inversion.classifier, self.inversion.samples)
        if not checkpoint_of(directory).is_file():
            self.inversion.draw(self.study.samples)  # refuses more than the run kept

    def run(self, run_dir: RunDir) -> dict[str, float]:
        with open_loggers(self.cfg, run_dir) as loggers:
            return self.study(run_dir.path, self.inversion.draw, loggers)
