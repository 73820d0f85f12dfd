"""Detect out-of-distribution images on the papers' four pairs and more (S2 section 5.2; A5, A6-9): `make ood`.

The plain classifiers (the papers' CNN at half its width, three seeds) are trained first and kept in `classifiers/` below the project's
root. Variants:

- `comparison` compares all detectors of the plain classifier with the garbage class and its controls.
- `paper` is the papers' version of the garbage class; `exposed` trains on real outliers.
- `near` tests classes or data sets that resemble the training data.
- `shifts` tests perturbed images.
- All other variants change one key of the garbage class.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

from PIL import Image

from experiments.half_width import PLAIN, plain
from experiments.jobs import Row, netinv
from experiments.page import markdown, pick, run_experiment, shown
from netinv_lightning.ood.detectors import DETECTORS

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
NOISE = ["gaussian_noise", "uniform_noise"]
OOD_SETS = {
    "mnist": ["fashion_mnist", "svhn_head", "cifar10", "emnist_letters", *NOISE],
    "fashion_mnist": ["mnist", "svhn_head", "cifar10", "emnist_letters", *NOISE],
    "svhn_head": ["cifar10", "mnist", "fashion_mnist", *NOISE],
    "cifar10": ["svhn_head", "mnist", "fashion_mnist", *NOISE],
}
"""OOD sets of each data set; the first one is the papers' pair."""
FEW = "application.detectors=[msp,energy]"
TRAINED = ["paper", "inverted", "noise", "noise_zoomed", "exposed"]
"""Classifiers with a garbage class."""
EVERY = list(DETECTORS)
VARIANTS: dict[str, list[str]] = {
    "comparison": ["garbage=[inverted,noise,noise_zoomed]"],
    "paper": ["garbage=paper", FEW, "garbage.paper.epochs=5", "garbage.paper.images=10000"],
    "exposed": ["garbage=exposed", FEW, "garbage.exposed.exposed=[cifar100_subset]"],
    "odds alone": ["garbage=inverted", FEW, "garbage.inverted.score=odds"],
    "all classes balanced": ["garbage=inverted", FEW, "garbage.inverted.balanced=all"],
    "without zoom": ["garbage=inverted", FEW, "garbage.inverted.zoom=1"],
    "without teacher": ["garbage=inverted", FEW, "garbage.inverted.distil=0"],
    "label smoothing": ["garbage=inverted", FEW, "garbage.inverted.label_smoothing=0.1"],
    "weight 1": ["garbage=inverted", FEW, "garbage.inverted.weight=1"],
    "BatchNorm of the batches": ["garbage=inverted", FEW, "garbage.inverted.batch_norm=batch"],
    "fresh generator": ["garbage=inverted", FEW, "garbage.inverted.generator=fresh"],
    "garbage inverted too": ["garbage=inverted", FEW, "garbage.inverted.invert_garbage=true"],
    "10 a class": ["garbage=inverted", FEW, "garbage.inverted.per_class=10"],
    "200 a class": ["garbage=inverted", FEW, "garbage.inverted.per_class=200"],
    "papers' objective": ["garbage=inverted", FEW, "garbage.inverted.inversion=[]"],
    "shifts": ["application.strengths=[0.01,0.03,0.1,0.3]", "application.detectors=[msp,energy,mahalanobis,knn]"],
}  # fmt: skip
NEAR = {
    "mnist": ["data.classes=[0,1,2,3,4]", "application.outliers=[left_out,emnist_letters]"],
    "cifar10": ["application.outliers=[cifar100_subset]"],
}
KEPT = {
    "auroc",
    "fpr95_in",
    "fpr95_out",
    "accuracy",
    "ece",
    "garbage_rate",
    "confidence",
    "gap",
    "gap_but_5_percent",
    "violations",
    "gain",
}
"""The last parts of the names of numbers that go into results.csv."""
COMPARED = ("comparison", "exposed", "paper")
ABLATED = ("mnist", "fashion_mnist")
ABLATIONS = {
    "comparison": "unchanged",
    "odds alone": "score: odds only",
    "all classes balanced": "all classes balanced",
    "without zoom": "without zoom",
    "without teacher": "without teacher",
    "label smoothing": "with label smoothing",
    "weight 1": "garbage weight 1",
    "BatchNorm of the batches": "BatchNorm statistics of the batches",
    "fresh generator": "fresh generator",
    "garbage inverted too": "garbage class inverted too",
    "10 a class": "10 images per class and epoch",
    "200 a class": "200 images per class and epoch",
    "papers' objective": "papers' objective",
}
"""How the page words the variants that change one key."""
JOBS = [
    *((data, "comparison", seed) for seed in SEEDS for data in PLAIN),
    *((data, "near", seed) for seed in SEEDS for data in NEAR),
    *((data, variant, seed) for variant in COMPARED[1:] for seed in SEEDS for data in PLAIN),
    *((data, "shifts", seed) for seed in SEEDS for data in ("mnist", "cifar10")),
    *(
        (data, variant, seed)
        for seed in SEEDS
        for variant in [*VARIANTS][len(COMPARED) : -1]
        for data in ABLATED
    ),
]


def one(data: str, variant: str, seed: int) -> list[Row]:
    """Run one detection and return its rows; keep the figures of the first seed."""
    if variant == "near":
        keys = ["garbage=[inverted,noise]", *NEAR[data]]
        path = plain(data, seed, *(key for key in keys if key.startswith("data.classes")))
    else:
        keys, path = (
            [f"application.outliers=[{','.join(OOD_SETS[data])}]", *VARIANTS[variant]],
            plain(data, seed),
        )
    run_dir = netinv(
        "application=detect_ood", f"data={data}", f"seed={seed}", "classifier=checkpoint", f"classifier.path={path}",
        "application.samples=2000", *(key for key in PLAIN[data] if key.startswith("data.")), *keys,
    )  # fmt: skip
    if seed == SEEDS[0] and variant in ("comparison", "shifts"):
        for figure in (
            ("detection", "roc", "confidence") if variant == "comparison" else ("shifts",)
        ):
            with Image.open(run_dir / "figures" / f"{figure}.png") as image:
                image.convert("RGB").reduce(2).save(HERE / f"{data}_{figure}.png", optimize=True)
    summary = json.loads((run_dir / "summary.json").read_text())
    return [
        {"data": data, "variant": variant, "seed": seed, "number": name, "value": f"{value:.4f}"}
        for name, value in summary.items()
        if name.startswith("ood/") and name.rpartition("/")[2] in KEPT
    ]


def comparison_values(
    rows: list[Row], data: str, detector: str, set_name: str, what: str
) -> list[float]:
    """Return the values of one number of a detector or classifier in the comparison, in the order of the seeds."""
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
    """Return the table of AUROC on perturbed images, minus that of Linf perturbations with equal RMS change."""
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


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    return {
        "pairs": pairs_table(rows),
        "accuracy": accuracy_table(rows),
        **{data: sets_table(rows, data) for data in OOD_SETS},
        "claims": claims_table(rows),
        "ablation": ablation_table(rows),
        "near": near_table(rows),
        "ranking": ranking_table(rows),
        "perturbations": perturbations_table(rows),
    }


def main() -> None:
    run_experiment(__doc__, HERE, ("data", "variant", "seed"), JOBS, one, tables)


if __name__ == "__main__":
    main()
