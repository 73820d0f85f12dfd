"""Audit every classifier of the zoo at the quick setting: `make zoo-audit`.

Suhail, Tang and Sethi 2024 (arXiv:2411.17777), section 5.3.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

from experiments.jobs import Row, netinv
from experiments.page import markdown, pick, run_experiment, shown
from experiments.run_files import read_summary

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
NETWORKS = {
    "mnist": ("cnn", "mlp", "resnet"),
    "fashion_mnist": ("cnn", "mlp", "resnet"),
    "svhn_head": ("cnn", "resnet", "vit"),
    "cifar10": ("cnn", "resnet", "vit"),
}
ROWS = ("reconstruction", "natural", "other real images", "planted leak")
"""Attacks and controls in the table of the page."""
JOBS = [
    (f"{data}_{network}", seed)
    for seed in SEEDS
    for data, networks in NETWORKS.items()
    for network in networks
]


def one(classifier: str, seed: int) -> list[Row]:
    """Audit one classifier and return the rows of its verdict, attacks and controls."""
    data, _, network = classifier.rpartition("_")
    others = ",".join(f"{data}_{other}" for other in NETWORKS[data] if other != network)
    run_dir = netinv(
        "application=audit",
        f"data={data}",
        f"classifier.zoo={classifier}",
        f"seed={seed}",
        f"application.verifiers=[{others}]",
    )
    numbers = {"verdict": json.loads((run_dir / "verdict.json").read_text())["verdict"]}
    with (run_dir / "audit.csv").open() as file:
        for row in csv.DictReader(file):
            numbers |= {
                f"{row['images']}/{what}": f"{float(row[what]):.4f}"
                for what in ("auc", "auc_low", "auc_high", "p_value")
            }
    numbers["loss/auc"] = f"{read_summary(run_dir)['reconstruction/auc_of_loss']:.4f}"
    for attack in ("reconstruction", "natural"):
        of_attack = read_summary(run_dir / "attacks" / attack)
        numbers[f"{attack}/transfer"] = f"{of_attack['transfer/accuracy']:.4f}"
    return [
        {"classifier": classifier, "seed": seed, "number": name, "value": value}
        for name, value in numbers.items()
    ]


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    lines = []
    for classifier in dict.fromkeys(row["classifier"] for row in rows):
        verdicts = {
            row["value"]
            for row in rows
            if row["classifier"] == classifier and row["number"] == "verdict"
        }
        verdict = "; ".join(sorted(verdicts))
        aucs = [shown(pick(rows, f"{name}/auc", classifier=classifier)) for name in ROWS]
        auc_of_loss = pick(rows, "loss/auc", classifier=classifier)
        transfer = [
            shown(pick(rows, f"{attack}/transfer", classifier=classifier))
            for attack in ("reconstruction", "natural")
        ]
        lines.append(
            [classifier, verdict, *aucs, shown(auc_of_loss), *transfer, str(len(auc_of_loss))]
        )
    columns = [
        *(f"AUC, {name}" for name in ROWS),
        "AUC of the loss",
        "transfer, reconstruction",
        "transfer, natural",
    ]
    return {"audits": markdown(["classifier", "verdict", *columns, "seeds"], lines)}


def main() -> None:
    run_experiment(__doc__, HERE, ("classifier", "seed"), JOBS, one, tables)


if __name__ == "__main__":
    main()
