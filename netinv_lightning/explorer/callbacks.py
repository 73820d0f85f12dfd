"""Callbacks of the page: they take values of its components and return HTML.

The generator's conditioning vector has slots, each a class and its weight. With up to 20 classes
each class has its own slot; with more, the user chooses the class of each slot. If the
conditioning uses only the label, the user selects one class, and there are no slots.

Shape suffixes: N classes, K inverted classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.errors import InputError
from netinv_lightning.explorer import markup
from netinv_lightning.explorer.drawing import (
    Drawing,
    Setting,
    distribution,
    extract,
)
from netinv_lightning.explorer.links import Choice, Fields, Range, read_query, write_query
from netinv_lightning.explorer.neighbours import FEATURES, PIXELS, Neighbours
from netinv_lightning.explorer.pictures import read_picture
from netinv_lightning.explorer.requests import check_upload

MOST_SLIDERS = 20
"""Largest number of classes that have a slider each."""
LARGEST_SEED = 2**31 - 1
CHOSEN = 5
"""Number of sliders if there are more than `MOST_SLIDERS` classes."""
STRIP = 20
"""Images in a strip over classes; with more classes the strip has pages."""
STEPS = 10
"""Images in a strip between two classes or two latents."""
OVER_CLASSES, OVER_VECTORS, OVER_LATENTS = (
    "all classes",
    "class A to class B",
    "latent A to latent B",
)


@dataclass(frozen=True)
class Explored:
    """Contents of the page.

    Attributes:
        title: Title of the page.
        facts: One line about the run.
        drawing: Generators and classifier.
        inverted: Images of the generators.
        real: Real images, or None.
        real_note: What the real images are, or why they are missing.
        command: Command that opens this page.
    """

    title: str
    facts: str
    drawing: Drawing
    inverted: Neighbours
    real: Neighbours | None
    real_note: str
    command: str = "netinv explore RUN"


class Callbacks:
    """Functions that the components of the page call.

    Args:
        explored: Contents of the page.
        uploads: The only folder from which pictures are opened; None for any folder.
    """

    def __init__(self, explored: Explored, uploads: Path | None = None) -> None:
        self.explored, self.drawing, self.uploads = explored, explored.drawing, uploads
        self.classes, self.labels = self.drawing.classes, self.drawing.labels
        K = len(self.labels)
        self.chosen = K > MOST_SLIDERS
        """Whether the user chooses the classes of the slots."""
        images = self.drawing.classifier.spec.modality == "images"
        self.values = PIXELS if images else "values"
        """What the numbers of an input are called."""
        self.slots = 0 if self.drawing.label_alone else CHOSEN if self.chosen else K

    def show(self, label: int, by: str, *values: Any) -> tuple[str, str]:
        """Return an image next to its nearest real image, and a chart of its class probabilities.

        Args:
            label: The selected class.
            by: Similarity to real images: `pixels` or `features`.
            *values: Values of the setting, then of the slots.
        """
        setting, slots = self._setting(values)
        drawn = self.drawing.image(self._vector(label, slots), setting)
        figure = markup.image(
            drawn.images_nCHW[0],
            f"Draw {setting.draw + 1}. Prediction: {self._prediction(drawn, 0)}",
            "drawn",
        )
        return markup.pair(figure, self._nearest_real(drawn, by)), self._bars(drawn)

    def hot(self, label: int, by: str, *values: Any) -> list[Any]:
        """Return slots of a single class, and what `show` returns for them."""
        return self._with_slots({label: 1.0}, label, by, values)

    def mixed(self, share: float, label: int, other: int, by: str, *values: Any) -> list[Any]:
        """Return slots between two classes, and what `show` returns for them."""
        weights = {label: 1.0} if label == other else {label: 1 - share, other: share}
        return self._with_slots(weights, label, by, values)

    def sweep(self, over: str, page: int, other: int, label: int, by: str, *values: Any) -> str:
        """Return a strip of images."""
        setting, slots = self._setting(values)
        names = [f"{share:.0%}" for share in torch.linspace(0, 1, STEPS).tolist()]
        if over == OVER_LATENTS:
            drawn = self.drawing.between_latents(self._vector(label, slots), STEPS, setting)
        elif over == OVER_VECTORS:
            drawn = self.drawing.between_classes(label, other, STEPS, setting)
        else:
            labels = self.labels[(page - 1) * STRIP : page * STRIP]
            drawn = self.drawing.of_classes(labels, setting)
            names = [self.classes[k] for k in labels]
        captions = [
            f"{name} \u2192 {self._prediction(drawn, index)}" for index, name in enumerate(names)
        ]
        return markup.strip(drawn.images_nCHW, captions)

    @property
    def fields(self) -> Fields:
        """The parts of the page that a link restores, in the order of `released`."""
        module = self.drawing.module
        fields: dict[str, Choice | Range] = {
            "over": Choice((OVER_CLASSES, OVER_VECTORS, OVER_LATENTS)),
            "strip": Range(1, -(-len(self.labels) // STRIP)),
            "share": Range(0.0, 1.0),
            "other": Choice(self.labels),
            "label": Choice(self.labels),
            "by": Choice((PIXELS, FEATURES)),
            "first": Range(0, LARGEST_SEED),
            "second": Range(0, LARGEST_SEED),
            "position": Range(0.0, 1.0),
            "generator": Range(0, len(module.generators) - 1),
            "dropout": Choice((False, True)),
            "draw": Range(0, LARGEST_SEED),
        }
        if self.chosen:
            fields |= {f"class{slot}": Choice(self.labels) for slot in range(self.slots)}
        weight = Range(0.0, 1.0, missing="0")
        return fields | {f"weight{slot}": weight for slot in range(self.slots)}

    def released(
        self, over: str, page: int, share: float, other: int, label: int, by: str, *values: Any
    ) -> tuple[str, str]:
        """Return a strip of images, and links that export the image and the state of the page."""
        setting, slots = self._setting(values)
        image = self.drawing.image(self._vector(label, slots), setting).images_nCHW[0]
        query = write_query(self.fields, (over, page, share, other, label, by, *values))
        strip = self.sweep(over, page, other, label, by, *values)
        return strip, markup.export(image, query, self.explored.command)

    def restored(self, query: str) -> list[Any] | None:
        """Return the state of a link: the values of the parts, what `show` and `released` return.

        None if the query of the link is empty or invalid.
        """
        state = read_query(self.fields, query) if query else None
        return None if state is None else [*state, *self.show(*state[4:]), *self.released(*state)]

    def picture(self, path: str | None) -> tuple[str, str, str]:
        """Return a picture next to its nearest images, class probabilities, and top units."""
        if path is None:
            return "", "", ""
        classifier = self.drawing.classifier
        try:
            if self.uploads is not None:
                check_upload(path, self.uploads)
            given = extract(classifier, read_picture(Path(path), classifier.spec)[None])
        except InputError as error:
            return markup.text(str(error)), "", ""
        figure = markup.image(
            given.images_nCHW[0],
            f"Your picture, as the classifier sees it. Prediction: {self._prediction(given, 0)}",
            "picture",
        )
        inverted = self._nearest(self.explored.inverted, given, FEATURES, "nearest-inverted")
        return (
            markup.pair(figure, inverted, self._nearest_real(given, FEATURES)),
            self._bars(given),
            markup.units(given.features_nD[0], classifier.feature_layers[-1]),
        )

    def slot_values(self, weights: dict[int, float]) -> list[Any]:
        """Return the values of the slots for the weights of some classes."""
        if not self.chosen:
            return [weights.get(label, 0.0) for label in self.labels[: self.slots]]
        others = [label for label in self.labels if label not in weights]
        labels = [*weights, *others][: self.slots]
        return [*labels, *(weights.get(label, 0.0) for label in labels)]

    def _with_slots(
        self, weights: dict[int, float], label: int, by: str, values: Sequence[Any]
    ) -> list[Any]:
        setting = values[: len(values) - self.slots * (2 if self.chosen else 1)]
        slots = self.slot_values(weights)
        return [*slots, *self.show(label, by, *setting, *slots)]

    def _setting(self, values: Sequence[Any]) -> tuple[Setting, Sequence[Any]]:
        first, second, position, generator, dropout, draw, *slots = values
        setting = Setting(
            first=int(first or 0),
            second=int(second or 0),
            position=position,
            generator=generator,
            dropout=dropout,
            draw=draw,
        )
        return setting, slots

    def _vector(self, label: int, slots: Sequence[Any]) -> Tensor:
        weights_N = torch.zeros(len(self.classes))
        if not self.slots:
            weights_N[label] = 1.0
            return weights_N
        labels = slots[: self.slots] if self.chosen else self.labels
        for slot_label, weight in zip(labels, slots[-self.slots :], strict=True):
            weights_N[slot_label] += weight
        return distribution(weights_N)

    def _bars(self, features: FeatureSet) -> str:
        targets_nN = features.targets_nN
        target_N = None if targets_nN is None else targets_nN[0]
        return markup.probabilities(features.probabilities_nN[0], target_N, self.classes)

    def _nearest_real(self, features: FeatureSet, by: str) -> str:
        real = self.explored.real
        if real is None:
            return markup.text(self.explored.real_note)
        return self._nearest(real, features, by, "nearest-real")

    def _nearest(self, among: Neighbours, features: FeatureSet, by: str, name: str) -> str:
        near = among.nearest(features.images_nCHW[0], features.features_nD[0], by)
        measure = f"correlation of {self.values}" if by == PIXELS else "cosine of features"
        return markup.image(
            near.image_CHW,
            f"Nearest of {among.description}: {self.classes[near.label]}, "
            f"{measure} {near.similarity:.3f}",
            name,
        )

    def _prediction(self, features: FeatureSet, index: int) -> str:
        probability, label = features.probabilities_nN[index].max(dim=0)
        return f"{self.classes[int(label)]} ({float(probability):.1%})"
