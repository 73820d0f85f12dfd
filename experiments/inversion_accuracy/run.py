"""Measure the inversion accuracy of the four recipes over three seeds: `make results`.

The jobs run one after the other, each on all cores, because the table reports seconds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from experiments.jobs import ROOT, Row
from experiments.page import markdown, run_experiment, shown

HERE = Path(__file__).parent
DATA = {
    "mnist_invert": "MNIST",
    "fmnist_invert": "FashionMNIST",
    "svhn_invert": "SVHN (head)",
    "cifar_invert": "CIFAR-10",
}
SEEDS = (10, 11, 12)  # no setting was chosen on these seeds
JOBS = [(experiment, seed) for experiment in DATA for seed in SEEDS]
COLUMNS = (
    "inversion/accuracy",
    "inversion/accuracy_hot",
    "inversion/confidence",
    "inversion/kl",
    "inversion/steps_to_95",
    "inversion/seconds_to_95",
    "transfer/accuracy",
    "diversity/intra_class_cosine",
    "diversity/inter_class_cosine",
    "cost/training_seconds",
)
DIGITS = {
    "inversion/accuracy": ("accuracy, soft", 4),
    "inversion/accuracy_hot": ("accuracy, hot", 4),
    "inversion/steps_to_95": ("steps to 0.95", 0),
    "inversion/seconds_to_95": ("seconds to 0.95", 1),
    "transfer/accuracy": ("transfer", 2),
    "inversion/kl": ("KL (nats)", 2),
    "diversity/intra_class_cosine": ("intra-class cosine", 2),
    "diversity/inter_class_cosine": ("inter-class cosine", 2),
}
"""Columns of the table: title and digits after the point."""


def one(experiment: str, seed: int) -> list[Row]:
    """Run one inversion and return its row; keep the image grid of the first seed."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "netinv_lightning.run",
        f"+experiment={experiment}",
        f"seed={seed}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    run_dir = Path(done.stdout.splitlines()[-1])
    if seed == SEEDS[0]:
        shutil.copy(run_dir / "figures" / "grid.png", HERE / f"{experiment}.png")
    summary = json.loads((run_dir / "summary.json").read_text())
    return [
        {
            "experiment": experiment,
            "seed": seed,
            **{name: round(summary.get(name, float("nan")), 4) for name in COLUMNS},
        }
    ]


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    lines = []
    for experiment, title in DATA.items():
        chosen = [row for row in rows if row["experiment"] == experiment]
        lines.append(
            [
                title,
                *(
                    shown([float(row[name]) for row in chosen], digits)
                    for name, (_, digits) in DIGITS.items()
                ),
            ]
        )
    return {
        "accuracy": markdown(
            ["classifier (papers' CNN)", *(title for title, _ in DIGITS.values())], lines
        )
    }


def main() -> None:
    run_experiment(__doc__, HERE, ("experiment", "seed"), JOBS, one, tables, at_once=1)


if __name__ == "__main__":
    main()
