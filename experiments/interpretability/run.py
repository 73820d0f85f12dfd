"""S2 section 5.1 on all four data sets: `make interpretability`.

`studied` runs have two generators and every study; `clusters` runs have one generator and several weights of the cosine term (A3-7).
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

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RESULTS = HERE / "results.csv"
DATA = {
    "mnist_invert": ("MNIST", "mnist"),
    "fmnist_invert": ("FashionMNIST", "fashion_mnist"),
    "svhn_invert": ("SVHN (head)", "svhn_head"),
    "cifar_invert": ("CIFAR-10", "cifar10"),
}
SEEDS = (0, 1, 2)
WEIGHTS = (0, 1, 10)
FEW = ["interpret.analyses=[clusters]", "interpret.perplexities=[30]", "interpret.embedding_seeds=[0]", "interpret.embedded=500"]
STUDIED = "studied"
JOBS = [
    *((experiment, f"clusters, cosine {weight}", seed) for seed in SEEDS for experiment in DATA for weight in WEIGHTS),
    *((experiment, STUDIED, seed) for seed in SEEDS for experiment in DATA),
]
FIGURES = ("pca", "regions", "tsne", "sparse_images", "sparse_overlap", "rules")
"""Kept of the first seed."""
Row = dict[str, object]


def overrides(variant: str) -> list[str]:
    if variant == STUDIED:
        return ["n_generators=2"]
    return [f"loss.cosine.weight={variant.rpartition(' ')[2]}", *FEW]


def one(experiment: str, variant: str, seed: int) -> list[Row]:
    command = [sys.executable, "-W", "ignore", "-m", "netinv_lightning.run", f"+experiment={experiment}", f"seed={seed}"]
    command += [f"data={DATA[experiment][1]}", "interpret=full", "output=runs/interpretability", *overrides(variant)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{experiment}, {variant}, seed {seed}: {done.stderr.strip()[-500:]}")
    run_dir = Path(done.stdout.splitlines()[-1])
    if seed == SEEDS[0] and variant == STUDIED:
        for figure in FIGURES:
            shutil.copy(run_dir / "figures" / f"{figure}.png", HERE / f"{experiment}_{figure}.png")
    summary = json.loads((run_dir / "summary.json").read_text())
    chosen = {name: value for name, value in summary.items() if name.startswith("interpretation/") or name == "inversion/accuracy"}
    return [
        {"experiment": experiment, "variant": variant, "seed": seed, "number": name, "value": f"{value:.4f}"}
        for name, value in chosen.items()
    ]


def main() -> None:
    rows: list[Row] = []
    if RESULTS.exists():
        with RESULTS.open() as file:
            rows = list(csv.DictReader(file))
    done = {(row["experiment"], row["variant"], int(str(row["seed"]))) for row in rows}
    with ThreadPoolExecutor(2) as pool:
        for future in as_completed([pool.submit(one, *job) for job in JOBS if job not in done]):
            rows += future.result()
            print([rows[-1][key] for key in ("experiment", "variant", "seed")], flush=True)
            with RESULTS.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["experiment", "variant", "seed", "number", "value"])
                writer.writeheader()
                writer.writerows(sorted(rows, key=lambda row: [str(row[key]) for key in ("experiment", "variant", "seed", "number")]))


if __name__ == "__main__":
    main()
