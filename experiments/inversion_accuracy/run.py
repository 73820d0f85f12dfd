"""Measure the inversion accuracy of the four recipes over three seeds: `make results`.

The jobs run one after the other, each on all cores, because the table reports seconds.
"""

from __future__ import annotations

from pathlib import Path

from experiments.jobs import Row, netinv_on_all_cores
from experiments.page import markdown, run_experiment, shown
from experiments.recipes import DATA_OF_RECIPE, UNUSED_SEEDS
from experiments.run_files import copy_figure, read_summary

HERE = Path(__file__).parent
JOBS = [(experiment, seed) for experiment in DATA_OF_RECIPE for seed in UNUSED_SEEDS]
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
    run_dir = netinv_on_all_cores(f"+experiment={experiment}", f"seed={seed}")
    if seed == UNUSED_SEEDS[0]:
        copy_figure(run_dir, "grid", HERE / f"{experiment}.png", divisor=1)
    summary = read_summary(run_dir)
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
    for experiment, title in DATA_OF_RECIPE.items():
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
