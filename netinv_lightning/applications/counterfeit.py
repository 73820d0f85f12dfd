"""`application=counterfeit`: images that fool a classifier with confidence, and what else they fool (S3 Applications; A4-12).

    netinv application=counterfeit application.run=RUN_DIRECTORY application.confidence=0.99

Of a finished run's images the counterfeits are those whose own class the classifier gives the confidence asked for. Told are their share,
what other networks make of them, and how far the nearest real training image is, beside real test images and noise.

Shape suffixes: n images, N classes, K pairs, C channels, H height, W width.
"""

from __future__ import annotations

import time

import torch
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_verifiers
from netinv_lightning.classifiers.features import extract_features
from netinv_lightning.downstream.build import open_test_data
from netinv_lightning.downstream.counterfeits import EvaluatedImages, ReferenceImages
from netinv_lightning.downstream.downstream_figures import counterfeit_grid
from netinv_lightning.evaluation.baselines import noise
from netinv_lightning.evaluation.finished_run import open_finished
from netinv_lightning.evaluation.image_sets import REAL_IMAGES, Images, of_split, write_samples
from netinv_lightning.evaluation.measurement import Measurement
from netinv_lightning.runs.finished_check import named_run
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.runs.tables import Cell, Table, show, write_csv, write_table
from netinv_lightning.tracking.loggers import check_logger, log_image, open_loggers
from netinv_lightning.training.progress import tell

PAIRS = 5  # a class in the picture
INVERTED, COUNTERFEITS, REAL, NOISE = "inverted images", "counterfeits", "real test images", "noise"
SHORT = {INVERTED: "inverted", COUNTERFEITS: "counterfeits", REAL: "real", NOISE: "noise"}
"""What the sets are called in the names of metrics."""


class CounterfeitApplication:
    """Examines the images of the run `cfg.application.run`; the data root, the verifiers and the logger are this command's."""

    best_metric = names.COUNTERFEIT_SUCCESS

    def __init__(self, cfg: DictConfig) -> None:
        check_logger(cfg)
        app = cfg.application
        run = open_finished(named_run(cfg), "application.samples", cfg)
        self.cfg, self.run_cfg, self.classifier = cfg, run.cfg, run.classifier
        asked = app.verifiers if app.verifiers is not None else run.cfg.application.verifiers
        self.verifiers = load_verifiers(asked)
        self.real, self.missing = open_test_data(run.cfg, self.classifier)
        Measurement(
            self.classifier, self.verifiers, self.real, ["accuracy"]
        )  # refuses verifiers that are none
        self.images = run.draw(app.samples)
        self.reference: ReferenceImages | None = None

    @torch.no_grad()
    def run(self, run_dir: RunDir) -> dict[str, float]:
        start, least = time.perf_counter(), self.cfg.application.confidence
        with open_loggers(self.cfg, run_dir) as loggers:
            self.reference = self._reference()
            examined = {}
            for name, images in self._sets().items():
                tell(f"counterfeits: looking at {name}")
                examined[name] = EvaluatedImages(
                    images, self.classifier, self.verifiers, self.reference
                )
            inverted = examined[INVERTED]
            kept_n = (inverted.own.confidence_n >= least).nonzero().flatten()
            kept_n = kept_n[inverted.own.log_odds_n[kept_n].argsort(descending=True, stable=True)]
            rows = {
                name: of.means(torch.arange(len(of.images.labels_n)), least)
                for name, of in examined.items()
            }
            counts = {name: len(of.images.labels_n) for name, of in examined.items()} | {
                COUNTERFEITS: len(kept_n)
            }
            if len(kept_n):
                rows[COUNTERFEITS] = inverted.means(kept_n, least)
            metrics = {
                names.counterfeit(SHORT[name], what): value
                for name, row in rows.items()
                for what, value in row.items()
            }
            metrics[names.COUNTERFEIT_SUCCESS] = rows[INVERTED]["success"]
            if self.verifiers and len(kept_n):
                recognised_n = torch.stack(
                    [of.predicted_n == self.images.labels_n for of in inverted.verifiers.values()]
                ).any(dim=0)
                metrics[names.COUNTERFEIT_UNRECOGNISED] = float(
                    (~recognised_n[kept_n]).double().mean()
                )
            metrics[names.SECONDS] = time.perf_counter() - start
            for logger in loggers:
                logger.log_metrics(metrics, step=0)
            summary = self._summary(rows, counts)
            write_table(summary, run_dir.path, "counterfeit")
            show(summary)
            write_csv(self._listed(inverted, kept_n), run_dir.path / "counterfeits.csv")
            if len(kept_n):
                self._keep(run_dir, loggers, inverted, kept_n)
            print(self._line(metrics, len(kept_n)))
        return metrics

    def _reference(self) -> ReferenceImages | None:
        """Training images, for distances; None where they are not at hand."""
        if self.real is None:
            return None
        images_mCHW = of_split(self.real.train, REAL_IMAGES, self.cfg.seed).images_nCHW
        features_mD = (
            extract_features(next(iter(self.verifiers.values())), images_mCHW).features_nD
            if self.verifiers
            else None
        )
        return ReferenceImages(images_mCHW, features_mD)

    def _sets(self) -> dict[str, Images]:
        """The run's images, and as many of each control."""
        n, seed = len(self.images.labels_n), self.cfg.seed
        sets = {INVERTED: self.images, NOISE: noise(n, self.classifier, self.real, seed)}
        return sets | ({REAL: of_split(self.real.test, n, seed)} if self.real is not None else {})

    def _summary(self, rows: dict[str, dict[str, float]], counts: dict[str, int]) -> Table:
        least, names_of = self.cfg.application.confidence, list(self.verifiers)
        columns = {
            "success": f"own class at {least:g}", "sure_of_any": f"any class at {least:g}", "confidence": "confidence in own class",
            **{f"verified/{name}": f"{name} agrees" for name in names_of},
            **({"rms": "RMS", "correlation": "correlation"} if self.real is not None else {}),
            **({"feature": "feature distance"} if self.real is not None and names_of else {}),
        }  # fmt: skip
        cells: list[list[Cell]] = [
            [name, counts[name], *(rows.get(name, {}).get(what) for what in columns)]
            for name in SHORT
            if name in counts
        ]
        notes = [
            f"counterfeits: images whose own class {self.run_cfg.classifier.zoo or 'the classifier'} gives {least:g} or more"
        ]
        if self.real is not None:
            m = min(REAL_IMAGES, len(self.real.train[1]))
            notes.append(
                f"RMS (a pixel, 0 to 1), correlation (1 is equal), feature distance: to the nearest of {m} training images"
            )
            notes += [f"features: penultimate layer of {names_of[0]}"] if names_of else []
        else:
            notes.append(f"no distances: {self.missing}")
        notes.append(
            "noise has labels that nobody meant: of a network that is sure of any class, one in N agrees"
        )
        return Table(
            f"{self.run_cfg.name}: counterfeits", ["set", "images", *columns.values()], cells, notes
        )

    def _listed(self, inverted: EvaluatedImages, kept_n: Tensor) -> Table:
        """A row each counterfeit, the surest first."""
        class_names = self.classifier.spec.class_names
        made_by = inverted.images.generator_n
        columns: dict[str, list[Cell]] = {
            "image": kept_n.tolist(),
            "class": [class_names[label] for label in inverted.images.labels_n[kept_n].tolist()],
            "confidence": inverted.own.confidence_n[kept_n].tolist(),
            "log_odds": inverted.own.log_odds_n[kept_n].tolist(),
            **({"generator": made_by[kept_n].tolist()} if made_by is not None else {}),
        }
        for name, of in inverted.verifiers.items():
            columns[f"{name}_says"] = [
                class_names[label] for label in of.predicted_n[kept_n].tolist()
            ]
            columns[f"{name}_confidence"] = of.confidence_n[kept_n].tolist()
        for kind, of_kind in inverted.nearest.items():
            columns[f"nearest_{kind}"] = of_kind.distance_n[kept_n].tolist()
        return Table("", list(columns), list(zip(*columns.values(), strict=True)))

    def _keep(
        self, run_dir: RunDir, loggers: list[Logger], inverted: EvaluatedImages, kept_n: Tensor
    ) -> None:
        """The counterfeits as a file, and the surest of each class beside their nearest training images in a picture."""
        images, spec = inverted.images, self.classifier.spec
        targets_nN, generator_n = (
            None if of is None else of[kept_n] for of in (images.targets_nN, images.generator_n)
        )
        run_dir.samples.mkdir(exist_ok=True)
        counterfeits = Images(
            images.images_nCHW[kept_n], images.labels_n[kept_n], targets_nN, generator_n
        )
        write_samples(counterfeits, run_dir.samples / "counterfeits.safetensors")
        pairs = {}
        for label, name in enumerate(spec.class_names):
            of_class_K = kept_n[images.labels_n[kept_n] == label][:PAIRS]
            beside = (
                []
                if self.reference is None
                else [
                    self.reference.images_mCHW[inverted.nearest["correlation"].index_n[of_class_K]]
                ]
            )
            pairs[name if len(of_class_K) else f"{name} (none)"] = torch.stack(
                [images.images_nCHW[of_class_K], *beside], dim=1
            )
        title = f"{self.run_cfg.name}: the surest counterfeits of each class"
        title += (
            "\nbeside each, the training image that it correlates with most"
            if self.reference is not None
            else ""
        )
        figure = counterfeit_grid(pairs, run_dir.figures / "counterfeits.png", title)
        log_image(loggers, names.figure("counterfeits"), figure, 0, " ".join(title.split()))
        print(f"picture: {figure}")

    def _line(self, metrics: dict[str, float], kept: int) -> str:
        """What came out, in one line."""
        app = self.cfg.application
        if not kept:
            return f"counterfeits: none of {app.samples} images has its class at {app.confidence:g}; lower application.confidence"
        line = f"counterfeits: {kept} of {app.samples} images have their class at {app.confidence:g} or more"
        if self.verifiers:
            line += f"; {100 * metrics[names.COUNTERFEIT_UNRECOGNISED]:.0f} % of them are taken for it by no other network"
        if self.reference is not None:
            rms = [
                metrics[names.counterfeit(which, "rms")]
                for which in ("counterfeits", "real", "noise")
            ]
            line += "; RMS to the nearest training image {:.3f} (real test images {:.3f}, noise {:.3f})".format(
                *rms
            )
        return line
