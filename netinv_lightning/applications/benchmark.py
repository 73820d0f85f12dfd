"""`application=benchmark`: inversions of every method x conditioning x experiment x seed, and one table of them.

Each job is a run directory of its own below the benchmark's. A job that fails is a row of the table and takes no other with
it; `resume=` of the benchmark runs what is not done. The table holds mean and spread over the seeds, and the controls.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.applications.nested_runs import done, run_part
from netinv_lightning.classifiers.build import load_classifier, load_verifiers
from netinv_lightning.config.compose import compose
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.report import Report
from netinv_lightning.runs.outside_files import read_json
from netinv_lightning.runs.run_directory import RunDir, write_atomically
from netinv_lightning.runs.sweep import check_job
from netinv_lightning.runs.tables import Cell, Table, show, shown, write_table

SHOWN = {
    names.INVERSION_ACCURACY: "accuracy",
    names.TRANSFER_ACCURACY: "transfer",
    names.INTRA_CLASS_COSINE: "intra *",
    names.SECONDS: "seconds",
}
"""Columns of the printed table; the CSV holds every metric."""
QUICK_METRICS = [
    "accuracy",
    "transfer",
    "diversity",
]  # of the controls where the jobs measure no more
QUICK_SAMPLES = 500
KEYS = ("experiment", "method", "conditioning")


@dataclass(frozen=True)
class Job:
    """One inversion."""

    experiment: str
    method: str
    conditioning: str
    seed: int
    cfg: DictConfig

    @property
    def name(self) -> str:
        return f"{self.experiment}-{self.method}-{self.conditioning}-seed{self.seed}"


@dataclass
class Group:
    """What the seeds of one combination gave."""

    experiment: str
    method: str
    conditioning: str
    images_of: str  # how many of the seeds are done, or how many images a control has
    values: dict[str, list[float]] = field(default_factory=dict)
    verdict: str = ""

    def add(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.values.setdefault(name, []).append(value)

    def mean(self, metric: str) -> float | None:
        return statistics.fmean(self.values[metric]) if metric in self.values else None

    def spread(self, metric: str) -> float | None:
        """Standard deviation over the seeds; None of fewer than two."""
        return (
            statistics.stdev(self.values[metric]) if len(self.values.get(metric, ())) > 1 else None
        )


class BenchmarkApplication:
    """Runs the jobs that `cfg.application` spans; `trainer`, `logger`, `measure` and `data.root` are the benchmark's."""

    best_metric = names.TRANSFER_ACCURACY

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg, app = cfg, cfg.application
        for key in ("experiments", "methods", "conditionings", "seeds"):
            if not app[key]:
                raise InputError(f"application.{key}=[]: must name one or more")
            if len(set(app[key])) < len(app[key]):
                raise InputError(f"application.{key}={list(app[key])}: names one twice")
        self.jobs = list(self._jobs())
        for experiment in app.experiments:
            self._controls_report(experiment)

    def run(self, run_dir: RunDir) -> dict[str, float]:
        errors = {}
        for number, job in enumerate(self.jobs):
            if error := run_part(
                job.cfg,
                run_dir.path / job.name,
                f"job {number + 1} of {len(self.jobs)}: {job.name}",
            ):
                errors[job.name] = error
        groups = [*self._groups(run_dir.path)]
        notes = [f"failed: {name}: {error}" for name, error in errors.items()]
        for experiment in self.cfg.application.experiments:
            controls, skipped = self._controls(experiment, run_dir.path)
            groups += controls
            notes += [f"skipped: {experiment}: {what}: {why}" for what, why in skipped.items()]
        groups.sort(
            key=lambda group: list(self.cfg.application.experiments).index(group.experiment)
        )
        table = _few_columns(self.cfg.name, groups, notes)
        write_table(table, run_dir.path, "benchmark", full=_all_columns(groups))
        show(table)
        if errors:
            raise RuntimeError(
                f"{len(errors)} of {len(self.jobs)} jobs failed, the others are done; resume={run_dir.path} runs them again"
            )
        everything = [
            value
            for group in groups
            if group.verdict
            for value in group.values.get(self.best_metric, ())
        ]
        return {self.best_metric: statistics.fmean(everything)} if everything else {}

    def _jobs(self) -> Iterator[Job]:
        """Every combination, each with its config."""
        app = self.cfg.application
        for experiment, method, conditioning in product(
            app.experiments, app.methods, app.conditionings
        ):
            cfg = compose(
                [
                    f"+experiment={experiment}",
                    f"method={method}",
                    f"conditioning={conditioning}",
                    *app.overrides,
                ]
            )
            if cfg.application.name != "invert":
                raise InputError(
                    f"application.experiments={experiment}: is application={cfg.application.name}; name recipes of application=invert"
                )
            cfg.trainer, cfg.logger, cfg.measure, cfg.data.root = (
                self.cfg.trainer,
                self.cfg.logger,
                self.cfg.measure,
                self.cfg.data.root,
            )
            cfg.measure.controls = []  # they are measured once for all jobs
            check_job(cfg)
            for seed in app.seeds:
                of_seed = cfg.copy()
                of_seed.seed = seed
                yield Job(experiment, method, conditioning, seed, of_seed)

    def _groups(self, path: Path) -> Iterator[Group]:
        combinations = dict.fromkeys(
            (job.experiment, job.method, job.conditioning) for job in self.jobs
        )
        for combination in combinations:
            jobs = [
                job
                for job in self.jobs
                if (job.experiment, job.method, job.conditioning) == combination
            ]
            finished = [path / job.name for job in jobs if done(path / job.name)]
            group = Group(*combination, f"{len(finished)}/{len(jobs)} seeds")
            for directory in finished:
                group.add(_read_json(directory / "summary.json"))
            verdicts = Counter(
                str(_read_json(directory / "verdict.json")["verdict"]) for directory in finished
            )
            group.verdict = ", ".join(
                f"{count} {verdict}" if len(verdicts) > 1 else verdict
                for verdict, count in verdicts.items()
            )
            yield group

    def _controls_report(self, experiment: str) -> Report:
        """Measures the controls of an experiment; without `measure=full` by a few metrics, since each table has its controls."""
        cfg = next(job.cfg for job in self.jobs if job.experiment == experiment).copy()
        cfg.measure.controls = self.cfg.measure.controls
        if not cfg.measure.full:
            cfg.measure.full, cfg.measure.metrics, cfg.measure.samples = (
                True,
                QUICK_METRICS,
                cfg.measure.samples or QUICK_SAMPLES,
            )
        verifiers = load_verifiers(cfg.application.verifiers)
        return Report(cfg, load_classifier(cfg), verifiers, cfg.application.eval_samples)

    def _controls(self, experiment: str, path: Path) -> tuple[list[Group], dict[str, str]]:
        """Kept in a file of their own, so that a resumed benchmark does not measure them again."""
        kept = path / f"controls-{experiment}.json"
        if not kept.is_file():
            sets, skipped = self._controls_report(experiment).baselines()
            write_atomically(kept, json.dumps({"sets": sets, "skipped": skipped}, indent=2) + "\n")
        content = _read_json(kept)
        groups = []
        for name, (count, metrics) in content["sets"].items():
            groups.append(Group(experiment, f"control: {name}", "", f"{count} images"))
            groups[-1].add(metrics)
        return groups, content["skipped"]


def _few_columns(name: str, groups: Sequence[Group], notes: Sequence[str]) -> Table:
    # What is the same in every inversion is said once, in the title.
    of_inversions = {
        key: {getattr(group, key) for group in groups if group.verdict or not group.values}
        for key in KEYS
    }
    same = [value for values in of_inversions.values() if len(values) == 1 for value in values]
    keys = [key for key in KEYS if key == "method" or len(of_inversions[key]) > 1]
    rows: list[list[Cell]] = []
    for group in groups:
        cells = [_mean_and_spread(group, metric) for metric in SHOWN]
        rows.append(
            [*(getattr(group, key) for key in keys), group.images_of, *cells, group.verdict]
        )
    told = [
        "mean ± standard deviation over the seeds",
        "* in features that the objective optimised; benchmark.csv holds every metric",
    ]
    return Table(
        f"Benchmark: {', '.join([name, *same])}",
        [*keys, "of", *SHOWN.values(), "verdict"],
        rows,
        [*told, *notes],
    )


def _all_columns(groups: Sequence[Group]) -> Table:
    metrics = list(dict.fromkeys(metric for group in groups for metric in group.values))
    rows: list[list[Cell]] = []
    for group in groups:
        cells = [cell for metric in metrics for cell in (group.mean(metric), group.spread(metric))]
        rows.append(
            [
                group.experiment,
                group.method,
                group.conditioning,
                group.images_of,
                group.verdict,
                *cells,
            ]
        )
    columns = [column for metric in metrics for column in (metric, f"{metric} spread")]
    return Table("", ["experiment", "method", "conditioning", "of", "verdict", *columns], rows)


def _mean_and_spread(group: Group, metric: str) -> str:
    mean, spread = group.mean(metric), group.spread(metric)
    return (
        shown(mean)
        if spread is None or metric == names.SECONDS
        else f"{shown(mean)} ± {shown(spread)}"
    )


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(path, path.parent)
    return content
