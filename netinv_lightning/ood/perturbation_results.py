"""Results of the perturbation study: table and verdict on the claim of the slides.

The claim (Taparia, slides, "Insights of OOD Detection using INN"): L1 and L2 perturbations are
detected better than Linf perturbations, because they spread their change more evenly over the
image.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean

from netinv_lightning.inversion.perturbation import NORMS
from netinv_lightning.runs.tables import Table

DIRECTIONS = ("random", "adversarial")
CLAIMED, BASELINE = ("l1", "l2"), "linf"
"""Norms that the claim is about, and the norm that they are compared with."""
COLUMNS = {
    "direction": "direction",
    "norm": "norm",
    "rms": "RMS",
    "detector": "detector",
    "auroc": "AUROC",
    "auroc_low": "from",
    "auroc_high": "to",
    "accuracy": "accuracy",
    "concentration": "top 1 %",
    "l2": "L2",
    "linf": "Linf",
}
"""Columns of the table, by attribute of `PerturbationRow`."""
NOTE = (
    "RMS: root mean square change by a random perturbation of this radius, before clipping to "
    "[0, 1]; "
    "top 1 %: share of the squared change in the most changed pixels; "
    "L2, Linf: mean size after clipping; intervals cover the choice of images, not of detectors, "
    "strengths or classifiers"
)


@dataclass(frozen=True)
class PerturbationRow:
    """One detector and one kind of perturbation."""

    direction: str
    norm: str
    rms: float
    """RMS change of a value by a random perturbation of this radius, before clipping to [0, 1]."""
    detector: str
    auroc: float
    """AUROC of perturbed against unperturbed images; 0.5 is chance."""
    auroc_low: float
    auroc_high: float
    """Ends of the 95 % bootstrap interval."""
    accuracy: float
    """Accuracy of the classifier on the perturbed images."""
    concentration: float
    """Share of the squared change in the most changed 1 % of the pixels of each image; 0.01 if all
    change equally."""
    l2: float
    linf: float
    """Mean L2 and Linf norm of the change after clipping; the concentration is also computed after
    clipping."""


@dataclass(frozen=True)
class NormGain:
    """Difference of AUROC between a norm and Linf at equal RMS.

    It covers all settings; a setting is a pair of detector and strength.
    """

    direction: str
    norm: str
    settings: int
    """Number of settings whose RMS change is also reached by Linf perturbations."""
    higher: int
    """Number of settings in which the norm has the higher AUROC."""
    mean: float
    """Mean difference of AUROC; NaN without settings, like the next three."""
    low: float
    high: float
    """Ends of the 95 % bootstrap interval of the mean. Both the images, which all settings share,
    and the settings are resampled, because the claim concerns detectors and strengths in general.
    """
    spread: float
    """Standard deviation of the difference over the settings."""

    def __str__(self) -> str:
        if not self.settings:
            return f"{self.norm} never reached at equal RMS"
        return (
            f"{self.norm} {self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}], "
            f"spread {self.spread:.3f}, higher in {self.higher} of {self.settings}"
        )


@dataclass(frozen=True)
class PerturbationResults:
    """Results of `perturbation_study`.

    Attributes:
        rows: One per direction, norm, strength and detector.
        gains: L1 and L2 against Linf, for each direction.
        unperturbed_auroc: AUROC of each detector between the two halves before the perturbation;
            chance is 0.5.
        unperturbed_accuracy: Accuracy of the classifier on the half before it is perturbed.
    """

    rows: tuple[PerturbationRow, ...]
    gains: tuple[NormGain, ...]
    unperturbed_auroc: dict[str, float]
    unperturbed_accuracy: float

    def table(self) -> Table:
        """Return the table of all rows, with the verdict as a note."""
        aurocs = ", ".join(f"{name} {auroc:.3f}" for name, auroc in self.unperturbed_auroc.items())
        notes = [
            self.verdict(),
            f"before the perturbation: accuracy {self.unperturbed_accuracy:.3f}; "
            f"AUROC of one half against the other (baseline): {aurocs}",
            NOTE,
        ]
        rows = [[getattr(row, attribute) for attribute in COLUMNS] for row in self.rows]
        return Table("Detection of perturbed images", list(COLUMNS.values()), rows, notes)

    def verdict(self) -> str:
        """Return the verdict on both parts of the claim, one sentence each."""
        better = ", and ".join(self._detected_better(direction) for direction in DIRECTIONS)
        even = ", and ".join(self._spread_evenly(direction) for direction in DIRECTIONS)
        return (
            f"Claim that L1 and L2 are detected better than Linf at equal RMS: {better}. "
            f"Claim that they spread their change more evenly: {even}."
        )

    def _detected_better(self, direction: str) -> str:
        gains = [gain for gain in self.gains if gain.direction == direction]
        better = [gain.norm for gain in gains if gain.low > 0]
        if better:
            outcome = "holds" if len(better) == len(gains) else f"holds for {better[0]} only"
        elif any(gain.settings for gain in gains):
            outcome = "refuted" if any(gain.high < 0 for gain in gains) else "not confirmed"
        else:
            outcome = "not tested"
        differences = "; ".join(map(str, gains))
        return f"{outcome} for {direction} perturbations (difference of AUROC: {differences})"

    def _spread_evenly(self, direction: str) -> str:
        share = {
            norm: mean(
                row.concentration
                for row in self.rows
                if (row.direction, row.norm) == (direction, norm)
            )
            for norm in NORMS
        }
        more_even = [norm for norm in CLAIMED if share[norm] < share[BASELINE]]
        outcome = f"holds for {more_even[0]} only" if more_even else "refuted"
        if len(more_even) == len(CLAIMED):
            outcome = "holds"
        shares = ", ".join(f"{norm} {value:.2f}" for norm, value in share.items())
        return (
            f"{outcome} for {direction} perturbations "
            f"(squared change in the top 1 % of pixels: {shares})"
        )
