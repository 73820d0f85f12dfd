"""What a run's images are worth: measured beside controls if `measure=full` asks for it, judged and diagnosed in any case.

    measurement.csv, measurement.md     a row a metric, a column a set of images (full only)
    verdict.json                        the verdict, the numbers behind it, the diagnosis

Shape suffixes: n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.checkpoints import read_card
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.zoo import zoo_names, zoo_path
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.baselines import CONTROLS, NEED_DATA, check_controls
from netinv_lightning.evaluation.image_sets import Images, open_real
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.evaluation.verdict import Case, Finding, Verdict, diagnose, judge
from netinv_lightning.metrics.manifold import NEIGHBOURS
from netinv_lightning.metrics.memorisation import memorisation
from netinv_lightning.runs.run_directory import write_atomically
from netinv_lightning.runs.tables import Cell, Table, show, write_table
from netinv_lightning.training.progress import tell

INVERTED = "inverted"
OPTIMISED_GROUPS = ("inversion/", "stability/")
OPTIMISED = (names.INTRA_CLASS_COSINE, names.INTER_CLASS_COSINE, names.VENDI, names.VENDI_CLASS)
LEGEND = (
    "* by the outputs or features of the classifier under attack, which inversion optimises: tells how well that went, "
    "not what the images mean"
)


class Report:
    """Made before a run starts, so that what was asked for is checked then; called when its images are there.

    Args:
        cfg: The config of the inversion: `measure`, `data`, `loss`, `seed`.
        classifier: The classifier under attack.
        verifiers: Networks that the inversion never sees, by name.
        samples: Images to measure where `measure.samples` does not say it.
        followed: Whether another verdict follows, so that this one is not told, only kept.

    Raises:
        InputError: for an unknown control or metric, a verifier that is the classifier under attack or does not fit it,
            data of another shape, or fewer samples than the chosen metrics need.
    """

    def __init__(
        self,
        cfg: DictConfig,
        classifier: FrozenClassifier,
        verifiers: Mapping[str, FrozenClassifier],
        samples: int,
        followed: bool = False,
    ) -> None:
        self.followed = followed
        self.samples = samples if cfg.measure.samples is None else cfg.measure.samples
        self.cfg, self.classifier, self.verifiers = cfg, classifier, verifiers
        self.measure = cfg.measure
        check_controls(self.measure.controls)
        self.real, self.no_data = open_real(cfg, classifier) if self.measure.full else (None, "")
        measurement = self._measurement()
        if self.measure.full and self.samples < measurement.minimum:
            raise InputError(
                f"measure.samples={self.samples}: too few for the chosen measure.metrics, which need {measurement.minimum} images or more"
            )

    def __call__(
        self, directory: Path, metrics: Mapping[str, float], draw: Callable[[int], Images]
    ) -> dict[str, float]:
        """Writes the report of a run and prints it.

        Args:
            directory: Of the run.
            metrics: What is known of the inverted images already, with the last values of the objective (`last_losses`).
            draw: Gives so many inverted images; called for `measure=full` alone.

        Returns:
            What was measured of the inverted images, by metric name; empty without `measure=full`.
        """
        measured = self._measure_all(directory, draw) if self.measure.full else {}
        known = {**metrics, **measured}
        N, ceiling = (
            self.classifier.spec.num_classes,
            known.get(names.TRANSFER_CEILING, self._ceiling_of_cards()),
        )
        verdict = judge(known, N, ceiling)
        findings = diagnose(Case(known, N, _weights(self.cfg.loss), ceiling, _numbers(self.cfg)))
        if (
            not self.cfg.loss
        ):  # images from a file: nobody knows how they were made, so there is nothing to advise
            findings = [replace(finding, settings=()) for finding in findings]
        _keep(directory, verdict, findings)
        _tell_verdict(verdict, findings, self.followed)
        return measured

    def check(self, images: Images) -> None:
        """Refuses images that cannot be measured.

        Raises:
            InputError: saying how many of them, and why.
        """
        self._measurement().check(images)

    def controls(self) -> tuple[dict[str, tuple[int, dict[str, float]]], dict[str, str]]:
        """Makes and measures the controls: name to number of images and metrics; and what was skipped, and why."""
        measurement, sets = self._measurement(), {}
        skipped = dict(measurement.skipped)
        for name in self.measure.controls:
            if name in NEED_DATA and self.real is None:
                skipped[f"control {name}"] = self.no_data
                continue
            _tell(name, self.samples)
            images = CONTROLS[name](self.samples, self.classifier, self.real, self.cfg.seed)
            sets[name] = len(images.labels_n), self._metrics_of(images, measurement)
        return sets, skipped

    def _measurement(self) -> Measurement:
        """Anew where it is used: between the check and the measurement the classifier may move to another device."""
        groups = list(
            dict.fromkeys(["accuracy", *self.measure.metrics])
        )  # no verdict without accuracy
        return Measurement(self.classifier, self.verifiers, self.real, groups, self.cfg.seed)

    def _measure_all(self, directory: Path, draw: Callable[[int], Images]) -> dict[str, float]:
        measurement = self._measurement()
        _tell(INVERTED, self.samples)
        inverted = draw(self.samples)
        metrics = self._metrics_of(inverted, measurement)
        controls, skipped = self.controls()
        table = self._table(
            {INVERTED: (len(inverted.labels_n), metrics), **controls}, measurement.skipped | skipped
        )
        marked = _with_marks(table)
        write_table(marked, directory, "measurement")
        marked.rows = [row for row in marked.rows if names.class_accuracy("") not in str(row[0])]
        show(marked)
        return metrics

    def _metrics_of(self, images: Images, measurement: Measurement) -> dict[str, float]:
        metrics = measurement(images)
        if self.real is not None and min(len(self.real.train[1]), len(self.real.test[1])):
            metrics |= memorisation(
                images.images_nCHW, self.real.train[0], self.real.test[0], self.cfg.seed
            )
        return metrics

    def _table(
        self, sets: Mapping[str, tuple[int, Mapping[str, float]]], skipped: Mapping[str, str]
    ) -> Table:
        """A row a metric, a column a set of images: name to number of images and metrics."""
        rows: list[list[Cell]] = [["images", "", *(n for n, _ in sets.values())]]
        for name in dict.fromkeys(name for _, metrics in sets.values() for name in metrics):
            rows.append(
                [
                    name,
                    "yes" if _is_optimised(name) else "",
                    *(metrics.get(name) for _, metrics in sets.values()),
                ]
            )
        networks = ", ".join(f"{name}{_hash(name)}" for name in self.verifiers) or "none"
        notes = [
            LEGEND,
            f"seed {self.cfg.seed}; k = {NEIGHBOURS} nearest neighbours",
            f"verifiers, whose penultimate features are the extractors: {networks}",
            "training-like takes a memorisation/gap_low above 0.01 too: p tells chance alone, and train and test split differ themselves",
            *(f"skipped: {what}: {why}" for what, why in skipped.items()),
        ]
        return Table(f"Measured: {self.cfg.name}", ["metric", "optimised", *sets], rows, notes)

    def _ceiling_of_cards(self) -> float | None:
        """Mean accuracy of the verifiers on real test images, as their cards tell it; None where one has none."""
        accuracies = [
            card["test_accuracy"]
            for name in self.verifiers
            if (card := _card(name)) and "test_accuracy" in card
        ]
        return (
            sum(accuracies) / len(accuracies)
            if accuracies and len(accuracies) == len(self.verifiers)
            else None
        )


def last_losses(directory: Path) -> dict[str, float]:
    """The last value of each term of the objective in a run's `metrics.csv`, by metric name."""
    values: dict[str, float] = {}
    path = directory / "metrics.csv"
    if path.is_file():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                values |= {
                    name: float(value)
                    for name, value in row.items()
                    if name and name.startswith(names.loss("")) and value
                }
    return values


def _keep(directory: Path, verdict: Verdict, findings: list[Finding]) -> None:
    content = verdict.as_dict() | {"diagnosis": [finding.__dict__ for finding in findings]}
    write_atomically(directory / "verdict.json", json.dumps(content, indent=2) + "\n")
    with (directory / "run.log").open("a") as log:
        log.writelines(
            f"{line}\n" for line in (verdict.line, *(finding.line for finding in findings))
        )


def _tell_verdict(verdict: Verdict, findings: list[Finding], followed: bool) -> None:
    """Prints the evidence, the verdict unless another one follows, and the diagnosis."""
    rows: list[list[Cell]] = [
        [
            rung.question,
            rung.metric,
            rung.value,
            rung.threshold,
            rung.margin,
            "yes" if rung.passed else "no",
        ]
        for rung in verdict.evidence
    ]
    if not followed:
        rows += [[f"not tested: {what}", "", None, None, None, ""] for what in verdict.not_tested]
    show(Table("", ["question", "metric", "value", "threshold", "margin", "answer"], rows))
    for line in (*([] if followed else [verdict.line]), *(finding.line for finding in findings)):
        print(line)


def _with_marks(table: Table) -> Table:
    """An asterisk behind the name of each metric that inversion optimises, instead of a column."""
    rows = [[f"{row[0]}{' *' if row[1] else ''}", *row[2:]] for row in table.rows]
    return Table(table.title, [table.columns[0], *table.columns[2:]], rows, table.notes, full=table)


def _is_optimised(name: str) -> bool:
    return name.startswith(OPTIMISED_GROUPS) or name in OPTIMISED


def _card(name: str) -> dict[str, Any] | None:
    return read_card(zoo_path(name)) if name in zoo_names() else None


def _hash(name: str) -> str:
    card = _card(name)
    return f" (sha256 {card['sha256'][:12]})" if card else ""


def _tell(name: str, count: int) -> None:
    tell(f"measuring: {name}, up to {count} images")


def _weights(loss: DictConfig) -> dict[str, float]:
    return {str(term): float(options.weight) for term, options in loss.items()}


def _numbers(cfg: DictConfig) -> dict[str, float]:
    """The keys that a diagnosis may advise to change, where they have an effect."""
    if not cfg.loss:  # images from a file
        return {}
    if cfg.method.name == "gradient":
        return {"method.steps": cfg.method.steps}
    return {"application.steps": cfg.application.steps, "generator.dropout": cfg.generator.dropout}
