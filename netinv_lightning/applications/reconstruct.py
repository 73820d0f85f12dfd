"""`application=reconstruct`: an inversion for training-like images, compared with training and held-out images (S2 section 5.3; A4-9).

    netinv application=reconstruct data=mnist classifier=checkpoint classifier.path=mine.safetensors

The attack is an inversion like any other, and sees no data (A1-16): the real images are read when its images are there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping

from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.applications.invert import InvertApplication
from netinv_lightning.classifiers.build import named_card, training_split
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.evaluation.image_sets import Images, check_named, open_real
from netinv_lightning.evaluation.measurement import Measurement
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
from netinv_lightning.runs.run_directory import RunDir, write_atomically
from netinv_lightning.runs.tables import show, write_csv, write_table
from netinv_lightning.tracking.loggers import log_image
from netinv_lightning.training.progress import tell

log = logging.getLogger(__name__)


class ReconstructApplication(InvertApplication):
    """Reconstructs training-like images from the weights of the classifier that `cfg.classifier` names, and compares them."""

    best_metric = names.RECONSTRUCTION_AUC
    concludes = True

    def __init__(self, cfg: DictConfig, classifier: FrozenClassifier | None = None) -> None:
        super().__init__(with_training_split(cfg), classifier)
        check_named(self.cfg, self.module.classifier.spec)
        app, N = self.cfg.application, self.module.classifier.spec.num_classes
        check_enough(app.reconstructions, app.members, N)

    def afterwards(
        self,
        run_dir: RunDir,
        loggers: list[Logger],
        draw: Callable[[int], Images],
        step: int,
        known: Mapping[str, float],
    ) -> dict[str, float]:
        metrics = super().afterwards(run_dir, loggers, draw, step, known)
        try:
            metrics |= self._compare(
                run_dir, loggers, draw(self._count()), step, known.get(names.TRANSFER_ACCURACY)
            )
        except InputError as error:  # the images are there, and kept
            log.warning("not compared with training images: %s", one_line(error))
            print(json.loads((run_dir.path / "verdict.json").read_text())["line"])
        return metrics

    def _count(self) -> int:
        """Return how many images are compared, at most as many as the method has."""
        requested: int = self.cfg.application.reconstructions
        return min(requested, self.module.max_images or requested)

    def _compare(
        self,
        run_dir: RunDir,
        loggers: list[Logger],
        images: Images,
        step: int,
        transfer: float | None,
    ) -> dict[str, float]:
        """Writes tables and figure of the comparison and says what it shows; gives its metrics."""
        cfg, spec = self.cfg, self.module.classifier.spec
        data, missing = open_real(cfg, self.module.classifier)
        if data is None:
            raise InputError(missing)
        check_comparable(named_card(cfg).get("training_images"), data)
        real = real_images(
            data, cfg.seed, cfg.application.members, "trained_before" in training_split(cfg)
        )
        rows = {}
        for name, of_control in {RECONSTRUCTIONS: None, **CONTROLS}.items():
            tell(f"comparing with training and held-out images: {name}")
            rows[name] = compare(
                of_control(len(images.labels_n), real, cfg.seed) if of_control else images,
                real,
                cfg.seed,
            )
        compared = rows[RECONSTRUCTIONS]
        title = f"{cfg.name}: members against held-out images"
        table, of_classes = (
            comparison_table(title, rows, real),
            class_table(f"{title}, by class", compared, spec.class_names),
        )
        table.full = full_table(rows)
        write_table(table, run_dir.path, "reconstruction")
        write_csv(of_classes, run_dir.path / "reconstruction_classes.csv")
        show(table)
        conclusion, verdict = self._conclusion(rows, real, transfer), run_dir.path / "verdict.json"
        # It answers what was asked; of the inversion's own verdict the diagnosis stays.
        write_atomically(
            verdict,
            json.dumps({**json.loads(verdict.read_text()), **conclusion.as_dict()}, indent=2)
            + "\n",
        )
        print(conclusion.line)
        pairs = best_pairs(images, real)
        figure = best_pairs_figure(
            pairs,
            spec.class_names,
            run_dir.figures / "best_pairs.png",
            f"{cfg.name}: reconstructions most similar to training images",
        )
        log_image(
            loggers,
            names.figure("best_pairs"),
            figure,
            step,
            "reconstruction, nearest training image, nearest held-out image",
        )
        metrics = compared.metrics(spec.class_names) | mifid(images, real, self.verifiers)
        if cfg.application.student:
            metrics |= self._taught(images, data)
        for logger in loggers:
            logger.log_metrics(metrics, step=step)
        return metrics

    def _conclusion(
        self, rows: Mapping[str, Comparison], real: RealImages, transfer: float | None
    ) -> AuditVerdict:
        """What an audit of this attack alone would conclude."""
        ncc = rows[RECONSTRUCTIONS].ncc
        attacks = {self.cfg.name: AttackResult(ncc.auc, ncc.auc_interval[0], ncc.p_value, transfer)}
        beside, leak = rows["other real images"].ncc.auc_interval[1], rows["planted leak"].ncc
        return conclude(
            attacks,
            control_auc_high=beside,
            planted=(leak.auc, leak.p_value),
            num_classes=self.module.classifier.spec.num_classes,
            ceiling=verifier_accuracy(list(self.verifiers.values()), real.others),
        )

    def _taught(self, images: Images, data: ImageDataModule) -> dict[str, float]:
        """What a new network learns from the reconstructions alone; nothing without test images, or with fewer images than classes."""
        measurement = Measurement(self.module.classifier, {}, data, ["cas"], self.cfg.seed)
        if measurement.skipped or len(images.labels_n) < measurement.minimum:
            return {}
        tell("training a student on the reconstructions alone")
        accuracy = measurement(images)[names.CAS]
        print(f"student of the reconstructions alone: {accuracy:.3f} of the real test images")
        return {names.RECONSTRUCTION_STUDENT: accuracy}
