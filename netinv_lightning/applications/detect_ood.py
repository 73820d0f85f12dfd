"""`application=detect_ood`: detect out-of-distribution (OOD) images.

    netinv application=detect_ood data=mnist 'garbage=[inverted,noise]' \
        'application.outliers=[fashion_mnist,gaussian_noise]'

Suhail, Tang and Sethi 2024 (arXiv 2411.17777), section 5.2. Post-hoc detectors read the frozen
classifier; each choice of `garbage` trains another classifier with a garbage class. Detectors are
fitted on training images, never tuned on a set that they are evaluated on, and evaluated on test
images. A higher score means more out-of-distribution.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.outlier_names import called
from netinv_lightning.data.outliers import outliers
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.real_data import of_split, open_real
from netinv_lightning.metric_names import OWN, PLAIN
from netinv_lightning.ood.comparison import compare_detectors
from netinv_lightning.ood.detection_notes import data_notes, detector_notes
from netinv_lightning.ood.detection_result import comparison_result, perturbation_result
from netinv_lightning.ood.detectors import Detector, collect_fit_data, fit_detector
from netinv_lightning.ood.detectors.garbage_class import garbage_detector
from netinv_lightning.ood.detectors.saved_detectors import save_fit_images
from netinv_lightning.ood.garbage.build import build_garbage_training
from netinv_lightning.ood.perturbation_study import perturbation_study
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.progress import print_progress, stages

LEAST_SAMPLES = 100


class DetectOodApplication(Application):
    """Evaluates `application.detectors` and `garbage` on the sets `application.outliers`."""

    best_metric = names.OOD_MEAN_AUROC
    classifier: FrozenClassifier

    def check(self) -> None:
        cfg, app = self.cfg, self.cfg.application
        self.classifier = load_classifier(cfg)
        real, missing = open_real(cfg.data, self.classifier)
        if real is None:
            raise InputError(f"data={cfg.data.name}: detectors need its images; {missing}")
        if min(len(real.train[1]), len(real.test[1])) < LEAST_SAMPLES:
            raise InputError(
                f"data={cfg.data.name}: must have at least {LEAST_SAMPLES} training and test images"
            )
        if not len(real.val[1]):
            raise InputError(
                f"data.val_fraction={cfg.data.val_fraction}: must be above 0. Some detectors are "
                "tuned on validation images"
            )
        self.training, self.validation, self.test = (
            of_split(split, app.samples, cfg.seed) for split in (real.train, real.val, real.test)
        )
        spec, root = self.classifier.spec, Path(cfg.data.root)
        self.outside: dict[str, Tensor] = {
            called(name): outliers(name, spec, app.samples, cfg.seed, root, real=real)
            for name in app.outliers
        }
        self.garbage = {
            str(name): build_garbage_training(str(name), cfg, self.classifier, real)
            for name in cfg.garbage
        }

    def compute(self, run: RunContext) -> Result:
        save_fit_images(run.path, self.training, self.validation)
        extended = {
            name: training.run(run.directory, run.loggers)
            for name, training in self.garbage.items()
        }
        for classifier in (self.classifier, *extended.values()):
            classifier.to(run.device)
            classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        choices, own = self.cfg.garbage, self.cfg.data.name
        rejecting = {
            name: garbage_detector(name, choices[name].score, of, self.validation.images_nCHW)
            for name, of in extended.items()
        }
        fitted = self._fit()
        comparison = compare_detectors(
            {PLAIN: fitted, **{name: {name: detector} for name, detector in rejecting.items()}},
            in_distribution=own,
            label_n=self.test.labels_n,
            images={own: self.test.images_nCHW, **self.outside},
            classes=self.classifier.spec.num_classes,
            seed=self.cfg.seed,
        )
        result = Result(comparison.metrics())
        if self.cfg.application.strengths:
            result.include(self._study_perturbations(fitted, run))
        result.metrics |= {
            names.CLASSIFIER_TEST_ACCURACY: result.metrics[names.ood(PLAIN, OWN, "accuracy")],
            names.SECONDS: run.seconds,
        }
        compared = comparison_result(
            comparison,
            result.metrics,
            notes=self._notes(fitted),
            baselines={name for name, choice in choices.items() if choice.source != "inverted"},
            figures=run.figures,
        )
        result.include(compared)
        return result

    def _fit(self) -> dict[str, Detector]:
        data = collect_fit_data(
            self.classifier,
            self.training.images_nCHW,
            self.training.labels_n,
            self.validation.images_nCHW,
            seed=self.cfg.seed,
        )
        fitted = {}
        for name in stages("fitting detector", self.cfg.application.detectors):
            fitted[name] = fit_detector(name, data)
        return fitted

    def _study_perturbations(self, fitted: dict[str, Detector], run: RunContext) -> Result:
        app, n = self.cfg.application, self.cfg.application.shifted
        print_progress(f"detect_ood: perturbed images, {len(app.strengths)} strengths")
        images_nCHW, label_n = self.test.images_nCHW[:n], self.test.labels_n[:n]
        study = perturbation_study(fitted, images_nCHW, label_n, app.strengths, self.cfg.seed)
        return perturbation_result(study, f"{self.cfg.data.name}: perturbed images", run.figures)

    def _notes(self, fitted: dict[str, Detector]) -> list[str]:
        cfg = self.cfg
        own = cfg.data.name
        if cfg.data.classes is not None:
            own += f", classes {', '.join(self.classifier.spec.class_names)}"
        counts = {name: len(images) for name, images in self.outside.items()}
        sizes = len(self.test.labels_n), len(self.training.labels_n)
        scores = {str(name): str(choice.score) for name, choice in cfg.garbage.items()}
        return [*data_notes(own, counts, *sizes, cfg.seed), *detector_notes(fitted, scores)]
