"""`application=reconstruct`: training-like images, compared with training and held-out images.

    netinv application=reconstruct data=mnist classifier=checkpoint classifier.path=mine.safetensors

Suhail, Tang and Sethi 2024 (arXiv:2411.17777), section 5.3. The attack is an ordinary inversion and
uses no data. Real images are read only afterwards, for the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

from netinv_lightning import metric_names as names
from netinv_lightning.applications.invert import InvertApplication
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.real_data import check_named, open_real
from netinv_lightning.privacy.build import build_real_images, with_training_split
from netinv_lightning.privacy.comparison import verifier_accuracy
from netinv_lightning.privacy.real_images import check_enough
from netinv_lightning.privacy.reconstruction_result import (
    add_to_verdict,
    compare_with_controls,
    conclude_alone,
    reconstruction_result,
    student_result,
)
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext


class ReconstructApplication(InvertApplication):
    """Reconstructs training-like images from a classifier, and compares them with real images."""

    best_metric = names.RECONSTRUCTION_AUC
    concludes = True

    def check(self) -> None:
        self.cfg = with_training_split(self.cfg)
        super().check()
        app, data, spec = self.cfg.application, self.cfg.data, self.classifier.spec
        check_named(data.name, data.classes, spec)
        check_enough(app.reconstructions, app.members, spec.num_classes)

    def afterwards(self, run: RunContext, result: Result, draw: Callable[[int], Images]) -> None:
        super().afterwards(run, result, draw)
        requested: int = self.cfg.application.reconstructions
        images = draw(min(requested, self.module.max_images or requested))
        transfer = result.metrics.get(names.TRANSFER_ACCURACY)
        compare = partial(self._compare, run, images, transfer)
        if not result.include_unless_refused("not compared with training images", compare):
            verdict = json.loads((run.path / "verdict.json").read_text())
            result.lines = [*result.lines, verdict["line"]]

    def _compare(self, run: RunContext, images: Images, transfer: float | None) -> Result:
        """Compare images with training and held-out images."""
        cfg, spec, verifiers = self.cfg, self.classifier.spec, self.verifiers
        data, missing = open_real(cfg.data, self.classifier)
        if data is None:
            raise InputError(missing)
        real = build_real_images(cfg, data)
        rows = compare_with_controls(images, real, cfg.seed)
        conclusion = conclude_alone(
            cfg.name,
            rows,
            transfer=transfer,
            num_classes=spec.num_classes,
            ceiling=verifier_accuracy(list(verifiers.values()), real.others),
        )
        add_to_verdict(run.path / "verdict.json", conclusion)
        result = reconstruction_result(
            cfg.name,
            images,
            real,
            rows,
            class_names=spec.class_names,
            verifiers=verifiers,
            figures=run.figures,
        )
        result.lines = [conclusion.line]
        if cfg.application.student:
            result.include(student_result(images, self.classifier, data, cfg.seed))
        return result
