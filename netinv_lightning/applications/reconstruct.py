"""`application=reconstruct`: training-like images, compared with training and held-out images.

    netinv application=reconstruct data=mnist classifier=checkpoint classifier.path=mine.safetensors

Suhail, Tang and Sethi 2024 (arXiv:2411.17777), section 5.3. The attack is an inversion like any
other and sees no data: the real images are read when its images exist.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from netinv_lightning import metric_names as names
from netinv_lightning.applications.invert import InvertApplication
from netinv_lightning.classifiers.build import named_card, training_split
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.evaluation.real_data import check_named, open_real
from netinv_lightning.privacy.audit_verdict import AttackResult, AuditVerdict, conclude
from netinv_lightning.privacy.build import with_training_split
from netinv_lightning.privacy.comparison import (
    Comparison,
    best_pairs,
    compare,
    mifid,
    verifier_accuracy,
)
from netinv_lightning.privacy.comparison_tables import (
    RECONSTRUCTIONS,
    class_table,
    comparison_table,
    full_table,
)
from netinv_lightning.privacy.control_sets import CONTROLS
from netinv_lightning.privacy.real_images import (
    RealImages,
    check_comparable,
    check_enough,
    real_images,
)
from netinv_lightning.privacy.reconstruction_figures import best_pairs_figure
from netinv_lightning.runs.file_writing import write_json
from netinv_lightning.tracking.result import Figure, Result
from netinv_lightning.tracking.run_context import RunContext
from netinv_lightning.training.progress import print_progress

log = logging.getLogger(__name__)


class ReconstructApplication(InvertApplication):
    """Reconstructs training-like images from the weights of a classifier, and compares them."""

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
        try:
            result.include(self._compare(run, images, result.metrics.get(names.TRANSFER_ACCURACY)))
        except InputError as error:  # the images exist and are kept
            log.warning("not compared with training images: %s", one_line(error))
            verdict = json.loads((run.path / "verdict.json").read_text())
            result.lines = [*result.lines, verdict["line"]]

    def _compare(self, run: RunContext, images: Images, transfer: float | None) -> Result:
        """Compare images with training and held-out images."""
        cfg, spec = self.cfg, self.classifier.spec
        data, missing = open_real(cfg.data, self.classifier)
        if data is None:
            raise InputError(missing)
        check_comparable(named_card(cfg).get("training_images"), data)
        real = real_images(
            data, cfg.seed, cfg.application.members, "trained_before" in training_split(cfg)
        )
        rows = self._rows(images, real)
        compared = rows[RECONSTRUCTIONS]
        title = f"{cfg.name}: members against held-out images"
        table = comparison_table(title, rows, real)
        table.full = full_table(rows)
        conclusion = self._conclusion(rows, real, transfer)
        _add_to_verdict(run.path / "verdict.json", conclusion)
        figure = best_pairs_figure(
            best_pairs(images, real),
            spec.class_names,
            run.figures / "best_pairs.png",
            f"{cfg.name}: reconstructions most similar to training images",
        )
        caption = "reconstruction, nearest training image, nearest held-out image"
        result = Result(
            compared.metrics(spec.class_names) | mifid(images, real, self.verifiers),
            tables={"reconstruction": table},
            lists={
                "reconstruction_classes": class_table(
                    f"{title}, by class", compared, spec.class_names
                )
            },
            figures=[Figure(figure, caption)],
            lines=[conclusion.line],
        )
        if cfg.application.student:
            result.include(self._student(images, data))
        return result

    def _rows(self, images: Images, real: RealImages) -> dict[str, Comparison]:
        """Compare the reconstructions, and each of the baselines, by name."""
        n, rows = len(images.labels_n), {}
        for name, of_control in {RECONSTRUCTIONS: None, **CONTROLS}.items():
            print_progress(f"comparing with training and held-out images: {name}")
            compared = of_control(n, real, self.cfg.seed) if of_control else images
            rows[name] = compare(compared, real, self.cfg.seed)
        return rows

    def _conclusion(
        self, rows: Mapping[str, Comparison], real: RealImages, transfer: float | None
    ) -> AuditVerdict:
        """Return what an audit of this attack alone would conclude."""
        ncc = rows[RECONSTRUCTIONS].ncc
        attacks = {self.cfg.name: AttackResult(ncc.auc, ncc.auc_interval[0], ncc.p_value, transfer)}
        beside, leak = rows["other real images"].ncc.auc_interval[1], rows["planted leak"].ncc
        return conclude(
            attacks,
            control_auc_high=beside,
            planted=(leak.auc, leak.p_value),
            num_classes=self.classifier.spec.num_classes,
            ceiling=verifier_accuracy(list(self.verifiers.values()), real.others),
        )

    def _student(self, images: Images, data: ImageDataModule) -> Result:
        """Return the accuracy of a new network that is trained on the reconstructions alone.

        It is empty without test images, or with fewer images than classes.
        """
        measurement = Measurement(self.classifier, {}, data, ["cas"], self.cfg.seed)
        if measurement.skipped or len(images.labels_n) < measurement.minimum:
            return Result({})
        print_progress("training a student on the reconstructions alone")
        accuracy = measurement(images)[names.CAS]
        line = f"student of the reconstructions alone: {accuracy:.3f} of the real test images"
        return Result({names.RECONSTRUCTION_STUDENT: accuracy}, lines=[line])


def _add_to_verdict(path: Path, conclusion: AuditVerdict) -> None:
    """Put the conclusion into the verdict of the inversion, of which the diagnosis stays."""
    write_json(path, {**json.loads(path.read_text()), **conclusion.as_dict()})
