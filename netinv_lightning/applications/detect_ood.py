"""`application=detect_ood`: how well detectors tell a classifier's own data from what it was not made for (S2 section 5.2; A5).

    netinv application=detect_ood data=mnist 'application.outliers=[fashion_mnist,emnist_letters,gaussian_noise,uniform_noise]'

The frozen classifier is asked as it is. Detectors are fitted on training images, tuned on nothing that is tested, and judged by the
test images of both sides; a higher score says "more out-of-distribution".

Shape suffixes: n images, d detectors, S sets, C channels, H height, W width.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.kept import train_once
from netinv_lightning.data.outliers import check_outliers, outliers
from netinv_lightning.detectors import DETECTORS, Detector, Seen, fit, gather, look
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.figures.detection import confidence_histograms, detection_table
from netinv_lightning.image_sets import of_split, open_real
from netinv_lightning.metrics import names
from netinv_lightning.metrics.detection import calibration, detection, threshold_claim
from netinv_lightning.resume import refuse_resume
from netinv_lightning.run_dir import RunDir
from netinv_lightning.tables import Cell, Table, show, write_csv, write_markdown
from netinv_lightning.tracking import check_logger, log_image, open_loggers
from netinv_lightning.trainer import check_one_process, make_trainer

LEAST_SAMPLES = 100


class DetectOodApplication:
    """Judges the detectors that `cfg.application.detectors` names on the sets that `cfg.application.outliers` names."""

    best_metric = names.OOD_MEAN_AUROC

    def __init__(self, cfg: DictConfig) -> None:
        app = cfg.application
        refuse_resume(cfg)
        check_logger(cfg)
        check_one_process(cfg)
        if app.samples < LEAST_SAMPLES:
            raise InputError(f"application.samples={app.samples}: must be {LEAST_SAMPLES} or more")
        for key in ("detectors", "outliers"):
            if not app[key]:
                raise InputError(f"application.{key}: must name one or more")
        for name in app.detectors:
            if name not in DETECTORS:
                raise InputError(f"application.detectors={name}: {nearest(name, DETECTORS)}")
        for name in app.outliers:
            check_outliers(name, cfg.data.name)
        self.cfg, self.classifier = cfg, load_classifier(cfg)
        real, missing = open_real(cfg, self.classifier.spec)
        if real is None:
            raise InputError(f"data={cfg.data.name}: detectors are fitted and judged on it; {missing}")
        if min(len(real.train[1]), len(real.test[1])) < LEAST_SAMPLES:
            raise InputError(f"data={cfg.data.name}: must have {LEAST_SAMPLES} training and test images or more")
        if not len(real.val[1]):
            raise InputError(f"data.val_fraction={cfg.data.val_fraction}: must be above 0, some detectors are tuned on validation images")
        self.training, self.validation, self.test = (of_split(split, app.samples, cfg.seed) for split in (real.train, real.val, real.test))
        self.outside = {name: outliers(name, self.classifier.spec, app.samples, cfg.seed, Path(cfg.data.root)) for name in app.outliers}

    def run(self, run_dir: RunDir) -> dict[str, float]:
        with open_loggers(self.cfg, run_dir) as loggers:
            metrics = train_once(self.cfg, self.classifier, run_dir.path)
            start = time.perf_counter()
            trainer = make_trainer(self.cfg, callbacks=[], loggers=[], enable_checkpointing=False)
            self.classifier.to(trainer.strategy.root_device).to(memory_format=torch.channels_last)
            fitted = self._fit()
            inside = self._look(self.cfg.data.name, self.test.images_nCHW, fitted)
            outside = {name: self._look(name, images_nCHW, fitted) for name, images_nCHW in self.outside.items()}
            found, rows = self._contest(fitted, inside, outside)
            metrics |= found | self._confidence(inside, outside, run_dir.figures / "confidence")
            metrics[names.SECONDS] = time.perf_counter() - start
            for logger in loggers:
                logger.log_metrics(metrics, step=0)
            table = Table(f"Detected: what is not {self.cfg.data.name}", ["detector", "set", *COLUMNS.values()], rows, self._notes())
            write_csv(table, run_dir.path / "detection.csv")
            write_markdown(table, run_dir.path / "detection.md")
            detectors = list(self.cfg.application.detectors)
            auroc_dS = torch.tensor([[metrics[names.ood(d, s, "auroc")] for s in self.outside] for d in detectors])
            title = f"{self.cfg.data.name}: out-of-distribution detection"
            path = detection_table(auroc_dS, detectors, list(self.outside), run_dir.figures / "detection", title)
            log_image(loggers, names.figure("detection"), path, 0, title)
            log_image(loggers, names.figure("confidence"), run_dir.figures / "confidence.png", 0, "confidence of the classifier")
        show(table)
        return metrics

    def _fit(self) -> dict[str, Detector]:
        known = gather(self.classifier, self.training.images_nCHW, self.training.labels_n, self.validation.images_nCHW, seed=self.cfg.seed)
        fitted = {}
        for name in self.cfg.application.detectors:
            _tell(f"fitting {name}")
            fitted[name] = fit(name, known)
        return fitted

    def _look(self, name: str, images_nCHW: Tensor, fitted: dict[str, Detector]) -> Seen:
        """The one pass of a set through the classifier, for all detectors and for its confidence."""
        _tell(f"looking at {name}, {len(images_nCHW)} images")
        return look(self.classifier, images_nCHW, [layer for detector in fitted.values() for layer in detector.layers])

    def _contest(self, fitted: dict[str, Detector], inside: Seen, outside: dict[str, Seen]) -> tuple[dict[str, float], list[list[Cell]]]:
        """Every detector on every set: metrics by name, and the table's rows."""
        metrics: dict[str, float] = {}
        rows: list[list[Cell]] = []
        for name, detector in fitted.items():
            _tell(f"scoring by {name}")
            inside_n, aurocs = detector.rule(inside), []
            for set_name, seen in outside.items():
                told = asdict(detection(inside_n, detector.rule(seen), self.cfg.seed))
                metrics |= {names.ood(name, set_name, what): told[what] for what in COLUMNS}
                rows.append([name, set_name, *(told[what] for what in COLUMNS)])
                aurocs.append(told["auroc"])
            metrics[names.ood(name, "mean", "auroc")] = sum(aurocs) / len(aurocs)
        metrics[names.OOD_MEAN_AUROC] = max(metrics[names.ood(name, "mean", "auroc")] for name in fitted)
        return metrics, rows

    def _confidence(self, inside: Seen, outside: dict[str, Seen], path: Path) -> dict[str, float]:
        """What the classifier's own confidence is worth: accuracy and calibration at home, the papers' threshold abroad (A4-8)."""
        inside_nN = inside.logits_nN.softmax(dim=1)
        calibrated = calibration(inside_nN, self.test.labels_n)
        metrics = {
            names.CLASSIFIER_TEST_ACCURACY: float((inside_nN.argmax(dim=1) == self.test.labels_n).float().mean()),
            names.OOD_ECE: calibrated.ece,
            names.OOD_BRIER: calibrated.brier,
        }
        inside_n, outside_n = inside_nN.amax(dim=1), {name: seen.logits_nN.softmax(dim=1).amax(dim=1) for name, seen in outside.items()}
        for name, confidence_n in outside_n.items():
            claim = threshold_claim(inside_n, confidence_n)
            metrics |= {
                names.ood("threshold", name, "gap"): claim.all_samples.gap,
                names.ood("threshold", name, "gap_but_5_percent"): claim.but_5_percent.gap,
                names.ood("threshold", name, "violations"): claim.all_samples.violations_out,
            }
        confidence_histograms(inside_n, outside_n, path, f"{self.cfg.data.name}: confidence of the classifier")
        return metrics

    def _notes(self) -> list[str]:
        counts = ", ".join(f"{name} {len(images)}" for name, images in self.outside.items())
        return [
            f"in-distribution: {self.cfg.data.name}, {len(self.test.labels_n)} test images; outside: {counts}",
            f"fitted on {len(self.training.labels_n)} training images; seed {self.cfg.seed}; sets of another shape are converted "
            "(netinv_lightning/data/outliers.py)",
            "odin and oodl are tuned on validation images against noise: what they reach on noise is flattered",
            "fpr95_in: outside images accepted where 95 % of the own are; fpr95_out: own images rejected where 95 % of the outside are",
        ]


COLUMNS = {
    "auroc": "AUROC",
    "auroc_low": "from",
    "auroc_high": "to",
    "aupr_out": "AUPR out",
    "aupr_in": "AUPR in",
    "fpr95_in": "FPR95 in",
    "fpr95_out": "FPR95 out",
    "detection_error": "error",
}
"""What the table tells, by the attribute of `Detection`."""


def _tell(what: str) -> None:
    print(f"detecting: {what}", file=sys.stderr, flush=True)
