"""Tables of the page of the experiment."""

from __future__ import annotations

from statistics import mean

from experiments.jobs import Row
from experiments.ood.variants import (
    ABLATED,
    ABLATIONS,
    COMPARED,
    EVERY,
    NOISE,
    OOD_SETS,
    TRAINED,
    VARIANTS,
)
from experiments.page import markdown, pick, shown


def comparison_values(
    rows: list[Row], data: str, detector: str, set_name: str, what: str
) -> list[float]:
    """Return the values of one number of a detector or classifier in the comparison, in the order
    of the seeds."""
    return pick(
        rows,
        f"ood/{detector}/{set_name}/{what}",
        data=data,
        variant=detector if detector in COMPARED else "comparison",
    )


def pair_values(rows: list[Row], detector: str) -> list[list[float]]:
    """Return the AUROC on each of the papers' four pairs, in the order of the seeds."""
    return [
        comparison_values(rows, data, detector, sets[0], "auroc") for data, sets in OOD_SETS.items()
    ]


def over_sets(of_sets: list[list[float]]) -> list[float]:
    """Return the mean over the sets for each seed."""
    return [mean(values) for values in zip(*of_sets, strict=False)]


def ranked(rows: list[Row]) -> list[str]:
    """Return all detectors and classifiers, the best mean AUROC on the papers' pairs first."""
    return sorted(
        [*EVERY, *TRAINED],
        key=lambda detector: -mean(over_sets(pair_values(rows, detector)) or [0]),
    )


def label(detector: str) -> str:
    """Return the name of a detector; classifiers with a garbage class are bold."""
    return f"**{detector}**" if detector in TRAINED else detector


def pairs_table(rows: list[Row]) -> str:
    """Return the table of AUROC on the papers' pairs."""
    of_detectors = {detector: pair_values(rows, detector) for detector in ranked(rows)}
    columns = ["detector", *(f"{data} / {sets[0]}" for data, sets in OOD_SETS.items()), "mean"]
    return markdown(
        columns,
        [
            [label(d), *map(shown, values), shown(over_sets(values))]
            for d, values in of_detectors.items()
        ],
    )


def accuracy_table(rows: list[Row]) -> str:
    """Return the table of in-distribution accuracy and garbage rate."""
    numbers = [(data, what) for what in ("accuracy", "garbage_rate") for data in OOD_SETS]
    lines = [
        [
            label(name),
            *(shown(comparison_values(rows, data, name, "own", what)) for data, what in numbers),
        ]
        for name in ("plain", *TRAINED)
    ]
    return markdown(
        ["classifier", *(f"{data}, {what.replace('_', ' ')}" for data, what in numbers)], lines
    )


def sets_table(rows: list[Row], data: str) -> str:
    """Return the table of AUROC on all OOD sets of one data set."""
    names = [*OOD_SETS[data], "mean"]
    lines = [
        [label(d), *(shown(comparison_values(rows, data, d, name, "auroc")) for name in names)]
        for d in ranked(rows)
    ]
    return markdown(["detector", *names], lines)


def claims_table(rows: list[Row]) -> str:
    """Return the table of the numbers that test the papers' claims on their pairs."""
    claims = {
        "garbage_rate": "garbage rate",
        "confidence": "confidence",
        "gap": "gap",
        "gap_but_5_percent": "gap without extreme 5 %",
        "violations": "violations",
    }
    lines = [
        [
            data,
            label(name),
            *(shown(comparison_values(rows, data, name, sets[0], what)) for what in claims),
        ]
        for data, sets in OOD_SETS.items()
        for name in ("plain", *TRAINED)
    ]
    return markdown(["data", "classifier", *claims.values()], lines)


def ablation_table(rows: list[Row]) -> str:
    """Return the table of classifiers with one key of `garbage=inverted` changed."""
    numbers = {"AUROC": "ood/inverted/mean/auroc", "accuracy": "ood/inverted/own/accuracy"}
    lines = []
    for variant in ("comparison", *[*VARIANTS][len(COMPARED) : -1]):
        cells = [
            shown(pick(rows, number, data=data, variant=variant))
            for data in ABLATED
            for number in numbers.values()
        ]
        lines.append([ABLATIONS[variant], *cells])
    return markdown(
        ["variant", *(f"{data}, {what}" for data in ABLATED for what in numbers)], lines
    )


def near_table(rows: list[Row]) -> str:
    """Return the table of AUROC on sets that resemble the training data."""
    columns = [("mnist", "left_out"), ("mnist", "emnist_letters"), ("cifar10", "cifar100_subset")]
    lines = [
        [
            label(d),
            *(
                shown(pick(rows, f"ood/{d}/{name}/auroc", data=data, variant="near"))
                for data, name in columns
            ),
        ]
        for d in [*EVERY, "inverted", "noise"]
    ]
    return markdown(
        ["detector", "digits 0-4 / 5-9", "digits 0-4 / letters", "CIFAR-10 / CIFAR-100"], lines
    )


def ranking_table(rows: list[Row]) -> str:
    """Return the table of mean AUROC on noise and on structured sets."""
    lines = []
    for detector in ("lc", "odin", "msp"):
        cells = []
        for noise in (True, False):
            for data, sets in OOD_SETS.items():
                chosen = [name for name in sets if (name in NOISE) == noise]
                of_sets = [
                    pick(rows, f"ood/{detector}/{name}/auroc", data=data, variant="comparison")
                    for name in chosen
                ]
                cells.append(shown(over_sets(of_sets)))
        lines.append([detector, *cells])
    return markdown(
        ["detector", *(f"{data}, {kind}" for kind in ("noise", "structured") for data in OOD_SETS)],
        lines,
    )


def perturbations_table(rows: list[Row]) -> str:
    """Return the table of AUROC on perturbed images, minus that of Linf perturbations with equal
    RMS change."""
    kinds = [(direction, norm) for direction in ("random", "adversarial") for norm in ("l1", "l2")]
    lines = [
        [
            data,
            *(
                shown(
                    pick(rows, f"ood/shifts/{direction}_{norm}/gain", data=data, variant="shifts")
                )
                for direction, norm in kinds
            ),
        ]
        for data in ("mnist", "cifar10")
    ]
    return markdown(["data", *(f"{direction} {norm}" for direction, norm in kinds)], lines)
