"""Out-of-distribution detection on the papers' four pairs and more (S2 section 5.2; A5, A6-9): `make ood`.

Plain classifiers are trained first, the papers' CNN at half its width, three seeds each; they stay in `classifiers/` below the checkout.
`contest` is every detector of the plain classifier beside the garbage class and its controls; `paper` is the papers' version and
`exposed` the one that sees real outliers; `near` has classes or sets that resemble the data; `shifts` is the perturbation
study; the others change one key of the garbage class. How jobs are run: experiments/jobs.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from half_width import PLAIN, plain  # noqa: E402
from jobs import Row, netinv, run_missing  # noqa: E402
from page import markdown, pick, shown  # noqa: E402

from netinv_lightning.detectors import DETECTORS  # noqa: E402

RESULTS = HERE / "results.csv"
SEEDS = (0, 1, 2)
NOISE = ["gaussian_noise", "uniform_noise"]
OUTSIDE = {
    "mnist": ["fashion_mnist", "svhn_head", "cifar10", "emnist_letters", *NOISE],
    "fashion_mnist": ["mnist", "svhn_head", "cifar10", "emnist_letters", *NOISE],
    "svhn_head": ["cifar10", "mnist", "fashion_mnist", *NOISE],
    "cifar10": ["svhn_head", "mnist", "fashion_mnist", *NOISE],
}
"""The papers' pair first."""
FEW = "application.detectors=[msp,energy]"
TRAINED = ["paper", "inverted", "noise", "noise_zoomed", "exposed"]
"""Classifiers with a garbage class."""
EVERY = list(DETECTORS)
VARIANTS: dict[str, list[str]] = {
    "contest": ["garbage=[inverted,noise,noise_zoomed]"],
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
KEPT = {"auroc", "fpr95_in", "fpr95_out", "accuracy", "ece", "garbage_rate", "confidence", "gap", "gap_but_5_percent", "violations", "gain"}
"""What of the numbers goes into results.csv, by the end of their names."""
CONTEST = ("contest", "exposed", "paper")
ABLATED = ("mnist", "fashion_mnist")
JOBS = [
    *((data, "contest", seed) for seed in SEEDS for data in PLAIN),
    *((data, "near", seed) for seed in SEEDS for data in NEAR),
    *((data, variant, seed) for variant in CONTEST[1:] for seed in SEEDS for data in PLAIN),
    *((data, "shifts", seed) for seed in SEEDS for data in ("mnist", "cifar10")),
    *((data, variant, seed) for seed in SEEDS for variant in [*VARIANTS][len(CONTEST) : -1] for data in ABLATED),
]


def one(data: str, variant: str, seed: int) -> list[Row]:
    if variant == "near":
        keys = ["garbage=[inverted,noise]", *NEAR[data]]
        path = plain(data, seed, *(key for key in keys if key.startswith("data.classes")))
    else:
        keys, path = [f"application.outliers=[{','.join(OUTSIDE[data])}]", *VARIANTS[variant]], plain(data, seed)
    run_dir = netinv(
        "application=detect_ood", f"data={data}", f"seed={seed}", "classifier=checkpoint", f"classifier.path={path}",
        "application.samples=2000", *(key for key in PLAIN[data] if key.startswith("data.")), *keys,
    )  # fmt: skip
    if seed == SEEDS[0] and variant in ("contest", "shifts"):
        for figure in ("detection", "roc", "confidence") if variant == "contest" else ("shifts",):
            with Image.open(run_dir / "figures" / f"{figure}.png") as image:
                image.convert("RGB").reduce(2).save(HERE / f"{data}_{figure}.png", optimize=True)
    summary = json.loads((run_dir / "summary.json").read_text())
    return [
        {"data": data, "variant": variant, "seed": seed, "number": name, "value": f"{value:.4f}"}
        for name, value in summary.items()
        if name.startswith("ood/") and name.rpartition("/")[2] in KEPT
    ]


def of_contest(rows: list[Row], data: str, detector: str, set_name: str, what: str) -> list[float]:
    """The values of a number of a detector or a classifier in the contest, by seed."""
    return pick(rows, f"ood/{detector}/{set_name}/{what}", data=data, variant=detector if detector in CONTEST else "contest")


def of_pairs(rows: list[Row], detector: str) -> list[list[float]]:
    """AUROC of the papers' four pairs, by seed."""
    return [of_contest(rows, data, detector, outside[0], "auroc") for data, outside in OUTSIDE.items()]


def tables(rows: list[Row]) -> str:
    """What the page shows."""
    parts = ["## The papers' four pairs\n"]
    of_detectors = {detector: of_pairs(rows, detector) for detector in [*EVERY, *TRAINED]}
    means = {detector: [mean(values) for values in zip(*pairs, strict=False)] for detector, pairs in of_detectors.items()}
    order = sorted(of_detectors, key=lambda detector: -mean(means[detector] or [0]))
    columns = ["detector", *(f"{data} / {outside[0]}" for data, outside in OUTSIDE.items()), "mean"]
    parts.append(markdown(columns, [[told(d), *map(shown, of_detectors[d]), shown(means[d])] for d in order]))
    parts.append("## At home: accuracy, and the share that is taken for garbage\n")
    lines = []
    for name in ("plain", *TRAINED):
        numbers = [(data, what) for what in ("accuracy", "garbage_rate") for data in OUTSIDE]
        lines.append([told(name), *(shown(of_contest(rows, data, name, "own", what)) for data, what in numbers)])
    parts.append(markdown(["classifier", *(f"{data}, accuracy" for data in OUTSIDE), *(f"{data}, garbage" for data in OUTSIDE)], lines))
    parts.append("## Every set: AUROC\n")
    for data, outside in OUTSIDE.items():
        lines = [[told(d), *(shown(of_contest(rows, data, d, name, "auroc")) for name in [*outside, "mean"])] for d in order]
        parts.append(f"### {data}\n\n" + markdown(["detector", *outside, "mean"], lines))
    parts.append("## The papers' claims on their pairs: most goes to garbage (A4-7), and a clear threshold (A4-8)\n")
    claims = ("garbage_rate", "confidence", "gap", "gap_but_5_percent", "violations")
    lines = [
        [data, told(name), *(shown(of_contest(rows, data, name, outside[0], what)) for what in claims)]
        for data, outside in OUTSIDE.items()
        for name in ("plain", *TRAINED)
    ]
    parts.append(markdown(["data", "classifier", *claims], lines))
    parts.append("## One key of `inverted` changed: mean AUROC over the sets, accuracy\n")
    lines = []
    for variant in ("contest", *[*VARIANTS][len(CONTEST) : -1]):
        numbers = ["ood/inverted/mean/auroc", "ood/inverted/own/accuracy"]
        cells = [shown(pick(rows, number, data=data, variant=variant)) for data in ABLATED for number in numbers]
        lines.append([variant.replace("contest", "as it is"), *cells])
    parts.append(markdown(["variant", *(f"{data}, {what}" for data in ABLATED for what in ("AUROC", "accuracy"))], lines))
    parts.append("## Near: AUROC\n")
    columns = [("mnist", "left_out"), ("mnist", "emnist_letters"), ("cifar10", "cifar100_subset")]
    near = [*EVERY, "inverted", "noise"]
    lines = [[told(d), *(shown(pick(rows, f"ood/{d}/{name}/auroc", data=data, variant="near")) for data, name in columns)] for d in near]
    parts.append(markdown(["detector", "digits 0-4 / 5-9", "digits 0-4 / letters", "CIFAR-10 / CIFAR-100"], lines))
    parts.append("## Noise against structure: the slides' ranking (A5-8)\n")
    lines = []
    for detector in ("lc", "odin", "msp"):
        cells = []
        for noise in (True, False):
            for data, outside in OUTSIDE.items():
                sets = [name for name in outside if (name in NOISE) == noise]
                of_sets = [pick(rows, f"ood/{detector}/{name}/auroc", data=data, variant="contest") for name in sets]
                cells.append(shown([mean(values) for values in zip(*of_sets, strict=False)]))
        lines.append([detector, *cells])
    parts.append(markdown(["detector", *(f"{data}, {kind}" for kind in ("noise", "structured") for data in OUTSIDE)], lines))
    parts.append("## Perturbed images: AUROC above that of Linf at equal RMS (A2-15)\n")
    kinds = [(direction, norm) for direction in ("random", "adversarial") for norm in ("l1", "l2")]
    lines = [
        [data, *(shown(pick(rows, f"ood/shifts/{direction}_{norm}/gain", data=data, variant="shifts")) for direction, norm in kinds)]
        for data in ("mnist", "cifar10")
    ]
    parts.append(markdown(["data", *(f"{direction} {norm}" for direction, norm in kinds)], lines))
    return "\n".join(parts)


def told(detector: str) -> str:
    return f"**{detector}**" if detector in TRAINED else detector


if __name__ == "__main__":
    print(tables(run_missing(RESULTS, ("data", "variant", "seed"), JOBS, one)))
