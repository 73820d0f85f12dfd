"""Leave out the terms of the inversion loss, and vary their weights: `make loss-ablation`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from experiments.jobs import Row, read_rows
from experiments.loss_ablation.figures import draw_curves, draw_samples, draw_sweeps
from experiments.loss_ablation.job import VARIATION, one, unseen
from experiments.loss_ablation.variants import (
    ABLATION,
    ALL,
    FIRST,
    KNOBS,
    MNIST,
    REAL,
    SAMPLED_OFF,
    SWEEPS,
    WEIGHTED,
    jobs,
)
from experiments.page import markdown, pick, run_experiment, shown
from experiments.recipes import DATA_OF_RECIPE, UNUSED_SEEDS
from netinv_lightning import metric_names as names

HERE = Path(__file__).parent
SLIDES = {
    "without ce": 0.28,
    "without kl": 0.8,
    "without cosine": 0.8,
    "without orthogonality": 0.89,
}
"""Inversion accuracies of the slides after hundreds of epochs."""
IN_SLIDES = "accuracy in the slides"
ACCURACY = {
    names.INVERSION_ACCURACY: ("accuracy, soft", 3),
    names.INVERSION_ACCURACY_HOT: ("accuracy, hot", 3),
    names.STEPS_TO_95: ("steps to 0.95", 0),
    names.TRANSFER_ACCURACY: ("transfer", 2),
}
DIVERSITY = {
    names.VENDI_CLASS: ("Vendi within, attacked", 2),
    unseen(names.VENDI_CLASS): ("Vendi within, unseen", 2),
    unseen(names.INTER_CLASS_COSINE): ("cosine between, unseen", 2),
    names.DUPLICATES: ("duplicates", 3),
}
QUALITY = {
    names.INVERSION_KL: ("KL (nats)", 2),
    names.INVERSION_CONFIDENCE: ("confidence", 2),
    VARIATION: ("total variation", 3),
    unseen(names.KID): ("KID", 2),
    unseen(names.VENDI): ("Vendi of all, unseen", 2),
    names.INTRA_CLASS_COSINE: ("cosine within, attacked", 2),
    names.INTER_CLASS_COSINE: ("cosine between, attacked", 2),
}
Columns = dict[str, tuple[str, int]]
"""Title and digits of numbers, by their names."""
ALL_COLUMNS: Columns = {**ACCURACY, IN_SLIDES: (IN_SLIDES, 2), **DIVERSITY, **QUALITY}


def table(rows: list[Row], recipe: str, variants: Iterable[str], columns: Columns) -> str:
    """Return a table of the variants that were run, mean and deviation over the seeds."""
    lines = [
        [variant, *(cell(rows, recipe, variant, name) for name in columns)]
        for variant in variants
        if pick(rows, names.DUPLICATES, recipe=recipe, variant=variant)
    ]
    titles = [title for title, _ in columns.values()]
    return markdown(["variant", *titles], lines) if len(lines) > 1 else "Not run yet.\n"


def cell(rows: list[Row], recipe: str, variant: str, name: str) -> str:
    """Return one cell of a table; of a number that only some seeds have, with how many have it."""
    if name == IN_SLIDES:
        return str(SLIDES.get(variant, "-"))
    where = {"recipe": recipe, "variant": variant}
    values = pick(rows, name, **where)
    if name != names.STEPS_TO_95:
        return shown(values, ALL_COLUMNS[name][1])
    runs = len(pick(rows, names.INVERSION_ACCURACY, **where))
    if not values:
        return "not reached" if runs else "-"
    return f"{mean(values):.0f}" + ("" if len(values) == runs else f" ({len(values)} of {runs})")


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    both = ACCURACY | DIVERSITY
    ablation = [REAL, *ABLATION]
    of_mnist = {
        "accuracy": (ABLATION, ACCURACY | {IN_SLIDES: (IN_SLIDES, 2)}),
        "diversity": (ablation, DIVERSITY),
        "quality": (ablation, QUALITY),
        "first": ([*FIRST, "without orthogonality"], both),
        "knobs": ([ALL, *KNOBS], both | {VARIATION: QUALITY[VARIATION]}),
        "notebook": (WEIGHTED, both),
        **{name: (values.values(), both) for name, values in SWEEPS.items()},
        "sampled-off": (SAMPLED_OFF, both),
    }
    made = {name: table(rows, MNIST, *parts) for name, parts in of_mnist.items()}
    others = [recipe for recipe in DATA_OF_RECIPE if recipe != MNIST]
    return made | {
        recipe.partition("_")[0]: table(rows, recipe, ablation, both) for recipe in others
    }


def main() -> None:
    job_list = [(*job, seed) for job in jobs() for seed in UNUSED_SEEDS]
    run_experiment(__doc__, HERE, ("recipe", "variant", "seed"), job_list, one, tables)
    rows = read_rows(HERE / "results.csv")
    draw_curves(rows)
    draw_sweeps(rows)
    draw_samples()


if __name__ == "__main__":
    main()
