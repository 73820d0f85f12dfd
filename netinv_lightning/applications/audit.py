"""`application=audit`: test whether a classifier leaks training images or only typical features.

    netinv application=audit data=mnist classifier=checkpoint classifier.path=mine.safetensors

Several attacks (`application=reconstruct`) run without data, each in its own run directory inside
that of the audit. A table compares members with non-members for every attack and baseline, and a
verdict summarises it. Membership inference by the loss, the power of the audit and the risk of each
training image follow. `resume=RUN_DIRECTORY` runs the attacks that are not done.

The attack `informed` is another one: it trains models of its own by the same recipe, and judges
that recipe instead of the classifier. It has its own table, and its own verdict if it is alone.
"""

from __future__ import annotations

from pathlib import Path

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.applications.nested_runs import run_nested
from netinv_lightning.applications.reconstruct import ReconstructApplication
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import load_verifiers
from netinv_lightning.evaluation.real_data import require_real
from netinv_lightning.privacy.audit_findings import AuditFindings
from netinv_lightning.privacy.audit_result import audit_result
from netinv_lightning.privacy.audit_verdict import LEAKS_IMAGES
from netinv_lightning.privacy.build import (
    attack_config,
    build_real_images,
    build_shadow_plan,
    with_training_split,
)
from netinv_lightning.privacy.build_informed import build_informed
from netinv_lightning.privacy.informed import InformedAttack
from netinv_lightning.privacy.informed_result import INFORMED, InformedFindings
from netinv_lightning.privacy.real_images import check_enough
from netinv_lightning.privacy.shadow_attack import shadow_attacks
from netinv_lightning.runs.file_writing import write_json
from netinv_lightning.tracking.result import Result
from netinv_lightning.tracking.run_context import RunContext


class AuditApplication(Application):
    """Audits the classifier on the data that it was trained on."""

    best_metric = names.RECONSTRUCTION_AUC
    classifier: FrozenClassifier

    def check(self) -> None:
        self.cfg = cfg = with_training_split(self.cfg)
        app = cfg.application
        self.classifier = load_classifier(cfg)
        kkt = [] if self.classifier.batch_norms else ["kkt"]
        check_enough(app.reconstructions, app.members, self.classifier.spec.num_classes)
        self.verifiers = [*load_verifiers(app.verifiers, cfg, self.classifier).values()]
        data = require_real(
            cfg.data, self.classifier, "an audit needs training and held-out images"
        )
        self.real = build_real_images(cfg, data)
        self.training, self.training_index_n = data.train, data.train_indices
        self.training_images = len(data.train[1])
        self.shadow_plan = build_shadow_plan(cfg, self.classifier)
        chosen = list(app.attacks or ["reconstruction", "natural", *kkt])
        self.attacks = {
            name: attack_config(cfg, name, self.training_images)
            for name in chosen
            if name != INFORMED
        }
        for attack in self.attacks.values():
            ReconstructApplication(attack)
        self.informed: InformedAttack | None = None
        if INFORMED in chosen:
            self.informed = build_informed(cfg, self.classifier, data)

    def compute(self, run: RunContext) -> Result:
        if self.informed is None:
            return self._run_attacks(run)
        spec = self.classifier.spec
        found = InformedFindings(
            self.informed(run), self.informed.data, spec.num_classes, self.cfg.seed
        )
        informed = found.result(spec.class_names, run.figures)
        informed.metrics[names.reconstruction(INFORMED, "seconds")] = run.seconds
        if not self.attacks:
            write_json(run.path / "verdict.json", found.conclusion.as_dict())
            informed.metrics |= found.comparison.metrics(())
            informed.metrics[names.AUDIT_LEAK] = float(found.conclusion.name == LEAKS_IMAGES)
            return informed
        result = self._run_attacks(run)
        result.include(informed)
        return result

    def _run_attacks(self, run: RunContext) -> Result:
        run.trained = {}  # each attack reports the classifier in its own summary
        directories = {name: run.path / "attacks" / name for name in self.attacks}
        attacks = run_nested("attack", self.attacks, directories)
        errors = "; ".join(f"{name}: {error}" for name, error in attacks.errors.items())
        if not attacks.finished:
            raise RuntimeError(f"every attack failed: {errors}")
        found = AuditFindings(
            attacks.finished,
            self.classifier,
            self.verifiers,
            self.real,
            training_images=self.training_images,
            seed=self.cfg.seed,
        )
        if self.shadow_plan is not None:
            found.shadows = shadow_attacks(
                self.shadow_plan,
                self.classifier,
                self.real,
                training=self.training,
                training_index_n=self.training_index_n,
                seed=self.cfg.seed,
            )
        title = f"Audit of {self._classifier_name()}, {self.classifier.spec.name}"
        result = audit_result(found, run, title=title, errors=attacks.errors)
        result.failure = attacks.failure(
            f" ({errors}); the verdict is based on the others", resume=run.path
        )
        return result

    def _classifier_name(self) -> str:
        classifier = self.cfg.classifier
        path = Path(classifier.path).stem if classifier.path else None
        return str(classifier.zoo or path or self.cfg.name)
