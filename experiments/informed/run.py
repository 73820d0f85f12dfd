"""Reconstruct missing training images with an informed adversary: `make informed`.

Balle, Cherubin and Hayes 2022 (arXiv 2201.04845). The network and its training are those of the
code that the authors published, as far as `recipe` describes them, with fewer known images and
fewer shadow models. The figure is that of seed 0.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from experiments.jobs import Row, netinv
from experiments.page import markdown, pick, run_experiment, shown
from experiments.run_files import number_rows, read_summary

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
PREFIX = "reconstruction/informed/"
AUC = "reconstruction/auc"
KNOWN, TARGETS, SHADOWS = 200, 100, 1000
COMMAND = (
    "application=audit", "application.attacks=[informed]", f"application.known={KNOWN}",
    f"application.targets={TARGETS}", f"application.models={SHADOWS}",
    "data=mnist", f"data.subset_size={KNOWN}", "data.batch_size=256",
    "classifier=mlp", "classifier.train=true",
    "+classifier.network={widths: [10], batch_norm: false, dropout: 0}",
    "recipe.epochs=100", "recipe.weight_decay=0", "recipe.label_smoothing=0",
)  # fmt: skip


def one(network: str, seed: int) -> list[Row]:
    """Audit the recipe once and return its rows."""
    run_dir = netinv(*COMMAND, f"seed={seed}", f"data.split_seed={seed}")
    if seed == SEEDS[0]:
        shutil.copyfile(run_dir / "figures" / "informed.png", HERE / f"{network}.png")
    summary = read_summary(run_dir)
    kept = {name: value for name, value in summary.items() if name.startswith(PREFIX)}
    return number_rows(kept | {AUC: summary[AUC]}, network=network, seed=seed)


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the table of the page."""
    lines = [
        [
            name,
            shown(pick(rows, f"{PREFIX}success{suffix}")),
            shown(pick(rows, f"{PREFIX}error{suffix}"), 4),
        ]
        for name, suffix in (("missing image", ""), ("image of no model (control)", "_control"))
    ]
    nearest = shown(pick(rows, f"{PREFIX}error_nearest"), 4)
    lines.append(["nearest image of the adversary", "", nearest])
    return {
        "informed": markdown(["image", "share reconstructed", "mean squared error"], lines),
        "facts": markdown(
            ["AUC, missing against no model", "accuracy of the released models", "seeds"],
            [
                [
                    shown(pick(rows, AUC)),
                    shown(pick(rows, f"{PREFIX}accuracy")),
                    str(len(pick(rows, AUC))),
                ]
            ],
        ),
    }


def main() -> None:
    jobs = [("mlp", seed) for seed in SEEDS]
    run_experiment(__doc__, HERE, ("network", "seed"), jobs, one, tables, at_once=1)


if __name__ == "__main__":
    main()
