"""Report on the images of a run: metrics, baselines (`measure=full`), verdict and diagnosis.

    measurement.csv, measurement.md     a row per metric, a column per set of images (full only)
    transfer.csv, transfer.md           transfer per class and verifier, with verifiers
    verdict.json                        verdict, evidence and diagnosis

Shape suffixes: n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.zoo import CHOSE_NOTHING, zoo_names
from netinv_lightning.config.schema import MeasureConfig
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.baselines import BASELINES, NEED_DATA, check_baselines
from netinv_lightning.evaluation.diagnosis import Case, diagnose
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.measured_table import measured_table
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.evaluation.transfer_metrics import transfer_metrics, transfer_table
from netinv_lightning.evaluation.verdict import judge
from netinv_lightning.evaluation.verdict_output import print_verdict, write_verdict
from netinv_lightning.metrics.memorisation import memorisation
from netinv_lightning.runs.outside_files import read_lines
from netinv_lightning.runs.tables import print_table, write_table
from netinv_lightning.training.progress import print_progress, stages

INVERTED = "inverted"
MOST_CLASSES = 50
"""Largest number of classes for which measurement.md has a row per class."""


class Report:
    """Report on the images of one run.

    Create it before the run, so that invalid options are refused early. Call it when the
    inverted images exist.

    Args:
        options: The config keys `measure`.
        classifier: The inverted classifier.
        verifiers: Networks that the inversion does not use, by name.
        real: The real data; None if they are missing or not needed.
        no_data: Why the real data are missing.
        samples: Number of images to measure if `measure.samples` is null.
        name: Name of the run, for the title of the table.
        seed: Seed of all random numbers.
        weights: Weight of each term of the objective; None for images from a file, whose
            objective is unknown.
        settings: Config keys that a diagnosis may suggest changing, with their values.
        hot: Whether the images are conditioned on one-hot vectors.
        followed: Whether another verdict follows and replaces this one.

    Raises:
        InputError: if a baseline or a metric is unknown, a verifier is the inverted classifier or
            has another input shape, or there are fewer samples than the chosen metrics need.
    """

    def __init__(
        self,
        options: MeasureConfig,
        classifier: FrozenClassifier,
        verifiers: Mapping[str, FrozenClassifier],
        *,
        real: ImageDataModule | None,
        no_data: str,
        samples: int,
        name: str,
        seed: int,
        weights: Mapping[str, float] | None,
        settings: Mapping[str, float],
        hot: bool = False,
        followed: bool = False,
    ) -> None:
        self.options, self.classifier, self.verifiers = options, classifier, verifiers
        self.real, self.no_data = real, no_data
        self.samples = samples if options.samples is None else options.samples
        self.name, self.seed, self.followed = name, seed, followed
        self.weights, self.settings, self.hot = weights, settings, hot
        check_baselines(options.controls)
        measurement = self._measurement()
        if options.full and self.samples < measurement.minimum:
            raise InputError(
                f"measure.samples={self.samples}: too few for the chosen measure.metrics, "
                f"which need {measurement.minimum} images or more"
            )

    def __call__(
        self,
        directory: Path,
        metrics: Mapping[str, float],
        draw: Callable[[int], Images],
        draw_hot: Callable[[int], Images] | None = None,
    ) -> dict[str, float]:
        """Write and print the report.

        Args:
            directory: The run directory.
            metrics: Known metrics of the inverted images, with the last values of the objective
                (`last_losses`).
            draw: Function from a number to inverted images; called with `measure=full` only.
            draw_hot: The same with one-hot vectors, if the transfer of such images is unknown.

        Returns:
            Metrics of the inverted images; empty without `measure=full`.
        """
        measured = self._measure_all(directory, draw) if self.options.full else {}
        if draw_hot is not None and self.verifiers:
            measured |= self._transfer_hot(draw_hot)
        known = {**metrics, **measured}
        N = self.classifier.spec.num_classes
        ceiling = known.get(names.TRANSFER_CEILING, self._ceiling_of_cards())
        verdict = judge(known, N, ceiling)
        if names.TRANSFER_ACCURACY in known:
            verdict = replace(verdict, chose=self._chose())
        findings = diagnose(
            Case(
                metrics=known,
                num_classes=N,
                weight=self.weights or {},
                ceiling=ceiling,
                keys=self.settings,
                hot=self.hot,
            )
        )
        if self.weights is None:  # the settings that made the images are unknown
            findings = [replace(finding, settings=()) for finding in findings]
        class_names = self.classifier.spec.class_names
        if table := transfer_table(known, class_names, [*self.verifiers]):
            write_table(table, directory, "transfer")
        write_verdict(directory, verdict, findings)
        print_verdict(verdict, findings, self.followed)
        return measured

    def _transfer_hot(self, draw: Callable[[int], Images]) -> dict[str, float]:
        """Return the transfer of images that are conditioned on one-hot vectors."""
        context = self._measurement().context
        with torch.no_grad():
            images = draw(self.samples).to(context.device)
            agreement = {
                name: context.agreement(images, context.extract(verifier, images).logits_nN)
                for name, verifier in context.verifiers.items()
            }
        return transfer_metrics(agreement, self.classifier.spec.class_names, hot=True)

    def check(self, images: Images) -> None:
        """Check that the images can be measured.

        Raises:
            InputError: as `Measurement.check`.
        """
        self._measurement().check(images)

    def baselines(self) -> tuple[dict[str, tuple[int, dict[str, float]]], dict[str, str]]:
        """Create and measure the baselines.

        Returns:
            Number of images and metrics of each baseline; and the reason for each skipped metric
            or baseline.
        """
        measurement, sets = self._measurement(), {}
        skipped = dict(measurement.skipped)
        missing = NEED_DATA if self.real is None else ()
        left_out = [name for name in self.options.controls if name in missing]
        skipped |= {f"baseline {name}": self.no_data for name in left_out}
        measured = [name for name in self.options.controls if name not in missing]
        for name in stages(f"measuring up to {self.samples} images of baseline", measured):
            images = BASELINES[name](self.samples, self.classifier, self.real, self.seed)
            sets[name] = len(images.labels_n), self._metrics_of(images, measurement)
        return sets, skipped

    def _measurement(self) -> Measurement:
        """Create the measurement on the current device of the classifier."""
        groups = list(dict.fromkeys(["accuracy", *self.options.metrics]))  # the verdict needs it
        return Measurement(self.classifier, self.verifiers, self.real, groups, self.seed)

    def _measure_all(self, directory: Path, draw: Callable[[int], Images]) -> dict[str, float]:
        measurement = self._measurement()
        print_progress(f"measuring {self.samples} inverted images")
        inverted = draw(self.samples)
        metrics = self._metrics_of(inverted, measurement)
        baselines, skipped = self.baselines()
        marked = measured_table(
            f"Measured: {self.name}",
            {INVERTED: (len(inverted.labels_n), metrics), **baselines},
            verifiers=self.verifiers,
            seed=self.seed,
            skipped=measurement.skipped | skipped,
        )
        rows = [row for row in marked.rows if not str(row[0]).startswith(names.OF_CLASSES)]
        if len(marked.rows) - len(rows) > MOST_CLASSES:  # measurement.csv has them all
            marked.rows = rows
        write_table(marked, directory, "measurement")
        marked.rows = rows
        print_table(marked)
        return metrics

    def _metrics_of(self, images: Images, measurement: Measurement) -> dict[str, float]:
        metrics = measurement(images)
        if self.real is not None and min(len(self.real.train[1]), len(self.real.test[1])):
            metrics |= memorisation(
                images.images_nCHW, self.real.train[0], self.real.test[0], self.seed
            )
        return metrics

    def _chose(self) -> tuple[str, ...]:
        """Return the verifiers of the zoo on which the defaults of the package were chosen."""
        return tuple(
            name
            for name, verifier in self.verifiers.items()
            if verifier.card.get("name") in set(zoo_names()) - set(CHOSE_NOTHING)
        )

    def _ceiling_of_cards(self) -> float | None:
        """Return the verifiers' mean test accuracy from their model cards, if all have one."""
        accuracies = [
            float(verifier.card["test_accuracy"])
            for verifier in self.verifiers.values()
            if "test_accuracy" in verifier.card
        ]
        return (
            sum(accuracies) / len(accuracies)
            if accuracies and len(accuracies) == len(self.verifiers)
            else None
        )


def last_losses(directory: Path) -> dict[str, float]:
    """Return the last value of each term of the objective in `metrics.csv`, by metric name.

    Raises:
        InputError: if the file is damaged.
    """
    values: dict[str, float] = {}
    path = directory / "metrics.csv"
    if not path.is_file():
        return values
    try:
        for row in csv.DictReader(read_lines(path, directory)):
            values |= {
                name: float(value)
                for name, value in row.items()
                if name and name.startswith(names.loss("")) and value
            }
    except (csv.Error, ValueError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({one_line(error)}); run it again") from error
    return values
