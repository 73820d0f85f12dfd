"""The papers' objective against `loss=natural`, and natural without each of its parts: `make natural`.

How jobs are run: experiments/jobs.py.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from statistics import mean, stdev

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from jobs import Row, netinv, run_missing  # noqa: E402

RESULTS = HERE / "results.csv"
DATA = {"mnist_invert": "MNIST", "fmnist_invert": "FashionMNIST", "svhn_invert": "SVHN (head)", "cifar_invert": "CIFAR-10"}
SEEDS = (10, 11, 12)  # none of them was used to choose anything
NATURAL = ["loss=natural", "application.steps=600"]
NO_VIEWS = [f"augmentation.{key}=0" for key in ("shift", "rotation", "scale", "shear", "noise")]
VARIANTS = {
    "papers": ["loss=inversion", "application.steps=600"],
    "papers, sharp vectors": ["loss=inversion", "application.steps=600", "conditioning.temperature=0.15"],
    "natural": NATURAL,
    "natural without batch_norm": [*NATURAL, "~loss.batch_norm"],
    "natural without views": [*NATURAL, *NO_VIEWS],
    "natural without class_spread": [*NATURAL, "~loss.class_spread"],
    "natural, transposed convolution": [*NATURAL, "generator.upsampling=transposed"],
}
JOBS = [
    *((experiment, "natural", seed) for seed in SEEDS for experiment in DATA),
    *((experiment, "papers, sharp vectors", seed) for seed in SEEDS for experiment in DATA),
    *(
        ("mnist_invert", variant, seed)
        for seed in SEEDS
        for variant in VARIANTS
        if variant.startswith("natural ") or "transposed" in variant
    ),
]
COLUMNS = {
    "inversion/accuracy": "accuracy, soft",
    "inversion/accuracy_hot": "accuracy, hot",
    "transfer/accuracy": "transfer",
    "diversity/intra_class_cosine": "intra-class cosine",
    "cost/training_seconds": "seconds of training",
}


def one(experiment: str, variant: str, seed: int) -> list[Row]:
    run_dir = netinv(f"+experiment={experiment}", f"seed={seed}", *VARIANTS[variant])
    if seed == SEEDS[0] and variant == "natural":
        shutil.copy(run_dir / "figures" / "grid.png", HERE / f"{experiment}.png")
    summary = json.loads((run_dir / "summary.json").read_text())
    return [{"experiment": experiment, "variant": variant, "seed": seed, **{name: round(summary[name], 4) for name in COLUMNS}}]


def table(rows: list[Row]) -> str:
    lines = ["| classifier | objective | " + " | ".join(COLUMNS.values()) + " | seeds |", "| --- " * (len(COLUMNS) + 3) + "|"]
    for experiment, title in DATA.items():
        for variant in VARIANTS:
            chosen = [row for row in rows if (row["experiment"], row["variant"]) == (experiment, variant)]
            if len(chosen) < 2:
                continue
            cells = []
            for name in COLUMNS:
                values = [float(str(row[name])) for row in chosen]
                cells.append(f"{mean(values):.3f} ± {stdev(values):.3f}" if name != "cost/training_seconds" else f"{mean(values):.0f}")
            lines.append(f"| {title} | {variant} | " + " | ".join(cells) + f" | {len(chosen)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(run_missing(RESULTS, ("experiment", "variant", "seed"), JOBS, one)))
