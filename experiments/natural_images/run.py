"""Compare the papers' objective with `loss=natural` and its ablations: `make natural`."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

from experiments.jobs import Row, netinv
from experiments.page import markdown, run_experiment, shown
from experiments.recipes import DATA_OF_RECIPE, NO_VIEWS, UNUSED_SEEDS
from experiments.run_files import copy_figure, read_summary

HERE = Path(__file__).parent
NATURAL = ["loss=natural", "application.steps=600"]
VARIANTS = {
    "papers": ["loss=inversion", "application.steps=600"],
    "papers, sharp vectors": [
        "loss=inversion",
        "application.steps=600",
        "conditioning.temperature=0.15",
    ],
    "natural": NATURAL,
    "natural without batch_norm": [*NATURAL, "~loss.batch_norm"],
    "natural without views": [*NATURAL, *NO_VIEWS],
    "natural without class_spread": [*NATURAL, "~loss.class_spread"],
    "natural, transposed convolution": [*NATURAL, "generator.upsampling=transposed"],
}
JOBS = [
    *((experiment, "natural", seed) for seed in UNUSED_SEEDS for experiment in DATA_OF_RECIPE),
    *(
        (experiment, "papers, sharp vectors", seed)
        for seed in UNUSED_SEEDS
        for experiment in DATA_OF_RECIPE
    ),
    *(
        ("mnist_invert", variant, seed)
        for seed in UNUSED_SEEDS
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
    """Run one inversion and return its row; keep the image grid of the first seed."""
    run_dir = netinv(f"+experiment={experiment}", f"seed={seed}", *VARIANTS[variant])
    if seed == UNUSED_SEEDS[0] and variant == "natural":
        copy_figure(run_dir, "grid", HERE / f"{experiment}.png", divisor=1)
    summary = read_summary(run_dir)
    return [
        {
            "experiment": experiment,
            "variant": variant,
            "seed": seed,
            **{name: round(summary[name], 4) for name in COLUMNS},
        }
    ]


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    lines = []
    for experiment, title in DATA_OF_RECIPE.items():
        for variant in VARIANTS:
            chosen = [
                row for row in rows if (row["experiment"], row["variant"]) == (experiment, variant)
            ]
            if len(chosen) < 2:
                continue
            of_columns = {name: [float(row[name]) for row in chosen] for name in COLUMNS}
            seconds = of_columns.pop("cost/training_seconds")
            lines.append(
                [
                    title,
                    variant,
                    *map(shown, of_columns.values()),
                    f"{mean(seconds):.0f}",
                    str(len(chosen)),
                ]
            )
    return {"objectives": markdown(["classifier", "objective", *COLUMNS.values(), "seeds"], lines)}


def main() -> None:
    run_experiment(__doc__, HERE, ("experiment", "variant", "seed"), JOBS, one, tables)


if __name__ == "__main__":
    main()
