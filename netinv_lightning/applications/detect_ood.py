"""`application=detect_ood`: detect out-of-distribution (OOD) images.

    netinv application=detect_ood data=mnist 'garbage=[inverted,noise]' \
        'application.outliers=[fashion_mnist,gaussian_noise]'

Suhail, Tang and Sethi 2024 (arXiv 2411.17777), section 5.2. Post-hoc detectors use the frozen
classifier; each choice of `garbage` trains a new classifier with a garbage class. Detectors are
fitted on training images and evaluated on test images. They are never tuned on a set that they are
evaluated on. Images with a higher score are more likely out-of-distribution.
"""

from __future__ import annotations

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.evaluation.real_data import require_real
from netinv_lightning.metric_names import OWN, PLAIN
from netinv_lightning.ood.comparison import DetectorComparison, compare_detectors
from netinv_lightning.ood.detection_data import detection_data
from netinv_lightning.ood.detection_notes import data_notes, detector_notes
from netinv_lightning.ood.detection_result import comparison_result, perturbation_result
from netinv_lightning.ood.detectors import Detector, fit_detectors
from netinv_lightning.ood.detectors.garbage_class import garbage_detector
from netinv_lightning.ood.detectors.saved_detectors import save_fit_images
from netinv_lightning.ood.garbage.build import build_garbage_training
from netinv_lightning.ood.perturbation_study import perturbation_study
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.progress import print_progress


class DetectOodApplication(Application):
    """Evaluates `application.detectors` and `garbage` on the sets `application.outliers`."""

    best_metric = names.OOD_MEAN_AUROC
    classifier: FrozenClassifier

    def check(self) -> None:
        cfg, app = self.cfg, self.cfg.application
        self.classifier = load_classifier(cfg)
        real = require_real(cfg.data, self.classifier, "detectors need real images")
        self.data = detection_data(
            cfg.data,
            real,
            self.classifier.spec,
            outlier_names=app.outliers,
            samples=app.samples,
            seed=cfg.seed,
        )
        self.garbage = {
            str(name): build_garbage_training(str(name), cfg, self.classifier, real)
            for name in cfg.garbage
        }

    def compute(self, run: RunContext) -> Result:
        cfg, app, data = self.cfg, self.cfg.application, self.data
        save_fit_images(run.path, data.training, data.validation)
        rejecting = self._train_garbage_classes(run)
        fit_data = data.fit_data(run.place(self.classifier), cfg.seed)
        fitted = fit_detectors(app.detectors, fit_data)
        comparison = self._compare(fitted, rejecting)
        result = Result(comparison.metrics())
        if app.strengths:
            result.include(self._study_perturbations(fitted, run))
        accuracy = result.metrics[names.ood(PLAIN, OWN, "accuracy")]
        result.metrics |= {names.CLASSIFIER_TEST_ACCURACY: accuracy, names.SECONDS: run.seconds}
        compared = comparison_result(
            comparison,
            result.metrics,
            notes=[*data_notes(data, cfg.seed), *detector_notes(fitted, cfg.garbage)],
            baselines={name for name, of in cfg.garbage.items() if of.source != "inverted"},
            figures=run.figures,
        )
        result.include(compared)
        return result

    def _train_garbage_classes(self, run: RunContext) -> dict[str, Detector]:
        """Train the classifiers with a garbage class; return their detectors."""
        trained = {
            name: training.run(run.directory, run.loggers)
            for name, training in self.garbage.items()
        }
        validation_nCHW, choices = self.data.validation.images_nCHW, self.cfg.garbage
        return {
            name: garbage_detector(
                name, choices[name].score, run.place(classifier), validation_nCHW
            )
            for name, classifier in trained.items()
        }

    def _compare(
        self, fitted: dict[str, Detector], rejecting: dict[str, Detector]
    ) -> DetectorComparison:
        return compare_detectors(
            {PLAIN: fitted, **{name: {name: detector} for name, detector in rejecting.items()}},
            in_distribution=self.data.name,
            label_n=self.data.test.labels_n,
            images=self.data.evaluated,
            classes=self.classifier.spec.num_classes,
            seed=self.cfg.seed,
        )

    def _study_perturbations(self, fitted: dict[str, Detector], run: RunContext) -> Result:
        app, n, test = self.cfg.application, self.cfg.application.shifted, self.data.test
        print_progress(f"detect_ood: perturbed images, {len(app.strengths)} strengths")
        images_nCHW, label_n = test.images_nCHW[:n], test.labels_n[:n]
        study = perturbation_study(fitted, images_nCHW, label_n, app.strengths, self.cfg.seed)
        return perturbation_result(study, f"{self.data.name}: perturbed images", run.figures)
