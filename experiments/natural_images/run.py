"""The papers' objective against `loss=natural`, and natural without each of its parts: `make natural`.

Jobs run two at a time, one core each. A job whose row is in results.csv already is not run again: remove the file to start anew.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
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
Row = dict[str, object]


def one(experiment: str, variant: str, seed: int) -> Row:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "netinv_lightning.run",
        f"+experiment={experiment}",
        f"seed={seed}",
        *VARIANTS[variant],
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{experiment}, {variant}, seed {seed}: {done.stderr.strip()}")
    run_dir = Path(done.stdout.splitlines()[-1])
    if seed == SEEDS[0] and variant == "natural":
        shutil.copy(run_dir / "figures" / "grid.png", HERE / f"{experiment}.png")
    summary = json.loads((run_dir / "summary.json").read_text())
    return {"experiment": experiment, "variant": variant, "seed": seed, **{name: round(summary[name], 4) for name in COLUMNS}}


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


def main() -> None:
    rows: list[Row] = []
    if RESULTS.exists():
        with RESULTS.open() as file:
            rows = list(csv.DictReader(file))
    done = {(row["experiment"], row["variant"], int(str(row["seed"]))) for row in rows}
    with ThreadPoolExecutor(2) as pool:
        for future in as_completed([pool.submit(one, *job) for job in JOBS if job not in done]):
            rows.append(future.result())
            print(rows[-1], flush=True)
            with RESULTS.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["experiment", "variant", "seed", *COLUMNS])
                writer.writeheader()
                writer.writerows(sorted(rows, key=lambda row: [str(value) for value in list(row.values())[:3]]))
    print(table(rows))


if __name__ == "__main__":
    main()
