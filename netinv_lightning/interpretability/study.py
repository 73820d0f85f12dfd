"""Study of the features of inverted images: checks before a run starts, analyses afterwards.

It follows Suhail, Tang and Sethi (2024, arXiv 2411.17777, section 5.1).

    figures/*.png, *.pdf                    each figure in both formats
    interpretation.csv, interpretation.md   all numbers; conclusions in sentences
    rules.txt, rules.safetensors            the rules in words, and their hyperplanes

Shape suffixes: n images, B batch, C channels, h height, w width of a map.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import FeatureSet, extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.layer_names import PENULTIMATE
from netinv_lightning.config.schema import ANALYSES, InterpretConfig
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError, nearest, one_line
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.evaluation.real_data import of_split
from netinv_lightning.interpretability.autoencoders import KSparse
from netinv_lightning.interpretability.boundary import present_classes
from netinv_lightning.interpretability.conclusions import conclude
from netinv_lightning.interpretability.embedding import NEIGHBOURS, check_perplexities
from netinv_lightning.interpretability.feature_layers import head_of, map_layers
from netinv_lightning.interpretability.study_input import StudyInput, StudyResult
from netinv_lightning.runs.tables import Cell, Table
from netinv_lightning.tracking.result import Figure, Result
from netinv_lightning.training.progress import stages

MIN_SAMPLES, MAX_SAMPLES = 100, 5000
BATCH = 500


class FeatureStudy:
    """Analyses of the features of inverted images and, if data are available, of real images.

    Create it before a run starts, so that invalid options are refused early. Call it when the
    inverted images exist.

    Args:
        name: Name of the run, for titles.
        options: The config keys `interpret`.
        classifier: The inverted classifier.
        max_samples: Default number of images, which is at most 5,000.
        seed: Seed of all random numbers.

    Raises:
        InputError: for an unknown layer, a layer with fewer than 3 features or with a skip
            connection around it, a classifier with one class, too few samples, or perplexities that
            are too large for the number of samples.
    """

    def __init__(
        self,
        name: str,
        options: InterpretConfig,
        classifier: FrozenClassifier,
        max_samples: int,
        seed: int,
    ) -> None:
        self.name, self.options, self.seed = name, options, seed
        self.samples = min(MAX_SAMPLES, max_samples) if options.samples is None else options.samples
        if classifier.spec.num_classes < 2:
            raise InputError(
                "interpret: the classifier has one class, so it makes no decision to study. "
                "Use a classifier with two classes or more"
            )
        self.layer = options.layer or classifier.feature_layers[-1]
        self.map_layer = _map_layer(options.map_layer, classifier)
        self.classifier = _with_layers(classifier, self.layer, self.map_layer)
        if (D := self.classifier.feature_dims[self.layer]) < 3:
            raise InputError(
                f"interpret.layer={self.layer}: has {D} features. The analyses need 3 or more. "
                "Choose another layer"
            )
        self._check_samples(D)
        self.real: ImageDataModule | None = None
        self.missing = "no data"

    def add_real(self, real: ImageDataModule | None, missing: str) -> None:
        """Set the real images to compare with, or the reason why there are none."""
        self.real, self.missing = real, missing
        if real is not None and min(len(real.train[1]), len(real.test[1])) < MIN_SAMPLES:
            self.real, self.missing = None, f"fewer than {MIN_SAMPLES} training or test images"

    def __call__(self, figures: Path, draw: Callable[[int], Images], step: int = 0) -> Result:
        """Run the analyses.

        Args:
            figures: The folder of the figures. The rules are written into the folder above it.
            draw: Returns the given number of inverted images.
            step: Training step that the images belong to.
        """
        inputs = self._inputs(draw, figures)
        present_classes(inputs.inverted.predicted_n)
        metrics: dict[str, float] = {}
        drawn: list[Figure] = []
        skipped: list[str] = []
        for name in stages("analysis", self.options.analyses):
            start = time.perf_counter()
            try:
                result = _analysis(name)(inputs)
            except InputError as error:
                skipped.append(f"skipped: {name}: {one_line(error)}")
                continue
            metrics |= result.metrics | {
                names.interpretation("seconds", name): time.perf_counter() - start
            }
            drawn += [Figure(path, caption) for path, caption in result.figures]
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        tables = {"interpretation": self._table(metrics, skipped)}
        return Result(metrics, step, tables=tables, figures=drawn)

    def _check_samples(self, D: int) -> None:
        options = self.options
        if self.samples < MIN_SAMPLES:
            raise InputError(
                f"interpret.samples={self.samples}: must be {MIN_SAMPLES} or more. "
                "One half is used for fitting, the other half for evaluation"
            )
        if "clusters" in options.analyses:
            embedded = min(options.embedded, self.samples)
            if embedded <= 2 * NEIGHBOURS:
                raise InputError(
                    f"interpret.embedded={options.embedded}: must be more than {2 * NEIGHBOURS}. "
                    f"The stability of t-SNE is measured with {NEIGHBOURS} neighbours"
                )
            for key in ("perplexities", "embedding_seeds"):
                if not getattr(options, key):
                    raise InputError(f"interpret.{key}=[]: is empty. Give at least one value")
            check_perplexities(options.perplexities, embedded)
        if "autoencoders" in options.analyses:
            KSparse(D, options.sparse_units, options.sparse_active, seed=0)

    def _inputs(self, draw: Callable[[int], Images], figures: Path) -> StudyInput:
        classifier, layer = self.classifier, self.layer
        weight = next(classifier.network.parameters())
        classifier.to(weight.device, weight.dtype)

        def extract(images: Images) -> FeatureSet:
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
                extract(of_split(split, self.samples, self.seed))
                for split in (self.real.train, self.real.test)
            )
        return StudyInput(
            name=self.name,
            class_names=classifier.spec.class_names,
            options=self.options,
            seed=self.seed,
            inverted=extract(draw(self.samples)),
            training=training,
            test=test,
            head=head_of(classifier, layer),
            classify=classify,
            maps=self._maps if self.map_layer else None,
            figures=figures,
        )

    def _maps(self, images_nCHW: Tensor) -> Tensor:
        """Return the activations [n, C, h, w] of the map layer."""
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
        """Return the conclusions in sentences; the file of the numbers has a row each."""
        penultimate = " (input of the last fully connected layer)"
        maps = f"maps of layer {self.map_layer}" if self.map_layer else "the network has no maps"
        notes = [
            f"layer {self.layer}{penultimate if self.layer == PENULTIMATE else ''}; {maps}",
            f"seed {self.seed}; fitted on one half of the samples, evaluated on the other half",
            *skipped,
        ]
        notes += [f"without real images: {self.missing}"] if self.missing else []
        rows: list[list[Cell]] = [
            [name.removeprefix("interpretation/"), value] for name, value in metrics.items()
        ]
        return Table(
            f"Feature study: {self.name}",
            columns=[],
            rows=[],
            notes=[*conclude(metrics), *notes],
            full=Table("", ["number", "value"], rows),
        )


def _analysis(name: str) -> Callable[[StudyInput], StudyResult]:
    module, function = ANALYSES[name].split(":")
    analysis: Callable[[StudyInput], StudyResult] = getattr(import_module(module), function)
    return analysis


def _map_layer(layer: str | None, classifier: FrozenClassifier) -> str | None:
    """Return the chosen map layer, by default the last one; None if the network has no maps."""
    maps = map_layers(classifier)
    layer = layer or (list(maps)[-1] if maps else None)
    if layer is not None and layer not in maps:
        raise InputError(
            f"interpret.map_layer={layer}: has no maps of 2 x 2 or more. {nearest(layer, maps)}"
        )
    return layer


def _with_layers(
    classifier: FrozenClassifier, layer: str, map_layer: str | None
) -> FrozenClassifier:
    """Return the classifier with the two layers as its feature layers."""
    layers = [layer] if map_layer in (None, layer) else [layer, str(map_layer)]
    try:
        studied = FrozenClassifier(classifier.network, classifier.spec, layers, like=classifier)
        studied.check_cut(layer)
    except InputError as error:
        raise InputError(
            str(error).replace("classifier.feature_layers=", "interpret.layer=")
        ) from error
    return studied
