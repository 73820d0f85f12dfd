"""`application=benchmark`: inversions of every method, conditioning, experiment and seed.

Each job has its own run directory inside that of the benchmark. If a job fails, the other jobs
continue, and the table lists the failure; `resume=RUN_DIRECTORY` runs the jobs that are not done.
The table contains the mean and the spread over the seeds, and the baselines.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.applications.nested_runs import run_nested
from netinv_lightning.config.method_registry import METHODS
from netinv_lightning.evaluation.benchmark_baselines import baseline_groups
from netinv_lightning.evaluation.benchmark_figure import benchmark_figures
from netinv_lightning.evaluation.benchmark_jobs import benchmark_jobs
from netinv_lightning.evaluation.benchmark_table import (
    Group,
    access_of,
    benchmark_table,
    read_group,
)
from netinv_lightning.evaluation.build import build_baseline_report
from netinv_lightning.evaluation.report import Report
from netinv_lightning.tracking.result import Figure, Result
from netinv_lightning.tracking.run_context import RunContext


class BenchmarkApplication(Application):
    """Runs the jobs that `application` describes.

    `trainer`, `logger`, `measure` and `data.root` of the jobs are those of the benchmark.
    """

    best_metric = names.TRANSFER_ACCURACY

    def check(self) -> None:
        cfg = self.cfg
        shared = {key: cfg[key] for key in ("trainer", "logger", "measure")}
        self.jobs = [*benchmark_jobs(cfg.application, shared | {"data.root": cfg.data.root})]
        self.class_names = {
            experiment: self._baseline_report(experiment).classifier.spec.class_names
            for experiment in cfg.application.experiments
        }

    def compute(self, run: RunContext) -> Result:
        directories = {job.name: run.path / job.name for job in self.jobs}
        jobs = run_nested("job", {job.name: job.cfg for job in self.jobs}, directories)
        groups = [*self._groups(jobs.finished)]
        notes = [f"failed: {name}: {error}" for name, error in jobs.errors.items()]
        for experiment in (experiments := list(self.cfg.application.experiments)):
            baselines, skipped = baseline_groups(
                experiment, run.path, partial(self._baseline_report, experiment)
            )
            groups, notes = [*groups, *baselines], [*notes, *skipped]
        groups.sort(key=lambda group: experiments.index(group.experiment))
        inverted = [group for group in groups if group.verdict]
        transfer = [value for group in inverted for value in group.values.get(self.best_metric, ())]
        return Result(
            {self.best_metric: statistics.fmean(transfer)} if transfer else {},
            step=None,
            tables={"benchmark": benchmark_table(self.cfg.name, groups, notes)},
            figures=[*self._figures(jobs.finished, run.figures)],
            failure=jobs.failure(", the others are done", resume=run.path),
        )

    def _groups(self, finished: Mapping[str, Path]) -> Iterator[Group]:
        """Yield the results of each combination."""
        for combination in dict.fromkeys(job.combination for job in self.jobs):
            jobs = [job for job in self.jobs if job.combination == combination]
            done = [finished[job.name] for job in jobs if job.name in finished]
            access = access_of(METHODS[jobs[0].cfg.method.name])
            yield read_group(combination, len(jobs), done, access)

    def _figures(self, finished: Mapping[str, Path], figures: Path) -> Iterator[Figure]:
        """Yield a picture per experiment: the images of the first seed of each combination."""
        several = len(self.cfg.application.conditionings) > 1
        for experiment in self.cfg.application.experiments:
            directories: dict[str, Path] = {}
            for job in self.jobs:
                if job.experiment == experiment and job.name in finished:
                    row = f"{job.method}, {job.conditioning}" if several else job.method
                    directories.setdefault(row, finished[job.name])
            yield from benchmark_figures(
                experiment, directories, self.class_names[experiment], figures
            )

    def _baseline_report(self, experiment: str) -> Report:
        """Return the report of the baselines, with few metrics unless `measure=full` is set."""
        cfg = next(job.cfg for job in self.jobs if job.experiment == experiment)
        return build_baseline_report(cfg, self.cfg.measure.controls)
