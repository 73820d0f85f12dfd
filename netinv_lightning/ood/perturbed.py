"""Whether detectors notice perturbations, and of which norm best (A2-15, A8-9).

The slides (S3, "Insights of OOD Detection using INN") say that L1 and L2 perturbations give "more effective global detection OOD
shifts, as they evenly distribute changes across the image", where Linf is "pixel-level control". They give no protocol; this is ours.
One half of the test images is perturbed and told from the other half, so that no image is compared with itself. Each norm has the
radius at which a random perturbation changes a value by the same root mean square (RMS); adversarial ones have the same radius.
For P values, before they are cut to [0, 1], the expected mean square of a random one is

    linf    r^2 / 3               each value is uniform in [-r, r]
    l2      r^2 / P               it is on the sphere
    l1      2 r^2 / (P (P + 1))   magnitudes / r are uniform on the simplex, Dirichlet(1, ..., 1): second moments 2 / (P (P + 1))

An equal radius is no equal size once attacks choose the pixels and [0, 1] cuts them. So norms are compared at the RMS that is reached,
between the strengths of Linf by interpolation. What came out is in experiments/ood.

Shape suffixes: n unperturbed images, m images to perturb, B batch, C channels, H height, W width, P pixels or values of an image,
D detectors, S the sample and its resamples, K settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean

import torch
from torch import Tensor

from netinv_lightning.classifiers.features import BATCH, batches, check, look
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.splits import stratified_indices
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.perturbation import NORMS, Perturbation
from netinv_lightning.inversion.perturbation import norm as norm_of
from netinv_lightning.metrics.detection import INTERVAL, RESAMPLES, auroc_interval
from netinv_lightning.ood.detectors.detector import Detector
from netinv_lightning.runs.tables import Table
from netinv_lightning.training.distributed import Stream

DIRECTIONS = ("random", "adversarial")
CLAIMED, AGAINST = ("l1", "l2"), "linf"
TOP = 0.01
"""Share of the pixels whose change `concentration` counts."""
SLACK = 1.01
"""Ratio of sizes that count as equal; a random Linf perturbation has its RMS in the mean only."""
LEAST_IMAGES = 20


@dataclass(frozen=True)
class Row:
    """One detector and one kind of perturbation."""

    direction: str
    norm: str
    rms: float
    """RMS change of a value by a random perturbation of this radius, before it is cut to [0, 1]."""
    detector: str
    auroc: float
    """Of telling perturbed from unperturbed images; 0.5 is chance."""
    auroc_low: float
    auroc_high: float
    """Ends of the 95 % bootstrap interval."""
    accuracy: float
    """Of the classifier on the perturbed images."""
    concentration: float
    """Share of the squared change that the most changed 1 % of each image's pixels carry; 0.01 where all change alike."""
    l2: float
    linf: float
    """Mean L2 and Linf norm of the change that is left in [0, 1]; the concentration is of that change too."""


@dataclass(frozen=True)
class Gain:
    """How much better a norm is detected than Linf at equal RMS, over all settings: pairs of a detector and a strength."""

    direction: str
    norm: str
    settings: int
    """Those whose size Linf perturbations reach too."""
    above: int
    """In how many of them the norm has the higher AUROC."""
    mean: float
    """Mean difference of AUROC; NaN where there are no settings, as are the next three."""
    low: float
    high: float
    """Ends of the mean's 95 % interval, by a bootstrap of the images, which all settings share, and of the settings: the claim is
    meant for detectors and strengths beside these too, and one setting alone is not to decide it."""
    spread: float
    """Standard deviation of the difference over the settings."""

    def __str__(self) -> str:
        if not self.settings:
            return f"{self.norm} never at equal RMS"
        interval = f"[{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.norm} {self.mean:+.3f} {interval}, spread {self.spread:.3f}, higher in {self.above} of {self.settings}"


@dataclass(frozen=True)
class Shifts:
    """Perturbation shifts as detectors see them.

    Attributes:
        rows: Of each direction, norm, strength and detector.
        gains: Of each direction, L1 and L2 against Linf.
        control: AUROC of each detector in telling the one half from the other before it is perturbed; chance is 0.5.
        accuracy: Of the classifier on the half before it is perturbed.
    """

    rows: tuple[Row, ...]
    gains: tuple[Gain, ...]
    control: dict[str, float]
    accuracy: float

    def table(self) -> Table:
        """A line each row; verdict and control below."""
        control = ", ".join(f"{name} {auroc:.3f}" for name, auroc in self.control.items())
        notes = [
            self.verdict(),
            f"before the perturbation: accuracy {self.accuracy:.3f}; AUROC of the one half against the other (control): {control}",
            "RMS: of a random perturbation of this radius before it is cut to [0, 1]; top 1 %: share of the squared change in the most "
            "changed pixels; L2, Linf: mean size of what is left; intervals: of the images, not of detectors, strengths or classifiers",
        ]
        rows = [[getattr(row, attribute) for attribute in COLUMNS] for row in self.rows]
        return Table("Detected: perturbed images", list(COLUMNS.values()), rows, notes)

    def verdict(self) -> str:
        """One sentence: whether L1 and L2 are detected better than Linf at equal RMS, and whether they spread their change evenly."""
        better = ", and ".join(self._better(direction) for direction in DIRECTIONS)
        even = ", and ".join(self._even(direction) for direction in DIRECTIONS)
        return f"That L1 and L2 are detected better than Linf at equal RMS {better}; that they spread their change more evenly {even}."

    def _better(self, direction: str) -> str:
        gains = [gain for gain in self.gains if gain.direction == direction]
        better = [gain.norm for gain in gains if gain.low > 0]
        if better:
            claim = "holds" if len(better) == len(gains) else f"holds for {better[0]} alone"
        elif any(gain.settings for gain in gains):
            claim = "is refuted" if any(gain.high < 0 for gain in gains) else "is not borne out"
        else:
            claim = "cannot be judged"
        return f"{claim} in {direction} perturbations (difference of AUROC: {'; '.join(map(str, gains))})"

    def _even(self, direction: str) -> str:
        share = {
            norm: mean(
                row.concentration
                for row in self.rows
                if (row.direction, row.norm) == (direction, norm)
            )
            for norm in NORMS
        }
        more = [norm for norm in CLAIMED if share[norm] < share[AGAINST]]
        claim = (
            "holds"
            if len(more) == len(CLAIMED)
            else f"holds for {more[0]} alone"
            if more
            else "is refuted"
        )
        told = ", ".join(f"{norm} {value:.2f}" for norm, value in share.items())
        return f"{claim} in {direction} ones (squared change in the top 1 % of pixels: {told})"


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
"""What the table tells, by the attribute of `Row`."""


@dataclass(frozen=True)
class Step:
    """One strength of one kind of perturbation: the mean RMS that is reached, and the AUROCs of every detector."""

    rms: float
    auroc_DS: Tensor


def shifts(
    detectors: Mapping[str, Detector],
    images_nCHW: Tensor,
    labels_n: Tensor,
    strengths: Sequence[float],
    seed: int,
) -> Shifts:
    """Perturbs half of the images in every direction, norm and strength, and lets each detector tell them from the other half.

    Args:
        detectors: Fitted detectors of one classifier, by name.
        images_nCHW: Test images of the classifier's own data, in [0, 1], that no detector was fitted on.
        labels_n: Their labels, which adversarial perturbations lead away from.
        strengths: RMS changes of a value, each above 0 and at most 1.
        seed: Of the halves, the perturbations and the resamples.

    Raises:
        InputError: if there are no detectors, strengths are none or out of range, or images and labels do not fit.
    """
    if not detectors:
        raise InputError("application.detectors: must name one or more")
    classifier = next(iter(detectors.values())).classifier
    layers = [layer for detector in detectors.values() for layer in detector.layers]
    images_nCHW, labels_n = images_nCHW.cpu(), labels_n.cpu()
    _check(classifier, images_nCHW, labels_n, strengths)
    chosen_n = torch.zeros(len(labels_n), dtype=torch.bool)
    chosen_n[stratified_indices(labels_n, len(labels_n) // 2, seed)] = True
    x_mCHW, label_m, P = images_nCHW[chosen_n], labels_n[chosen_n], images_nCHW[0].numel()
    own = look(classifier, images_nCHW[~chosen_n], layers)
    own_n = {name: detector.rule(own) for name, detector in detectors.items()}
    resamples = Resamples(len(own.images_nCHW), len(x_mCHW), seed)

    def ask(images_mCHW: Tensor) -> tuple[dict[str, Tensor], Tensor, float]:
        """The scores [m] by detector, their AUROCs [D, S], the classifier's accuracy."""
        seen = look(classifier, images_mCHW, layers)
        score_m = {name: detector.rule(seen) for name, detector in detectors.items()}
        auroc_DS = torch.stack([resamples.aurocs(own_n[name], score_m[name]) for name in detectors])
        return score_m, auroc_DS, float((seen.logits_nN.argmax(dim=1) == label_m).double().mean())

    _, control_DS, accuracy = ask(x_mCHW)
    rows: list[Row] = []
    steps: dict[tuple[str, str], list[Step]] = {}
    for direction, norm, rms in product(DIRECTIONS, NORMS, sorted(strengths)):
        perturbation = Perturbation(norm, radius(norm, rms, P), direction)
        changed_mCHW = perturbed(perturbation, classifier, x_mCHW, label_m, seed)
        change_mCHW = changed_mCHW - x_mCHW
        score_m, auroc_DS, left = ask(changed_mCHW)
        l2, linf = (float(norm_of(change_mCHW.flatten(1), kind).mean()) for kind in ("l2", "linf"))
        steps.setdefault((direction, norm), []).append(Step(l2 / math.sqrt(P), auroc_DS))
        share = concentration(change_mCHW)
        for name, auroc_S in zip(detectors, auroc_DS, strict=True):
            low, high = auroc_interval(own_n[name], score_m[name], seed)
            rows.append(
                Row(direction, norm, rms, name, float(auroc_S[0]), low, high, left, share, l2, linf)
            )
    gains = [
        gain(
            direction,
            norm,
            steps[direction, norm],
            [Step(0.0, control_DS), *steps[direction, AGAINST]],
            seed,
        )
        for direction, norm in product(DIRECTIONS, CLAIMED)
    ]
    return Shifts(
        tuple(rows),
        tuple(gains),
        dict(zip(detectors, control_DS[:, 0].tolist(), strict=True)),
        accuracy,
    )


def radius(norm: str, rms: float, P: int) -> float:
    """Radius at which a random perturbation of P values has this RMS before it is cut: of L2 exactly, of the others in the mean square."""
    return rms * {"l1": math.sqrt(P * (P + 1) / 2), "l2": math.sqrt(P), "linf": math.sqrt(3)}[norm]


def perturbed(
    perturbation: Perturbation,
    classifier: FrozenClassifier,
    x_mCHW: Tensor,
    label_m: Tensor,
    seed: int,
) -> Tensor:
    """The images perturbed, on the CPU; with one seed all norms and strengths are made of the same draws."""
    device = classifier.mean_C11.device
    stream = Stream(seed, device)
    parts = zip(batches(classifier, x_mCHW), label_m.to(device).split(BATCH), strict=True)
    return torch.cat(
        [
            perturbation(x_BCHW, label_B, classifier, stream).cpu().contiguous()
            for x_BCHW, label_B in parts
        ]
    )


def concentration(change_mCHW: Tensor) -> float:
    """Share of the squared change in the most changed 1 % of each image's pixels; a pixel's channels count together."""
    square_mP = change_mCHW.square().sum(dim=1).flatten(1)
    top_mk = square_mP.topk(max(1, round(TOP * square_mP.shape[1])), dim=1).values
    return float(top_mk.sum() / square_mP.sum())


class Resamples:
    """AUROCs of a sample and of resamples of its images, the same ones at every call: differences of AUROCs are paired.

    Args:
        n: Unperturbed images.
        m: Perturbed images.
        seed: Of the resamples.
    """

    def __init__(self, n: int, m: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.times_Sn, self.times_Sm = self._drawn(n, generator), self._drawn(m, generator)

    def aurocs(self, score_n: Tensor, score_m: Tensor) -> Tensor:
        """How often the second is higher, ties counting half: [S], in double precision, first of the sample itself."""
        n, m = len(score_n), len(score_m)
        values_n, order_n = score_n.sort()
        below_Sn = torch.cat(
            [
                self.times_Sn.new_zeros(len(self.times_Sn), 1),
                self.times_Sn[:, order_n].cumsum(dim=1),
            ],
            dim=1,
        )
        beaten_Sm = (
            below_Sn[:, torch.searchsorted(values_n, score_m)]
            + below_Sn[:, torch.searchsorted(values_n, score_m, right=True)]
        ) / 2
        return (beaten_Sm * self.times_Sm).sum(dim=1) / (n * m)

    @staticmethod
    def _drawn(size: int, generator: torch.Generator) -> Tensor:
        """How often each image is in the sample (once), and in each resample."""
        drawn_Sn = torch.randint(size, (RESAMPLES, size), generator=generator)
        times_Sn = torch.zeros(RESAMPLES, size, dtype=torch.double).scatter_add_(
            1, drawn_Sn, torch.ones(1).double().expand(RESAMPLES, size)
        )
        return torch.cat([torch.ones(1, size, dtype=torch.double), times_Sn])


def gain(
    direction: str, norm: str, steps: Sequence[Step], against: Sequence[Step], seed: int
) -> Gain:
    """Compares each step with the Linf perturbation of the same size.

    Args:
        direction: Of both.
        norm: Of `steps`.
        steps: Of the norm that is judged; those larger than any of Linf do not count.
        against: Of Linf, from size 0 upwards.
        seed: Of the resamples of settings.
    """
    compared = [
        (step.auroc_DS, between(against, step.rms))
        for step in steps
        if step.rms <= SLACK * against[-1].rms
    ]
    if not compared:
        return Gain(direction, norm, 0, 0, *[math.nan] * 4)
    difference_KS = torch.cat([auroc_DS - linf_DS for auroc_DS, linf_DS in compared])
    difference_K, resampled_KS = difference_KS[:, 0], difference_KS[:, 1:]
    drawn_KS = torch.randint(
        len(difference_K), resampled_KS.shape, generator=torch.Generator().manual_seed(seed)
    )
    mean_S = resampled_KS.gather(0, drawn_KS).mean(dim=0)
    low, high = mean_S.quantile(
        mean_S.new_tensor([(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    ).tolist()
    above, spread = int((difference_K > 0).sum()), float(difference_K.std(correction=0))
    return Gain(
        direction, norm, len(difference_K), above, float(difference_K.mean()), low, high, spread
    )


def between(steps: Sequence[Step], rms: float) -> Tensor:
    """The AUROCs [D, S] at a size, from the two steps around it: linear in log(1 + size / smallest), as strengths are a ladder of ratios.

    Args:
        steps: From size 0 upwards, two or more.
        rms: The size; above the last step that step's value is taken.
    """
    upper = next((i for i in range(1, len(steps)) if steps[i].rms >= rms), len(steps) - 1)
    start, at, end = (
        math.log1p(size / steps[1].rms)
        for size in (steps[upper - 1].rms, min(rms, steps[upper].rms), steps[upper].rms)
    )
    return torch.lerp(
        steps[upper - 1].auroc_DS, steps[upper].auroc_DS, (at - start) / (end - start)
    )


def _check(
    classifier: FrozenClassifier, images_nCHW: Tensor, labels_n: Tensor, strengths: Sequence[float]
) -> None:
    check(classifier, images_nCHW)
    if len(labels_n) != len(images_nCHW) or len(labels_n) < LEAST_IMAGES:
        raise InputError(
            f"images: {len(images_nCHW)} with {len(labels_n)} labels; must be {LEAST_IMAGES} or more, with one label each"
        )
    check_strengths(strengths)


def check_strengths(strengths: Sequence[float]) -> None:
    """Refuses what are no RMS changes of pixels in [0, 1].

    Raises:
        InputError: naming the key.
    """
    if (
        not strengths
        or not all(0 < rms <= 1 for rms in strengths)
        or len(set(strengths)) < len(strengths)
    ):
        raise InputError(
            f"application.strengths={list(strengths)}: must be one or more RMS changes, each above 0, at most 1 and given once"
        )
