"""`application=detect_ood`: how well detectors tell a classifier's own data from what it was not made for (S2 section 5.2; A5).

    netinv application=detect_ood data=mnist 'garbage=[inverted,noise]' 'application.outliers=[fashion_mnist,gaussian_noise]'

The frozen classifier is asked as it is by post-hoc detectors; each choice of the group `garbage` is a classifier with a garbage class
beside it. Detectors are fitted on training images, tuned on nothing that is tested, and judged by the test images of both sides; a
higher score says "more out-of-distribution".

Shape suffixes: n images, C channels, H height, W width.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.applications.input_check import check_detection
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.cache import train_once
from netinv_lightning.data.outlier_names import called, is_own
from netinv_lightning.data.outliers import outliers
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import of_split, open_real
from netinv_lightning.ood.comparison import (
    OWN,
    PLAIN,
    RESERVED,
    DetectorComparison,
    compare_detectors,
)
from netinv_lightning.ood.detectors import DETECTORS, Detector, collect_fit_data, fit_detector
from netinv_lightning.ood.detectors.garbage_class import ODDS_AND_ENERGY, garbage_detector
from netinv_lightning.ood.detectors.saved_detectors import save_fit_images
from netinv_lightning.ood.detectors.scorer import TunedScorer
from netinv_lightning.ood.garbage.build import build_garbage_training
from netinv_lightning.ood.perturbation_figure import perturbation_curves
from netinv_lightning.ood.perturbation_study import check_strengths, perturbation_study
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.runs.tables import show, write_table
from netinv_lightning.tracking.loggers import check_logger, log_image, open_loggers
from netinv_lightning.training.progress import tell
from netinv_lightning.training.trainer import check_one_process, make_trainer

LEAST_SAMPLES = 100
TOLD = 0.55  # a detector that is tuned on images which it tells no better than this is not tuned


class DetectOodApplication:
    """Judges the detectors that `cfg.application.detectors` and `cfg.garbage` name on the sets that `cfg.application.outliers` names."""

    best_metric = names.OOD_MEAN_AUROC

    def __init__(self, cfg: DictConfig) -> None:
        app = cfg.application
        check_logger(cfg)
        check_one_process(cfg)
        _check_names(cfg)
        self.cfg, self.classifier = cfg, load_classifier(cfg)
        real, missing = open_real(cfg, self.classifier)
        if real is None:
            raise InputError(
                f"data={cfg.data.name}: detectors are fitted and judged on it; {missing}"
            )
        if min(len(real.train[1]), len(real.test[1])) < LEAST_SAMPLES:
            raise InputError(
                f"data={cfg.data.name}: must have {LEAST_SAMPLES} training and test images or more"
            )
        if not len(real.val[1]):
            raise InputError(
                f"data.val_fraction={cfg.data.val_fraction}: must be above 0, some detectors are tuned on validation images"
            )
        self.training, self.validation, self.test = (
            of_split(split, app.samples, cfg.seed) for split in (real.train, real.val, real.test)
        )
        spec, root = self.classifier.spec, Path(cfg.data.root)
        self.outside = {
            called(name): outliers(name, spec, app.samples, cfg.seed, root, real=real)
            for name in app.outliers
        }
        self.garbage = {
            str(name): build_garbage_training(str(name), cfg, self.classifier, real)
            for name in cfg.garbage
        }

    def run(self, run_dir: RunDir) -> dict[str, float]:
        with open_loggers(self.cfg, run_dir) as loggers:
            metrics = train_once(self.cfg, self.classifier, run_dir.path)
            start = time.perf_counter()
            save_fit_images(run_dir.path, self.training, self.validation)
            extended = {
                name: training.run(run_dir, loggers) for name, training in self.garbage.items()
            }
            device = make_trainer(
                self.cfg, callbacks=[], loggers=[], enable_checkpointing=False
            ).strategy.root_device
            for classifier in (self.classifier, *extended.values()):
                classifier.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            rejecting = {
                name: garbage_detector(
                    name, self.cfg.garbage[name].score, classifier, self.validation.images_nCHW
                )
                for name, classifier in extended.items()
            }
            fitted = self._fit()
            comparison = compare_detectors(
                {PLAIN: fitted, **{name: {name: detector} for name, detector in rejecting.items()}},
                in_distribution=self.cfg.data.name,
                label_n=self.test.labels_n,
                images={self.cfg.data.name: self.test.images_nCHW, **self.outside},
                classes=self.classifier.spec.num_classes,
                seed=self.cfg.seed,
            )
            metrics |= comparison.metrics()
            metrics |= self._shifted(run_dir, loggers, fitted)
            metrics |= {
                names.CLASSIFIER_TEST_ACCURACY: metrics[names.ood(PLAIN, OWN, "accuracy")],
                names.SECONDS: time.perf_counter() - start,
            }
            for logger in loggers:
                logger.log_metrics(metrics, step=0)
            self._show(run_dir, loggers, comparison, metrics, self._notes(fitted))
        return metrics

    def _fit(self) -> dict[str, Detector]:
        fit_data = collect_fit_data(
            self.classifier,
            self.training.images_nCHW,
            self.training.labels_n,
            self.validation.images_nCHW,
            seed=self.cfg.seed,
        )
        fitted = {}
        for name in self.cfg.application.detectors:
            tell(f"detecting: fitting {name}")
            fitted[name] = fit_detector(name, fit_data)
        return fitted

    def _shifted(
        self, run_dir: RunDir, loggers: list[Logger], fitted: dict[str, Detector]
    ) -> dict[str, float]:
        """The perturbation study (A2-15), where strengths are named."""
        app = self.cfg.application
        if not app.strengths:
            return {}
        tell(f"detecting: perturbed images, {len(app.strengths)} strengths")
        n = app.shifted
        results = perturbation_study(
            fitted, self.test.images_nCHW[:n], self.test.labels_n[:n], app.strengths, self.cfg.seed
        )
        table, title = results.table(), f"{self.cfg.data.name}: perturbed images"
        write_table(table, run_dir.path, "shifts")
        log_image(
            loggers,
            names.figure("shifts"),
            perturbation_curves(results, run_dir.figures / "shifts", title),
            0,
            title,
        )
        print(results.verdict())
        return {
            names.ood_gain(gain.direction, gain.norm): gain.mean
            for gain in results.gains
            if gain.settings
        }

    def _show(
        self,
        run_dir: RunDir,
        loggers: list[Logger],
        comparison: DetectorComparison,
        metrics: dict[str, float],
        notes: list[str],
    ) -> None:
        """Tables and figures, as files and in the loggers."""
        tables = comparison.tables(metrics, notes)
        for stem, table in tables.items():
            write_table(table, run_dir.path, stem)
        controls = {
            name for name, choice in self.cfg.garbage.items() if choice.source != "inverted"
        }
        for stem, path in comparison.draw(metrics, run_dir.figures, controls).items():
            log_image(loggers, names.figure(stem), path, 0, f"{comparison.in_distribution}: {stem}")
        show(tables["detection"])
        if self.garbage:
            show(tables["classifiers"])

    def _notes(self, fitted: dict[str, Detector]) -> list[str]:
        counts, classes = (
            ", ".join(f"{name} {len(images)}" for name, images in self.outside.items()),
            self.cfg.data.classes,
        )
        own = (
            self.cfg.data.name
            if classes is None
            else f"{self.cfg.data.name}, classes {', '.join(self.classifier.spec.class_names)}"
        )
        notes = [
            f"in-distribution: {own}, {len(self.test.labels_n)} test images; outside: {counts}",
            f"fitted on {len(self.training.labels_n)} training images; seed {self.cfg.seed}; sets of another shape are converted "
            "(netinv_lightning/data/outliers.py)",
        ]
        for name, detector in fitted.items():
            if isinstance(scorer := detector.scorer, TunedScorer):
                means = (
                    "what it reaches on noise is flattered"
                    if scorer.auroc > TOLD
                    else "noise told nothing, so it is as good as not tuned"
                )
                notes.append(
                    f"{name} is tuned on validation images against noise; its best setting is {scorer.setting}: {means}"
                )
        if self.garbage:
            notes.append("a garbage class begins as noise: what it reaches on noise is flattered")
        if summed := [
            str(name)
            for name, choice in self.cfg.garbage.items()
            if choice.score == ODDS_AND_ENERGY
        ]:
            notes.append(
                f"{', '.join(summed)}: scored by the odds of garbage and the energy of the other classes, summed (score={ODDS_AND_ENERGY})"
            )
        return [
            *notes,
            "from, to: 95 % interval of the AUROC, by bootstrap; error: least mean of both error rates over all thresholds",
            "fpr95_in: outside images accepted where 95 % of the own are; fpr95_out: own images rejected where 95 % of the outside are",
        ]


def _check_names(cfg: DictConfig) -> None:
    app = cfg.application
    if app.strengths:
        check_strengths(app.strengths)
    check_detection(cfg)
    for name in cfg.garbage:
        if name in (*DETECTORS, PLAIN):
            raise InputError(f"garbage.{name}: is the name of another detector; choose another")
    for name in app.outliers:
        if is_own(name) and called(name) in (cfg.data.name, *RESERVED):
            raise InputError(
                f"application.outliers={name}: would be called {called(name)} in the results, like something else; rename it"
            )
