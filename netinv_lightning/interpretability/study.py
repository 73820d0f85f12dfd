"""The studies of a run's inverted features (S2 section 5.1): checked before a run starts, made when its images are there.

    figures/*.png, *.pdf                    each figure twice
    interpretation.csv, interpretation.md   every number, with what it is
    rules.txt, rules.safetensors            the rules in words, and their hyperplanes

Shape suffixes: n images, B batch, C channels, h height, w width of a map.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet, extract_features
from netinv_lightning.classifiers.frozen import PENULTIMATE, FrozenClassifier
from netinv_lightning.errors import InputError, nearest, one_line
from netinv_lightning.evaluation.image_sets import Images, of_split, open_real
from netinv_lightning.interpretability.autoencoder_study import study_autoencoders
from netinv_lightning.interpretability.autoencoders import KSparse
from netinv_lightning.interpretability.boundary import classes_among
from netinv_lightning.interpretability.cluster_study import study_clusters
from netinv_lightning.interpretability.embedding import NEIGHBOURS, check_perplexities
from netinv_lightning.interpretability.features import head_of, map_layers
from netinv_lightning.interpretability.projection_study import study_projection
from netinv_lightning.interpretability.rule_study import study_rules
from netinv_lightning.interpretability.study_input import Part, Subject
from netinv_lightning.runs.tables import Cell, Table
from netinv_lightning.tracking.result import Figure, Result
from netinv_lightning.training.progress import tell

STUDIES: dict[str, Callable[[Subject], Part]] = {
    "projection": study_projection,
    "clusters": study_clusters,
    "autoencoders": study_autoencoders,
    "rules": study_rules,
}
LEAST_SAMPLES, MOST_SAMPLES = 100, 5000
BATCH = 500


class Study:
    """Made before a run starts, so that what was asked for is checked then; called when its images are there.

    Args:
        cfg: The config of the inversion: `interpret`, `data`, `seed`, `name`.
        classifier: What was inverted.
        most: Images that the inversion's evaluation takes: by default no more are studied.

    Raises:
        InputError: for an unknown study or layer, data of another shape, a layer of fewer than 3 features or with a way around
            it, a classifier of one class, too few samples, or a perplexity that they do not allow.
    """

    def __init__(self, cfg: DictConfig, classifier: FrozenClassifier, most: int) -> None:
        self.cfg, self.options = cfg, cfg.interpret
        self.samples = (
            min(MOST_SAMPLES, most) if self.options.samples is None else self.options.samples
        )
        for study in self.options.analyses:
            if study not in STUDIES:
                raise InputError(f"interpret.analyses={study}: {nearest(study, STUDIES)}")
        if classifier.spec.num_classes < 2:
            raise InputError(
                "interpret: the classifier has one class, so it decides nothing that could be studied; give one of two or more"
            )
        self.layer = self.options.layer or classifier.feature_layers[-1]
        maps = map_layers(classifier)
        self.map_layer = self.options.map_layer or (list(maps)[-1] if maps else None)
        if self.map_layer is not None and self.map_layer not in maps:
            raise InputError(
                f"interpret.map_layer={self.map_layer}: gives no maps of 2 x 2 or more; {nearest(self.map_layer, maps)}"
            )
        layers = [self.layer] + [self.map_layer] * (self.map_layer not in (None, self.layer))
        try:
            self.classifier = FrozenClassifier(
                classifier.network, classifier.spec, layers, like=classifier
            )
            self.classifier.check_cut(self.layer)
        except InputError as error:
            raise InputError(
                str(error).replace("classifier.feature_layers=", "interpret.layer=")
            ) from error
        if (D := self.classifier.feature_dims[self.layer]) < 3:
            raise InputError(
                f"interpret.layer={self.layer}: has {D} features; its studies need 3 or more, name another layer"
            )
        self._check_samples(D)
        self.real, self.no_data = open_real(cfg, classifier)
        if (
            self.real is not None
            and min(len(self.real.train[1]), len(self.real.test[1])) < LEAST_SAMPLES
        ):
            self.real, self.no_data = None, f"fewer than {LEAST_SAMPLES} training or test images"

    def __call__(self, figures: Path, draw: Callable[[int], Images], step: int = 0) -> Result:
        """Run the studies.

        Args:
            figures: The folder of the figures. The rules are written into the folder above it.
            draw: Returns the given number of inverted images.
            step: Training step that the images belong to.
        """
        subject = self._subject(draw, figures)
        classes_among(subject.inverted.predicted_n)
        metrics: dict[str, float] = {}
        drawn: list[Figure] = []
        skipped: list[str] = []
        for name in self.options.analyses:
            start = time.perf_counter()
            tell(f"interpreting: {name}, {len(subject.inverted)} images")
            try:
                part = STUDIES[name](subject)
            except InputError as error:
                skipped.append(f"skipped: {name}: {one_line(error)}")
                continue
            metrics |= part.metrics | {
                names.interpretation("seconds", name): time.perf_counter() - start
            }
            drawn += [Figure(path, caption) for path, caption in part.figures]
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        tables = {"interpretation": self._table(metrics, skipped)}
        return Result(metrics, step, tables=tables, figures=drawn)

    def _check_samples(self, D: int) -> None:
        options = self.options
        if self.samples < LEAST_SAMPLES:
            raise InputError(
                f"interpret.samples={self.samples}: must be {LEAST_SAMPLES} or more, half of them judge what is fitted on the others"
            )
        if "clusters" in options.analyses:
            embedded = min(options.embedded, self.samples)
            if embedded <= 2 * NEIGHBOURS:
                raise InputError(
                    f"interpret.embedded={options.embedded}: must be more than {2 * NEIGHBOURS}, t-SNE is judged by {NEIGHBOURS} neighbours"
                )
            if not options.perplexities or not options.embedding_seeds:
                raise InputError(
                    "interpret.perplexities, interpret.embedding_seeds: must name one value or more each"
                )
            check_perplexities(options.perplexities, embedded)
        if "autoencoders" in options.analyses:
            KSparse(D, options.sparse_units, options.sparse_active, seed=0)

    def _subject(self, draw: Callable[[int], Images], figures: Path) -> Subject:
        classifier, layer, most, seed = self.classifier, self.layer, self.samples, self.cfg.seed
        weight = next(classifier.network.parameters())
        classifier.to(weight.device, weight.dtype)

        def seen(images: Images) -> FeatureSet:
            features = extract_features(
                classifier,
                images.images_nCHW,
                layer=layer,
                batch_size=BATCH,
                channels_last=False,
            )
            return replace(features, labels_n=images.labels_n, generator_n=images.generator_n)

        def classify(x_BCHW: Tensor) -> Tensor:
            return classifier(x_BCHW.to(classifier.mean_C11)).float().cpu()

        training = test = None
        if self.real is not None:
            training, test = (
                seen(of_split(split, most, seed)) for split in (self.real.train, self.real.test)
            )
        spec = classifier.spec
        return Subject(
            self.cfg.name, spec.class_names, self.options, seed, seen(draw(most)), training, test, head_of(classifier, layer), classify,
            self._maps if self.map_layer else None, figures,
        )  # fmt: skip

    def _maps(self, images_nCHW: Tensor) -> Tensor:
        """The activations [n, C, h, w] of the map layer."""
        assert self.map_layer is not None
        features = extract_features(
            self.classifier,
            images_nCHW,
            layer=self.map_layer,
            batch_size=BATCH,
            channels_last=False,
        )
        return features.features_nD.unflatten(1, self.classifier.feature_shapes[self.map_layer])

    def _table(self, metrics: dict[str, float], skipped: list[str]) -> Table:
        notes = [
            f"layer {self.layer}{'' if self.layer != PENULTIMATE else ' (the input of the last fully connected one)'}; "
            f"maps of layer {self.map_layer or 'none, the network has no maps'}",
            f"seed {self.cfg.seed}; what is fitted on one half of the samples is judged on the other",
        ]
        notes += skipped
        notes += [f"without real images: {self.no_data}"] if self.no_data else []
        rows: list[list[Cell]] = [
            [name.removeprefix("interpretation/"), value] for name, value in metrics.items()
        ]
        return Table(f"Interpreted: {self.cfg.name}", ["number", "value"], rows, notes)
