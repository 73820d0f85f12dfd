"""Invert a transformer without BatchNorm with `loss=natural`: `make without-batch-norm`."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean

from experiments.jobs import Row, netinv
from experiments.page import markdown, pick, run_experiment, shown
from experiments.recipes import NO_VIEWS, UNUSED_SEEDS
from experiments.run_files import copy_figure, number_rows, read_summary
from netinv_lightning.classifiers.zoo import zoo_path

HERE = Path(__file__).parent
JUDGES = ("mnist_mlp", "mnist_resnet")
"""Verifiers in the table of results."""
CHOSEN_BY = "mnist_cnn"
"""Verifier whose agreement was used to choose the settings, with seed 0."""
COMMAND = ["+experiment=mnist_invert", "classifier.zoo=mnist_vit", "application.eval_samples=1000"]
NATURAL = [*COMMAND, "loss=natural"]
NEITHER = ["~loss.pixel_statistics", "~loss.spectrum"]
PATCHES = "+loss.patch_similarity={weight: 0.3, tokens: 32}"
CHOICE = {
    "neither": [*NATURAL, *NEITHER],
    "pixel_statistics": [*NATURAL, "~loss.spectrum"],
    "pixel_statistics, spectrum": NATURAL,
    "pixel_statistics, patch_similarity": [*NATURAL, "~loss.spectrum", PATCHES],
    "pixel_statistics, spectrum, patch_similarity": [*NATURAL, PATCHES],
    "pixel_statistics, spectrum; scale 0.3": [*NATURAL, "augmentation.scale=0.3"],
    "pixel_statistics, spectrum; scale 0.3, shift 4": [
        *NATURAL,
        "augmentation.scale=0.3",
        "augmentation.shift=4",
    ],
}
"""Candidates for the settings. Each was run for 400 steps with seed 0."""
CHOICE_SEED, CHOICE_STEPS, STEPS = 0, 400, 600
VARIANTS = {
    "papers, sharp vectors": [*COMMAND, "conditioning.temperature=0.15"],
    "natural": NATURAL,
    "natural without pixel_statistics": [*NATURAL, NEITHER[0]],
    "natural without spectrum": [*NATURAL, NEITHER[1]],
    "natural without both": [*NATURAL, *NEITHER],
    "natural without views": [*NATURAL, *NO_VIEWS],
    "natural without class_spread": [*NATURAL, "~loss.class_spread"],
    "natural with patch_similarity": [*NATURAL, PATCHES],
}
JOBS = [
    *((variant, CHOICE_SEED) for variant in CHOICE),
    *(("natural", seed) for seed in UNUSED_SEEDS),
    *((variant, seed) for seed in UNUSED_SEEDS for variant in VARIANTS if variant != "natural"),
]
SHOWN = ("inversion/accuracy", "inversion/accuracy_hot")
AGREEMENT = "transfer/accuracy"
COSINE, SECONDS = "diversity/intra_class_cosine", "cost/training_seconds"


def one(variant: str, seed: int) -> list[Row]:
    """Run one inversion and return its rows; keep the grid of the first seed of the results."""
    choosing = seed == CHOICE_SEED
    verifiers = [CHOSEN_BY] if choosing else [*JUDGES, CHOSEN_BY]
    run_dir = netinv(
        f"seed={seed}",
        f"application.steps={CHOICE_STEPS if choosing else STEPS}",
        f"application.verifiers=[{','.join(verifiers)}]",
        *(CHOICE if choosing else VARIANTS)[variant],
    )
    if variant == "natural" and seed == UNUSED_SEEDS[0]:
        copy_figure(run_dir, "grid", HERE / "mnist_vit.png")
    summary = read_summary(run_dir)
    agreements = {
        f"{AGREEMENT}/{name}": summary[AGREEMENT if choosing else f"{AGREEMENT}/{name}"]
        for name in verifiers
    }
    numbers = {name: summary[name] for name in (*SHOWN, COSINE, SECONDS)} | agreements
    return number_rows(numbers, variant=variant, seed=seed)


def ceiling(*names: str) -> float:
    """Return the mean accuracy of classifiers of the zoo on real test images, from their cards."""
    cards = [json.loads(zoo_path(name).with_suffix(".json").read_text()) for name in names]
    return mean(float(card["test_accuracy"]) for card in cards)


def choice_table(rows: list[Row]) -> str:
    """Return the table of the runs from which the settings were chosen."""
    lines = []
    for variant in CHOICE:
        names = (*SHOWN, f"{AGREEMENT}/{CHOSEN_BY}", COSINE, SECONDS)
        values = [pick(rows, name, variant=variant, seed=str(CHOICE_SEED)) for name in names]
        share = [value / ceiling(CHOSEN_BY) for value in values[2]]
        cells = [shown(value) for value in (*values[:3], share, values[3])]
        lines.append([variant, *cells, shown(values[4], digits=0)])
    names_of_columns = [
        "terms in place of batch_norm",
        "accuracy, soft",
        "accuracy, hot",
        CHOSEN_BY,
        "by its ceiling",
        "intra-class cosine",
        "seconds",
    ]
    return markdown(names_of_columns, lines)


def result_table(rows: list[Row]) -> str:
    """Return the table of results, over seeds not used to choose settings, or a note."""
    lines = []
    rows = [row for row in rows if int(row["seed"]) in UNUSED_SEEDS]
    for variant in VARIANTS:
        judged = [pick(rows, f"{AGREEMENT}/{name}", variant=variant) for name in JUDGES]
        if not judged[0]:
            continue
        share = [mean(values) / ceiling(*JUDGES) for values in zip(*judged, strict=True)]
        chosen_by = pick(rows, f"{AGREEMENT}/{CHOSEN_BY}", variant=variant)
        others = [pick(rows, name, variant=variant) for name in (*SHOWN, COSINE)]
        seconds = f"{mean(pick(rows, SECONDS, variant=variant)):.0f}"
        cells = [shown(values) for values in (share, *judged, chosen_by, *others)]
        lines.append([variant, *cells, seconds, str(len(share))])
    names_of_columns = [
        "objective",
        "transfer by ceiling",
        *JUDGES,
        CHOSEN_BY,
        "accuracy, soft",
        "accuracy, hot",
        "intra-class cosine",
        "seconds",
        "seeds",
    ]
    return markdown(names_of_columns, lines) if lines else "Not run yet.\n"


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    return {"results": result_table(rows), "choice": choice_table(rows)}


def main() -> None:
    run_experiment(__doc__, HERE, ("variant", "seed"), JOBS, one, tables)


if __name__ == "__main__":
    main()
