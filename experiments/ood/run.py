"""Detect out-of-distribution images on the papers' four pairs and more: `make ood`.

Suhail, Tang and Sethi 2024 (arXiv:2411.17777), section 5.2.

The plain classifiers (the papers' CNN at half its width, three seeds) are trained first and kept in
`classifiers/` below the project's root. Variants:

- `comparison` compares all detectors of the plain classifier with the garbage class and its
  controls.
- `paper` is the papers' version of the garbage class; `exposed` trains on real outliers.
- `near` tests classes or data sets that resemble the training data.
- `shifts` tests perturbed images.
- `full`, `full garbage`, `full paper` and `full paper fresh` use full-width networks and fresh
  seeds, on which nothing was chosen.
- All other variants change one key of the garbage class.
"""

from __future__ import annotations

from pathlib import Path

from experiments.half_width import PLAIN, plain
from experiments.jobs import Row, netinv
from experiments.ood import full_width
from experiments.ood.ood_tables import (
    ablation_table,
    accuracy_table,
    claims_table,
    near_table,
    pairs_table,
    perturbations_table,
    ranking_table,
    sets_table,
)
from experiments.ood.variants import ABLATED, ALL_OF_THEM, COMPARED, KEPT, NEAR, OOD_SETS, VARIANTS
from experiments.page import run_experiment
from experiments.run_files import copy_figure, number_rows, read_summary

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
JOBS = [
    *((data, "comparison", seed) for seed in SEEDS for data in PLAIN),
    *((data, "near", seed) for seed in SEEDS for data in NEAR),
    *((data, variant, seed) for variant in COMPARED[1:] for seed in SEEDS for data in PLAIN),
    *((data, "shifts", seed) for seed in SEEDS for data in ("mnist", "cifar10")),
    *(
        (data, variant, seed)
        for seed in SEEDS
        for variant in [*VARIANTS][len(COMPARED) : -1]
        for data in ABLATED
    ),
    *(
        (data, variant, seed)
        for variant in ("full", "full garbage", *full_width.PAPER)
        for seed in full_width.SEEDS
        for data in full_width.EPOCHS
    ),
]


def one(data: str, variant: str, seed: int) -> list[Row]:
    """Run one detection and return its rows; keep the figures of the first seed."""
    if variant.startswith("full"):
        run_dir, other_scores = full_width.detect(data, variant, seed)
        return number_rows(kept(run_dir) | other_scores, data=data, variant=variant, seed=seed)
    if variant == "near":
        keys = ["garbage=[inverted,noise]", ALL_OF_THEM, *NEAR[data]]
        path = plain(data, seed, *(key for key in keys if key.startswith("data.classes")))
    else:
        keys, path = (
            [f"application.outliers=[{','.join(OOD_SETS[data])}]", *VARIANTS[variant]],
            plain(data, seed),
        )
    run_dir = netinv(
        "application=detect_ood", f"data={data}", f"seed={seed}", "classifier=checkpoint",
        f"classifier.path={path}",
        "application.samples=2000", *(key for key in PLAIN[data] if key.startswith("data.")), *keys,
    )  # fmt: skip
    if seed == SEEDS[0] and variant in ("comparison", "shifts"):
        for figure in (
            ("detection", "roc", "confidence") if variant == "comparison" else ("shifts",)
        ):
            copy_figure(run_dir, figure, HERE / f"{data}_{figure}.png")
    return number_rows(kept(run_dir), data=data, variant=variant, seed=seed)


def kept(run_dir: Path) -> dict[str, float]:
    """Return the numbers of a run that go into results.csv."""
    return {
        name: value
        for name, value in read_summary(run_dir).items()
        if name.startswith("ood/") and name.rpartition("/")[2] in KEPT
    }


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    return {
        "pairs": pairs_table(rows),
        "accuracy": accuracy_table(rows),
        **{data: sets_table(rows, data) for data in OOD_SETS},
        "claims": claims_table(rows),
        "ablation": ablation_table(rows),
        "near": near_table(rows),
        "ranking": ranking_table(rows),
        "perturbations": perturbations_table(rows),
        **{f"full-{data}": full_width.full_table(rows, data) for data in full_width.EPOCHS},
        "full-claims": full_width.claims_table(rows),
        "chosen": full_width.chosen_table(rows),
    }


def main() -> None:
    run_experiment(__doc__, HERE, ("data", "variant", "seed"), JOBS, one, tables)


if __name__ == "__main__":
    main()
