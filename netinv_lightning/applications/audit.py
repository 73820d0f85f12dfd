"""`application=audit`: test whether a classifier leaks training images or only typical features.

    netinv application=audit data=mnist classifier=checkpoint classifier.path=mine.safetensors

Several attacks (`application=reconstruct`) run without data, each in its own run directory inside
that of the audit. A table compares members with non-members for every attack and baseline, and a
verdict summarises it. `resume=RUN_DIRECTORY` runs the attacks that are not done.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from omegaconf import DictConfig

from netinv_lightning import metric_names as names
from netinv_lightning.applications.base import Application
from netinv_lightning.applications.nested_runs import done, run_parts
from netinv_lightning.applications.reconstruct import ReconstructApplication
from netinv_lightning.classifiers.build import (
    load_classifier,
    named_card,
    training_split,
)
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.verifiers import load_verifiers
from netinv_lightning.config.compose import compose
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.real_data import open_real
from netinv_lightning.privacy.audit_findings import AuditFindings
from netinv_lightning.privacy.build import with_training_split
from netinv_lightning.privacy.real_images import check_comparable, check_enough, real_images
from netinv_lightning.privacy.reconstruction_figures import audit_figure
from netinv_lightning.runs.file_writing import write_json
from netinv_lightning.tracking.result import Figure, Result
from netinv_lightning.tracking.run_context import RunContext

ATTACKS = {
    "reconstruction": ["conditioning.vectors=hot"],  # all nine terms of the objective
    "natural": ["loss=natural", "conditioning.vectors=hot"],  # a prior for natural images
    "kkt": ["method=kkt"],  # the stationarity conditions of the weights
    "inversion": ["loss=inversion"],  # plain inversion, for comparison
}
"""The config overrides of each attack."""
FEWER = "application.eval_samples=2000"  # enough to measure transfer with an error of one per cent
EFFORTS: dict[str, dict[str, list[str]]] = {
    "quick": {
        "reconstruction": ["application.steps=150", FEWER],
        "natural": ["application.steps=300", FEWER],
        "kkt": ["method.steps=500"],
        "inversion": ["application.steps=300", FEWER],
    },
    "full": {},
}
"""The overrides of each effort. `quick` takes minutes on two cores; `full` keeps the defaults."""
CANDIDATES = {"quick": 750, "full": 3000}
"""Maximum number of candidates of `kkt`, which uses three for every two training images."""
TAKEN = ("data", "classifier", "recipe", "trainer", "logger", "seed", "generator")
"""The parts of the config that an attack takes from the audit."""


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
        data, missing = open_real(cfg.data, self.classifier)
        if data is None:
            raise InputError(
                f"data={cfg.data.name}: an audit needs training and held-out images; {missing}"
            )
        check_comparable(named_card(cfg).get("training_images"), data)
        self.real = real_images(
            data, cfg.seed, app.members, "trained_before" in training_split(cfg)
        )
        self.attacks = {
            name: self._config_of(name, len(data.train[1]))
            for name in app.attacks or ["reconstruction", "natural", *kkt]
        }
        for attack in self.attacks.values():
            ReconstructApplication(attack)

    def compute(self, run: RunContext) -> Result:
        run.trained = {}  # each attack reports the classifier in its own summary
        parts = {name: run.path / "attacks" / name for name in self.attacks}
        errors = run_parts("attack", self.attacks, parts)
        described = "; ".join(f"{name}: {error}" for name, error in errors.items())
        finished = {name: directory for name, directory in parts.items() if done(directory)}
        if not finished:
            raise RuntimeError(f"every attack failed: {described}")
        found = AuditFindings(
            finished, self.classifier, self.verifiers, self.real, seed=self.cfg.seed
        )
        conclusion, verdict = found.conclusion, run.path / "verdict.json"
        write_json(verdict, conclusion.as_dict())
        title = f"Audit of {self._classifier_name()}, {self.classifier.spec.name}"
        figure = audit_figure(found.intervals(), list(found.rows), run.figures / "audit.png", title)
        pairs = finished[conclusion.strongest] / "figures" / "best_pairs.png"
        if pairs.is_file():
            shutil.copyfile(pairs, run.figures / pairs.name)
        failure = (
            f"{len(errors)} of {len(parts)} attacks failed ({described}); the verdict is based on "
            f"the others; resume={run.path} repeats the failed attacks"
        )
        return Result(
            found.metrics(),
            tables={"audit": found.table(title, errors, transfer=bool(self.verifiers))},
            figures=[Figure(figure, conclusion.line)],
            lines=[f"all attacks ({', '.join(finished)}):", conclusion.line],
            failure=failure if errors else "",
        )

    def _config_of(self, name: str, training_images: int) -> DictConfig:
        """Return the config of an attack."""
        app, overrides = self.cfg.application, [*ATTACKS[name]]
        if name == "kkt":
            candidates = min(CANDIDATES[app.effort], training_images * 3 // 2)
            overrides.append(f"method.candidates={candidates}")
        overrides += [*EFFORTS[app.effort].get(name, []), *app.overrides]
        # No student: it is slow to train and provides no evidence about single images.
        cfg = compose(["application=reconstruct", "application.student=false", *overrides])
        for key in TAKEN:
            cfg[key] = self.cfg[key]
        cfg.name = name
        for key in ("reconstructions", "members", "verifiers", "trained_on"):
            cfg.application[key] = app[key]
        return cfg

    def _classifier_name(self) -> str:
        classifier = self.cfg.classifier
        path = Path(classifier.path).stem if classifier.path else None
        return str(classifier.zoo or path or self.cfg.name)
