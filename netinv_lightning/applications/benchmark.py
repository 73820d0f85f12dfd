"""`application=benchmark`: inversions of every method, conditioning, experiment and seed.

Each job has its own run directory inside that of the benchmark. If a job fails, the other jobs
continue, and the table lists the failure; `resume=RUN_DIRECTORY` runs the jobs that are not done.
The table contains the mean and the spread over the seeds, and the baselines.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.applications.nested_runs import done, run_parts
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.verifiers import load_verifiers
from netinv_lightning.config.compose import compose
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.benchmark_table import Group, benchmark_table, read_group
from netinv_lightning.evaluation.build import build_report
from netinv_lightning.evaluation.report import Report
from netinv_lightning.runs.file_writing import write_json
from netinv_lightning.runs.outside_files import read_json
from netinv_lightning.runs.sweep_check import check_job
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext

QUICK_METRICS = ["accuracy", "transfer", "diversity"]
"""Metrics of the baselines if `measure=full` is not set."""
QUICK_SAMPLES = 500


@dataclass(frozen=True)
class Job:
    """One inversion."""

    experiment: str
    method: str
    conditioning: str
    seed: int
    cfg: DictConfig

    @property
    def combination(self) -> tuple[str, str, str]:
        return self.experiment, self.method, self.conditioning

    @property
    def name(self) -> str:
        return f"{'-'.join(self.combination)}-seed{self.seed}"


class BenchmarkApplication(Application):
    """Runs the jobs that `application` describes.

    `trainer`, `logger`, `measure` and `data.root` of the jobs are those of the benchmark.
    """

    best_metric = names.TRANSFER_ACCURACY

    def check(self) -> None:
        app = self.cfg.application
        self.jobs = list(self._jobs())
        for experiment in app.experiments:
            self._baseline_report(experiment)

    def compute(self, run: RunContext) -> Result:
        cfgs = {job.name: job.cfg for job in self.jobs}
        errors = run_parts("job", cfgs, {name: run.path / name for name in cfgs})
        groups = [*self._groups(run.path)]
        notes = [f"failed: {name}: {error}" for name, error in errors.items()]
        for experiment in (experiments := list(self.cfg.application.experiments)):
            baselines, skipped = self._baselines(experiment, run.path)
            groups += baselines
            notes += [f"skipped: {experiment}: {what}: {why}" for what, why in skipped.items()]
        groups.sort(key=lambda group: experiments.index(group.experiment))
        inverted = [group for group in groups if group.verdict]
        transfer = [value for group in inverted for value in group.values.get(self.best_metric, ())]
        return Result(
            {self.best_metric: statistics.fmean(transfer)} if transfer else {},
            step=None,
            tables={"benchmark": benchmark_table(self.cfg.name, groups, notes)},
            failure=f"{len(errors)} of {len(self.jobs)} jobs failed, the others are done; "
            f"resume={run.path} repeats the failed jobs"
            if errors
            else "",
        )

    def _jobs(self) -> Iterator[Job]:
        """Yield every combination with its config."""
        app = self.cfg.application
        for combination in product(app.experiments, app.methods, app.conditionings):
            experiment, method, conditioning = combination
            chosen = [f"+experiment={experiment}", f"method={method}"]
            cfg = compose([*chosen, f"conditioning={conditioning}", *app.overrides])
            if cfg.application.name != "invert":
                raise InputError(
                    f"application.experiments={experiment}: has application={cfg.application.name}"
                    ". Choose experiments with application=invert"
                )
            for key in ("trainer", "logger", "measure"):
                cfg[key] = self.cfg[key]
            cfg.data.root = self.cfg.data.root
            cfg.measure.controls = []  # `_baselines` measures them once for all jobs
            check_job(cfg)
            for seed in app.seeds:
                of_seed = cfg.copy()
                of_seed.seed = seed
                yield Job(*combination, seed, of_seed)

    def _groups(self, path: Path) -> Iterator[Group]:
        """Yield the results of each combination."""
        for combination in dict.fromkeys(job.combination for job in self.jobs):
            jobs = [path / job.name for job in self.jobs if job.combination == combination]
            finished = [directory for directory in jobs if done(directory)]
            yield read_group(combination, len(jobs), finished)

    def _baseline_report(self, experiment: str) -> Report:
        """Return the report of the baselines, with few metrics unless `measure=full` is set."""
        cfg = next(job.cfg for job in self.jobs if job.experiment == experiment).copy()
        measure = cfg.measure
        measure.controls = self.cfg.measure.controls
        if not measure.full:
            measure.full, measure.metrics = True, QUICK_METRICS
            measure.samples = measure.samples or QUICK_SAMPLES
        classifier = load_classifier(cfg)
        verifiers = load_verifiers(cfg.application.verifiers, cfg, classifier)
        return build_report(cfg, classifier, verifiers, cfg.application.eval_samples)

    def _baselines(self, experiment: str, path: Path) -> tuple[list[Group], dict[str, str]]:
        """Measure the baselines once; a resumed benchmark reads them from their file."""
        file = path / f"baselines-{experiment}.json"
        earlier = path / f"controls-{experiment}.json"  # its name in earlier versions
        if earlier.is_file():
            file = earlier
        elif not file.is_file():
            sets, skipped = self._baseline_report(experiment).baselines()
            write_json(file, {"sets": sets, "skipped": skipped})
        content: dict[str, Any] = read_json(file, path)
        groups = []
        for name, (count, metrics) in content["sets"].items():
            groups.append(Group(experiment, f"baseline: {name}", "", f"{count} images"))
            groups[-1].add(metrics)
        return groups, content["skipped"]
