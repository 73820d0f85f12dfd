"""Tables, pairs and the summary line of `application=counterfeit`.

Shape suffixes: n images, K pairs, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.downstream.counterfeits import (
    INVERTED,
    SHORT,
    Counterfeits,
    ReferenceImages,
)
from netinv_lightning.runs.tables import Cell, Table

PAIRS = 5  # per class in the figure


class CounterfeitTables:
    """Tables and summary line of counterfeits.

    Args:
        found: The counterfeits among the inverted images.
        reference: The training images for distances, if there are any.
        missing: Why there are none.
    """

    def __init__(
        self, found: Counterfeits, reference: ReferenceImages | None, missing: str
    ) -> None:
        self.found, self.reference, self.missing = found, reference, missing
        self.inverted = found.examined[INVERTED]

    def summary(self, name: str, classifier: str) -> Table:
        """One row per set of images.

        Args:
            name: Name of the run.
            classifier: Name of the classifier.
        """
        least, verifiers = self.found.least, list(self.inverted.verifiers)
        columns = {
            "success": f"own class at {least:g}",
            "sure_of_any": f"any class at {least:g}",
            "confidence": "confidence in own class",
            **{f"verified/{verifier}": f"{verifier} agrees" for verifier in verifiers},
        }
        if self.reference is not None:
            columns |= {"rms": "RMS", "correlation": "correlation"}
            columns |= {"feature": "feature distance"} if verifiers else {}
        rows, counts = self.found.rows(), self.found.counts()
        cells: list[list[Cell]] = [
            [images, counts[images], *(rows.get(images, {}).get(what) for what in columns)]
            for images in SHORT
            if images in counts
        ]
        notes = [
            f"counterfeits: inverted images whose class has a probability of {least:g} or more "
            f"under {classifier}"
        ]
        if self.reference is None:
            notes.append(f"no distances: {self.missing}")
        else:
            m = len(self.reference.images_mCHW)
            notes.append(
                "RMS (per pixel, 0 to 1), correlation (1: equal) and feature distance: "
                f"to the nearest of {m} training images"
            )
            notes += [f"features: penultimate layer of {verifiers[0]}"] if verifiers else []
        notes.append("noise has arbitrary labels: with N classes, one in N agrees by chance")
        return Table(f"{name}: counterfeits", ["set", "images", *columns.values()], cells, notes)

    def each(self, class_names: Sequence[str]) -> Table:
        """One row per counterfeit, the most confident first."""
        index_n, inverted = self.found.index_n, self.inverted
        own, images = inverted.own, inverted.images

        def named(label_n: Tensor) -> list[Cell]:
            return [class_names[label] for label in label_n[index_n].tolist()]

        columns: dict[str, list[Cell]] = {
            "image": index_n.tolist(),
            "class": named(images.labels_n),
            "confidence": own.confidence_n[index_n].tolist(),
            "log_odds": own.log_odds_n[index_n].tolist(),
        }
        if images.generator_n is not None:
            columns["generator"] = images.generator_n[index_n].tolist()
        for name, of in inverted.verifiers.items():
            columns[f"{name}_says"] = named(of.predicted_n)
            columns[f"{name}_confidence"] = of.confidence_n[index_n].tolist()
        for kind, of_kind in inverted.nearest.items():
            columns[f"nearest_{kind}"] = of_kind.distance_n[index_n].tolist()
        return Table("", list(columns), list(zip(*columns.values(), strict=True)))

    def line(self, metrics: Mapping[str, float]) -> str:
        """Return the result in one line."""
        least, count = self.found.least, len(self.found.index_n)
        n = len(self.inverted.images.labels_n)
        if not count:
            return (
                f"counterfeits: none of {n} images reaches confidence {least:g} in its class; "
                "lower application.confidence"
            )
        line = f"counterfeits: {count} of {n} images reach confidence {least:g} in their class"
        if self.inverted.verifiers:
            share = 100 * metrics[names.COUNTERFEIT_UNRECOGNISED]
            line += f"; no other network agrees on {share:.0f} % of them"
        if self.reference is not None:
            of_sets = ("counterfeits", "real", "noise")
            rms = [metrics[names.counterfeit(images, "rms")] for images in of_sets]
            line += (
                "; RMS distance to the nearest training image {:.3f} "
                "(real test images {:.3f}, noise {:.3f})"
            ).format(*rms)
        return line


def nearest_pairs(
    found: Counterfeits, reference: ReferenceImages | None, class_names: Sequence[str]
) -> dict[str, Tensor]:
    """Return the most confident counterfeits of each class, [K, 1 or 2, C, H, W], by its name.

    With a reference, the image that correlates with it most is the second of each pair.
    """
    inverted, index_n = found.examined[INVERTED], found.index_n
    images_nCHW, label_n = inverted.images.images_nCHW, inverted.images.labels_n
    pairs = {}
    for label, name in enumerate(class_names):
        index_K = index_n[label_n[index_n] == label][:PAIRS]
        shown = [images_nCHW[index_K]]
        if reference is not None:
            nearest_K = inverted.nearest["correlation"].index_n[index_K]
            shown.append(reference.images_mCHW[nearest_K])
        pairs[name if len(index_K) else f"{name} (none)"] = torch.stack(shown, dim=1)
    return pairs
