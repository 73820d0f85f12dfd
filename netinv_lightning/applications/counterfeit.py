"""`application=counterfeit`: inverted images that fool a classifier with high confidence.

    netinv application=counterfeit application.run=RUN_DIRECTORY application.confidence=0.99

A counterfeit is an inverted image to whose class the classifier gives at least
`application.confidence` (Taparia, supervised research slides, Applications). The application
reports their share, the predictions of other networks, and the distance to the nearest training
image, compared with real test images and noise.
"""

from __future__ import annotations

import torch

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.classifiers.features import extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import load_verifiers
from netinv_lightning.downstream.build import open_test_data
from netinv_lightning.downstream.counterfeit_tables import (
    CounterfeitTables,
    nearest_pairs,
)
from netinv_lightning.downstream.counterfeits import (
    INVERTED,
    NOISE,
    REAL,
    Counterfeits,
    EvaluatedImages,
    ReferenceImages,
)
from netinv_lightning.downstream.downstream_figures import counterfeit_grid
from netinv_lightning.evaluation.baselines import noise
from netinv_lightning.evaluation.finished_run import open_finished
from netinv_lightning.evaluation.image_sets import Images, write_samples
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.evaluation.real_data import REAL_IMAGES, of_split
from netinv_lightning.runs.finished_check import named_run
from netinv_lightning.tracking.result import Figure, Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.progress import stages


class CounterfeitApplication(Application):
    """Examines the images of the run `application.run`.

    The data root, the verifiers and the logger come from the command, everything else from the run.
    """

    best_metric = names.COUNTERFEIT_SUCCESS
    classifier: FrozenClassifier

    def check(self) -> None:
        app = self.cfg.application
        run = open_finished(named_run(self.cfg), "application.samples", self.cfg)
        self.run_cfg, self.classifier = run.cfg, run.classifier
        named = app.verifiers if app.verifiers is not None else run.cfg.application.verifiers
        self.verifiers = load_verifiers(named, run.cfg, self.classifier)
        self.real, self.missing = open_test_data(run.cfg, self.classifier)
        Measurement(self.classifier, self.verifiers, self.real, ["accuracy"])  # checks verifiers
        self.images = run.draw(app.samples)

    @torch.no_grad()
    def compute(self, run: RunContext) -> Result:
        reference = self._reference()
        examined: dict[str, EvaluatedImages] = {}
        sets = self._sets()
        for name in stages("classifying set", sets):
            examined[name] = EvaluatedImages(sets[name], self.classifier, self.verifiers, reference)
        found = Counterfeits(examined, self.cfg.application.confidence)
        metrics = found.metrics() | {names.SECONDS: run.seconds}
        classifier = str(self.run_cfg.classifier.zoo or "the classifier")
        spec, name = self.classifier.spec, self.run_cfg.name
        tables = CounterfeitTables(found, reference, self.missing)
        result = Result(
            metrics,
            tables={"counterfeit": tables.summary(name, classifier)},
            lists={"counterfeits": tables.each(spec.class_names)},
        )
        if len(found.index_n):
            write_samples(found.images, run.samples / "counterfeits.safetensors", spec)
            title = f"{name}: the most confident counterfeits of each class"
            if reference is not None:
                title += "\nand the training image that each correlates with most"
            pairs = nearest_pairs(found, reference, spec.class_names)
            path = counterfeit_grid(pairs, run.figures / "counterfeits.png", title)
            result.figures = [Figure(path, " ".join(title.split()))]
            result.lines = [f"figure: {path}"]
        result.lines = [*result.lines, tables.line(metrics)]
        return result

    def _reference(self) -> ReferenceImages | None:
        """Training images for distances; None without real data."""
        if self.real is None:
            return None
        images_mCHW = of_split(self.real.train, REAL_IMAGES, self.cfg.seed).images_nCHW
        if not self.verifiers:
            return ReferenceImages(images_mCHW)
        first = next(iter(self.verifiers.values()))
        return ReferenceImages(images_mCHW, extract_features(first, images_mCHW).features_nD)

    def _sets(self) -> dict[str, Images]:
        """The images of the run and equally many of each baseline."""
        n, seed = len(self.images.labels_n), self.cfg.seed
        sets = {INVERTED: self.images, NOISE: noise(n, self.classifier, self.real, seed)}
        return sets | ({} if self.real is None else {REAL: of_split(self.real.test, n, seed)})
