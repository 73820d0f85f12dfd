"""Run the recipes for signals, tables and medical files with three seeds.

python -m experiments.any_classifier.run
"""

from __future__ import annotations

from pathlib import Path

from experiments.any_classifier import data_sets
from experiments.jobs import Row, netinv
from experiments.page import markdown, run_experiment, shown
from experiments.recipes import UNUSED_SEEDS
from experiments.run_files import copy_figure, read_summary

HERE = Path(__file__).parent
DATA = HERE / "data"
"""Folder of the files that data_sets.py writes; it is not committed."""
RECIPES = {
    "tabular_invert": "three cultivars of wine, 13 measurements (MLP)",
    "signal_invert": "cylinder, bell and funnel, 128 values (convolutions)",
    "medmnist_invert": "two kinds of shoes in the layout of MedMNIST, 28 pixels (CNN)",
}
OVERRIDES = {"medmnist_invert": [f"data.path={DATA / 'boots_medmnist.npz'}"]}
JOBS = [(recipe, seed) for seed in UNUSED_SEEDS for recipe in RECIPES]
COLUMNS = {
    "inversion/accuracy": "accuracy, soft",
    "inversion/accuracy_hot": "accuracy, hot",
    "transfer/accuracy": "transfer",
    "cost/training_seconds": "seconds of training",
}


def one(recipe: str, seed: int) -> list[Row]:
    """Run one recipe and return its row; keep the picture of the first seed."""
    run_dir = netinv(f"+experiment={recipe}", f"seed={seed}", *OVERRIDES.get(recipe, []))
    if seed == UNUSED_SEEDS[0]:
        copy_figure(run_dir, "grid", HERE / f"{recipe}.png", divisor=1)
    summary = read_summary(run_dir)
    numbers = {name: f"{summary[name]:.4f}" if name in summary else "" for name in COLUMNS}
    return [{"recipe": recipe, "seed": seed, **numbers}]


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the table of the page."""
    lines = []
    for recipe, title in RECIPES.items():
        chosen = [row for row in rows if row["recipe"] == recipe]
        values = ([float(row[name]) for row in chosen if row[name]] for name in COLUMNS)
        digits = (0 if name.startswith("cost/") else 3 for name in COLUMNS)
        lines.append([f"`{recipe}`", title, *map(shown, values, digits)])
    return {"recipes": markdown(["recipe", "classifier", *COLUMNS.values()], lines)}


def main() -> None:
    data_sets.write(DATA)
    run_experiment(__doc__, HERE, ("recipe", "seed"), JOBS, one, tables)


if __name__ == "__main__":
    main()
