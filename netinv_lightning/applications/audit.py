"""`application=audit`: does a classifier give away its training images, or only what a class looks like?

    netinv application=audit data=mnist classifier=checkpoint classifier.path=mine.safetensors

Several attacks (`application=reconstruct`), each a run of its own below the audit's and none of which sees data; one table of members
against held-out images, with controls; a verdict. `resume=` runs what is not done.

Shape suffixes: m images of one kind, N classes.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import torch.nn.functional as F
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.applications.nested_runs import done, run_part
from netinv_lightning.applications.reconstruct import ReconstructApplication
from netinv_lightning.classifiers.build import (
    load_classifier,
    load_verifiers,
    named_card,
    training_split,
)
from netinv_lightning.classifiers.cache import train_once
from netinv_lightning.classifiers.features import extract_features
from netinv_lightning.config.compose import compose
from netinv_lightning.errors import InputError
from netinv_lightning.evaluation.image_sets import Images, open_real
from netinv_lightning.metrics.membership import GOOD, Difference, difference
from netinv_lightning.privacy.audit_verdict import AttackResult, AuditVerdict, conclude
from netinv_lightning.privacy.build import with_training_split
from netinv_lightning.privacy.comparison import verifier_accuracy
from netinv_lightning.privacy.comparison_tables import FULL_COLUMNS, RECONSTRUCTIONS, interval
from netinv_lightning.privacy.control_sets import CONTROLS
from netinv_lightning.privacy.real_images import check_comparable, check_enough, real_images
from netinv_lightning.privacy.reconstruction_figures import audit_figure
from netinv_lightning.runs.outside_files import read_json
from netinv_lightning.runs.run_directory import RunDir, write_atomically
from netinv_lightning.runs.tables import Cell, Table, show, write_table
from netinv_lightning.tracking.loggers import check_logger, log_image, open_loggers
from netinv_lightning.training.trainer import check_one_process

ATTACKS = {
    "reconstruction": ["conditioning.vectors=hot"],
    "natural": ["loss=natural", "conditioning.vectors=hot"],
    "kkt": ["method=kkt"],
    "inversion": ["loss=inversion"],
}
"""What each attack sets: all nine terms (A2-11), the natural prior, the stationarity of the weights, and plain inversion to compare."""
FEWER = "application.eval_samples=2000"  # which tell transfer to a per cent
EFFORTS: dict[str, dict[str, list[str]]] = {
    "quick": {
        "reconstruction": ["application.steps=150", FEWER],
        "natural": ["application.steps=300", FEWER],
        "kkt": ["method.steps=500"],
        "inversion": ["application.steps=300", FEWER],
    },
    "full": {},
}
"""What each effort sets for each attack; `full` leaves the defaults. The quick one ends in minutes on two cores."""
CANDIDATES = {"quick": 750, "full": 3000}
"""At most so many candidates for `kkt`, which takes three for two training images: whoever audits knows their number."""
BY_LOSS = "classifier's loss *"
OWN_SPLITS = "these are splits of their own, which differ as far as other real images lie off 0.5; p is approximate"
TAKEN = ("data", "classifier", "recipe", "trainer", "logger", "seed", "generator")
"""What an attack takes from the audit's config."""


class AuditApplication:
    """Audits the classifier that `cfg.classifier` names on the data that it was trained on."""

    best_metric = names.RECONSTRUCTION_AUC

    def __init__(self, cfg: DictConfig) -> None:
        check_logger(cfg)
        check_one_process(cfg)
        self.cfg = cfg = with_training_split(cfg)
        app = cfg.application
        if app.attacks is not None and (
            not app.attacks or len(set(app.attacks)) < len(app.attacks)
        ):
            raise InputError(
                f"application.attacks={list(app.attacks)}: must name one or more, each once; choose from {', '.join(ATTACKS)}"
            )
        self.classifier = load_classifier(cfg)
        chosen = app.attacks or [
            "reconstruction",
            "natural",
            *([] if self.classifier.batch_norms else ["kkt"]),
        ]
        check_enough(app.reconstructions, app.members, self.classifier.spec.num_classes)
        self.verifiers = [*load_verifiers(app.verifiers).values()]
        data, missing = open_real(cfg, self.classifier)
        if data is None:
            raise InputError(
                f"data={cfg.data.name}: an audit compares with training and held-out images; {missing}"
            )
        check_comparable(named_card(cfg).get("training_images"), data)
        self.real = real_images(
            data, cfg.seed, app.members, "trained_before" in training_split(cfg)
        )
        self.attacks = {name: self._config_of(name, len(data.train[1])) for name in chosen}
        for attack in self.attacks.values():
            ReconstructApplication(attack)

    def run(self, run_dir: RunDir) -> dict[str, float]:
        train_once(self.cfg, self.classifier, run_dir.path)
        errors, parts = {}, {name: run_dir.path / "attacks" / name for name in self.attacks}
        for number, (name, directory) in enumerate(parts.items()):
            headline = f"attack {number + 1} of {len(parts)}: {name}"
            if error := run_part(self.attacks[name], directory, headline):
                errors[name] = error
        finished = {name: directory for name, directory in parts.items() if done(directory)}
        if not finished:
            raise RuntimeError(
                f"no attack ended: {'; '.join(f'{name}: {error}' for name, error in errors.items())}"
            )
        with open_loggers(self.cfg, run_dir) as loggers:
            conclusion, metrics = self._conclude(run_dir, loggers, finished, errors)
        write_atomically(
            run_dir.path / "verdict.json", json.dumps(conclusion.as_dict(), indent=2) + "\n"
        )
        print(f"all attacks together ({', '.join(finished)}):\n{conclusion.line}")
        if errors:
            raise RuntimeError(
                f"{len(errors)} of {len(parts)} attacks failed ({'; '.join(f'{name}: {error}' for name, error in errors.items())}); the "
                f"verdict is of the others; resume={run_dir.path} runs them again"
            )
        return metrics

    def _config_of(self, name: str, training_images: int) -> DictConfig:
        app = self.cfg.application
        candidates = (
            [f"method.candidates={min(CANDIDATES[app.effort], training_images * 3 // 2)}"]
            if name == "kkt"
            else []
        )
        # A student tells nothing of single images, and takes its time.
        overrides = [
            "application.student=false",
            *ATTACKS[name],
            *candidates,
            *EFFORTS[app.effort].get(name, []),
            *app.overrides,
        ]
        cfg = compose(["application=reconstruct", *overrides])
        for key in TAKEN:
            cfg[key] = self.cfg[key]
        cfg.name = name
        cfg.application.reconstructions, cfg.application.members = app.reconstructions, app.members
        cfg.application.verifiers, cfg.application.trained_on = app.verifiers, app.trained_on
        return cfg

    def _conclude(
        self,
        run_dir: RunDir,
        loggers: list[Logger],
        finished: dict[str, Path],
        errors: dict[str, str],
    ) -> tuple[AuditVerdict, dict[str, float]]:
        """Writes and shows table and figure; gives the verdict, and the metrics of the strongest attack."""
        rows = {name: _rows(directory)[RECONSTRUCTIONS] for name, directory in finished.items()}
        controls = {
            name: row
            for name, row in _rows(next(iter(finished.values()))).items()
            if name in CONTROLS
        }
        summaries = {
            name: read_json(directory / "summary.json", directory)
            for name, directory in finished.items()
        }
        attacked = {
            name: AttackResult(
                row["auc"],
                row["auc_low"],
                row["p_value"],
                summaries[name].get(names.TRANSFER_ACCURACY),
            )
            for name, row in rows.items()
        }
        conclusion = conclude(
            attacked,
            control_auc_high=controls["other real images"]["auc_high"],
            planted=(controls["planted leak"]["auc"], controls["planted leak"]["p_value"]),
            num_classes=self.classifier.spec.num_classes,
            ceiling=verifier_accuracy(self.verifiers, self.real.others),
        )
        by_loss = self._by_loss()
        everything = {**rows, **controls}
        table = self._table(rows, controls, attacked, by_loss, errors)
        full = Table(
            "",
            ("images", "n", *FULL_COLUMNS),
            [[name, *row.values()] for name, row in everything.items()],
        )
        write_table(table, run_dir.path, "audit", full)
        show(table)
        drawn = {
            name: (row["auc"], (row["auc_low"], row["auc_high"]))
            for name, row in everything.items()
        }
        drawn["classifier's loss,\nthe images given"] = (by_loss.auc, by_loss.auc_interval)
        figure = audit_figure(drawn, list(rows), run_dir.figures / "audit.png", table.title)
        strongest = {
            names.reconstruction(what): value
            for what, value in rows[conclusion.strongest].items()
            if what != "n"
        }
        of_attacks = {
            names.reconstruction("auc_attack", name): attack.auc
            for name, attack in attacked.items()
        }
        metrics = strongest | of_attacks | {names.reconstruction("auc_of_loss"): by_loss.auc}
        for logger in loggers:
            logger.log_metrics(metrics, step=0)
        log_image(loggers, names.figure("audit"), figure, 0, conclusion.line)
        pairs = finished[conclusion.strongest] / "figures" / "best_pairs.png"
        if pairs.is_file():  # what the strongest attack shows, where the verdict is
            shutil.copyfile(pairs, run_dir.figures / pairs.name)
        return conclusion, metrics

    def _table(
        self,
        rows: dict[str, dict[str, float]],
        controls: dict[str, dict[str, float]],
        attacked: dict[str, AttackResult],
        by_loss: Difference,
        errors: dict[str, str],
    ) -> Table:
        lines: list[list[Cell]] = [
            [
                name, row["auc"], interval((row["auc_low"], row["auc_high"])), row["gap"], interval((row["gap_low"], row["gap_high"])),
                row["p_value"], row["good"], row["good_held_out"], attacked[name].transfer if name in attacked else None,
            ]
            for name, row in {**rows, **controls}.items()
        ]  # fmt: skip
        lines.append(
            [
                BY_LOSS,
                by_loss.auc,
                interval(by_loss.auc_interval),
                None,
                "",
                by_loss.p_value,
                None,
                None,
                None,
            ]
        )
        real = self.real
        notes = [
            f"{len(real.members.labels_n)} training images against {len(real.held_out.labels_n)} held-out ones ({real.source})",
            "AUC, gap: of a training image's correlation with its nearest reconstruction over a held-out image's; p by permutation",
            *([] if real.exchangeable else [OWN_SPLITS]),
            f"good: share of the pairs matched one to one above {GOOD} in structural similarity; held: the same with held-out images; only "
            "what is above it counts",
            "given away: where an attack's p, corrected for all attacks, is at most 0.05, and its whole interval lies above 0.5 and above "
            "that of other real images",
            "* to compare: whoever has the images tells members by the classifier's loss on them so well; no reconstruction",
            *(f"failed: {name}: {error}" for name, error in errors.items()),
        ]
        columns = ["images", "AUC", "95 %", "gap", "95 % of it", "p", "good", "held", "transfer"]
        if not self.verifiers:
            columns, lines = columns[:-1], [line[:-1] for line in lines]
        return Table(f"Audit of {self._told()}, {self.classifier.spec.name}", columns, lines, notes)

    def _told(self) -> str:
        """The classifier's name."""
        classifier = self.cfg.classifier
        return str(
            classifier.zoo or (Path(classifier.path).stem if classifier.path else self.cfg.name)
        )

    def _by_loss(self) -> Difference:
        """Members told by their smaller loss, as an attack does that has the images (Yeom et al. 2018)."""
        members, held_out = (
            -self._losses(kind) for kind in (self.real.members, self.real.held_out)
        )
        return difference(
            members,
            self.real.members.labels_n,
            held_out,
            self.real.held_out.labels_n,
            self.cfg.seed,
        )

    def _losses(self, images: Images) -> Tensor:
        """The classifier's cross-entropy of each image, [m]."""
        return F.cross_entropy(
            extract_features(self.classifier, images.images_nCHW).logits_nN.double(),
            images.labels_n,
            reduction="none",
        )


def _rows(directory: Path) -> dict[str, dict[str, float]]:
    """The table of an attack: the name of each set of images to its numbers."""
    with (directory / "reconstruction.csv").open(newline="") as file:
        return {
            row.pop("images"): {what: float(value) for what, value in row.items()}
            for row in csv.DictReader(file)
        }
