"""`application=interpret`: interpret the features of the inverted images of a finished run.

    netinv application=interpret application.run=RUN_DIRECTORY

Suhail, Tang and Sethi 2024 (arXiv 2411.17777), section 5.1. `interpret=full` runs the same studies
at the end of an inversion. The code of the studies is in netinv_lightning/interpretability.
"""

from __future__ import annotations

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.evaluation.finished_run import open_finished
from netinv_lightning.interpretability.build import build_study
from netinv_lightning.inversion.checkpoint import checkpoint_of
from netinv_lightning.runs.finished_check import named_run
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext


class InterpretApplication(Application):
    """Interprets the run `application.run`.

    The data root, `interpret` and the logger come from the command, everything else from the run.
    """

    best_metric = names.CLUSTERS

    def check(self) -> None:
        directory = named_run(self.cfg)
        self.inversion = open_finished(directory, "interpret.samples", self.cfg)
        run_cfg = self.inversion.cfg
        run_cfg.interpret = self.cfg.interpret
        run_cfg.interpret.full = True
        self.study = build_study(run_cfg, self.inversion.classifier, self.inversion.samples)
        if not checkpoint_of(directory).is_file():
            self.inversion.draw(self.study.samples)  # raises if the run kept fewer samples

    def compute(self, run: RunContext) -> Result:
        return self.study(run.figures, self.inversion.draw)
