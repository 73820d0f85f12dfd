"""Measure membership inference on MNIST classifiers: `make membership`.

Dodd et al. 2025 (arXiv:2510.19773), Carlini et al. 2022 (arXiv:2112.03570), Zarifzadeh et al. 2024
(arXiv:2312.03262), Iurada et al. 2025 (arXiv:2509.22214). The seeds were used for nothing else.
"""

from __future__ import annotations

from pathlib import Path

import netinv_lightning
from experiments.jobs import ROOT, Row, netinv
from experiments.page import markdown, pick, run_experiment, shown
from experiments.run_files import number_rows
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.privacy.build import (
    build_real_images,
    build_shadow_plan,
    with_training_split,
)
from netinv_lightning.privacy.capacity import capacity_of
from netinv_lightning.privacy.loss_membership import membership_by_loss
from netinv_lightning.privacy.shadow_attack import shadow_attacks

HERE = Path(__file__).parent
SEEDS = (11, 12, 13)
TRAINING = {
    "memorised": ["+experiment=memorised_mlp"],
    "overfitted": [
        "application=train_classifier", "data=mnist", "data.subset_size=1000",
        "data.batch_size=50", "classifier=mlp", "+classifier.network.widths=[100]",
        "+classifier.network.batch_norm=false", "+classifier.network.dropout=0",
        "recipe.epochs=50", "recipe.weight_decay=0", "recipe.label_smoothing=0",
        "recipe.lr=0.05",
    ],
}  # fmt: skip
"""Overrides of the classifiers that are trained here. The others are in the zoo."""
SHADOWS = (16, 64)
ATTACKS = ("loss", "lira_online", "lira_offline", "rmia_online", "rmia_offline")
JOBS = [
    *((name, SEEDS[0]) for name in ("mnist_mlp", "mnist_cnn", "memorised")),
    *(("overfitted", seed) for seed in SEEDS),
]


def named(classifier: str, seed: int) -> list[str]:
    """Return the overrides that name a classifier; train it if its file is missing."""
    if classifier not in TRAINING:
        return ["data=mnist", f"classifier.zoo={classifier}", f"seed={seed}"]
    path = ROOT / "classifiers" / "membership" / f"{classifier}_{seed}.safetensors"
    if not path.with_suffix(".json").exists():
        netinv(
            *TRAINING[classifier],
            f"data.split_seed={seed}",
            f"seed={seed}",
            f"application.save_as={path}",
        )
    return ["data=mnist", "classifier=checkpoint", f"classifier.path={path}", f"seed={seed}"]


def one(name: str, seed: int) -> list[Row]:
    """Return the rows of one classifier."""
    numbers = measured(named(name, seed), SHADOWS if name == "overfitted" else ())
    return number_rows(numbers, classifier=name, seed=seed)


def measured(command: list[str], shadows: tuple[int, ...]) -> dict[str, float]:
    """Return the rates by the loss, and those with shadow networks."""
    cfg = with_training_split(netinv_lightning.compose(["application=audit", *command]))
    classifier, data = load_classifier(cfg), ImageDataModule(**cfg.data)
    real = build_real_images(cfg, data)
    numbers = {"p/(dn)": capacity_of(classifier, len(data.train[1])).ratio}
    numbers |= membership_by_loss(classifier, real).metrics()
    for count in shadows:
        cfg.application.shadow = count
        plan = build_shadow_plan(cfg, classifier)
        assert plan is not None
        found = shadow_attacks(
            plan,
            classifier,
            real,
            training=data.train,
            training_index_n=data.train_indices,
            seed=cfg.seed,
        )
        numbers |= {f"{count} shadows/{name}": value for name, value in found.metrics().items()}
    return numbers


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    by_loss, with_shadows = [], []
    for name in dict.fromkeys(job[0] for job in JOBS):
        line = [name, shown(pick(rows, "p/(dn)", classifier=name))]
        for what in ("auc", "tpr_at_0.001", "tpr_at_0.01", "tnr_at_0.001", "tnr_at_0.01"):
            line.append(shown(pick(rows, f"membership/{what}", classifier=name)))
        by_loss.append([*line, str(len(pick(rows, "p/(dn)", classifier=name)))])
    for count in SHADOWS:
        for attack in ATTACKS:
            values = [
                pick(rows, f"{count} shadows/membership/{attack}/{what}", classifier="overfitted")
                for what in ("auc", "tpr_at_0.001", "tpr_at_0.01")
            ]
            with_shadows.append([str(count), attack, *map(shown, values)])
    columns = ["AUC", "TPR at 0.1 % FPR", "TPR at 1 % FPR"]
    tnr = ["TNR at 0.1 % FNR", "TNR at 1 % FNR"]
    return {
        "loss": markdown(["classifier", "p / (d n)", *columns, *tnr, "seeds"], by_loss),
        "shadows": markdown(["shadow networks", "attack", *columns], with_shadows),
    }


def main() -> None:
    run_experiment(__doc__, HERE, ("classifier", "seed"), JOBS, one, tables, at_once=1)


if __name__ == "__main__":
    main()
