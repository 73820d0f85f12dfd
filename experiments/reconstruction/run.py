"""Measure what training-like reconstruction reveals of the training data: `make reconstruction`.

Suhail, Tang and Sethi 2024 (arXiv:2411.17777), section 5.3.

Studies:

- `objective` compares plain inversion, all nine terms and the natural prior on the papers' CNN at
  half its width, one classifier per seed.
- `size` attacks the weights (`method=kkt`) of MLPs that were trained to convergence on 100 to 1,000
  images.
- `factor` changes one property of the architecture or training of the attacked network.
- `robust` changes or removes the perturbed pairs of the nine terms.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

from scipy.stats import t

from experiments.half_width import PLAIN, VERIFIERS, plain
from experiments.jobs import ROOT, Row, netinv
from experiments.page import markdown, pick, run_experiment, shown
from experiments.run_files import copy_figure, number_rows, read_summary

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
FURTHER = {"svhn_head": (3, 4)}
"""Further seeds of `objective`, where the interval of the margin over three seeds included 0."""
OBJECTIVES = {
    "plain": ["loss=inversion", "conditioning.vectors=soft"],
    "plain, hot": ["loss=inversion"],
    "reconstruction": [],
    "natural": ["loss=natural"],
}
"""The papers' inversion, the same with one-hot vectors as a control, the papers' reconstruction,
and our data-free prior."""
ROBUST = {
    "no perturbed pairs": ["~loss.kl_perturbed", "~loss.ce_perturbed"],
    "adversarial pairs": ["perturbation.direction=adversarial"],
}
"""Variants compared with `reconstruction`, whose perturbations are random. They test whether robust
images resemble training images more."""
ROBUST_DATA = ("mnist", "fashion_mnist")
STEPS = "application.steps=100"
SIZES = (100, 200, 500, 1000)
SMALL_CNN = [
    "classifier=cnn",
    "+classifier.network.stages=[[16],[32],[32]]",
    "~classifier.network.widths",
    "recipe.lr=0.02",
]  # with 0.1, training fails for some seeds
FACTORS: dict[str, list[str]] = {
    "as it is": [],
    "CNN": SMALL_CNN,
    "CNN average pooling": [*SMALL_CNN, "+classifier.network.pool=avg"],
    "ViT": [
        "classifier=vit",
        "+classifier.network.stem=0",
        *(f"~classifier.network.{key}" for key in ("widths", "batch_norm", "slope")),
        "recipe.optimizer=adamw",
        "recipe.lr=0.002",
        "recipe.weight_decay=0.05",
    ],
    "width 250": ["classifier.network.widths=[250]"],
    "two layers": ["classifier.network.widths=[1000,1000]"],
    "no weight decay": ["recipe.weight_decay=0"],
    "BatchNorm": ["classifier.network.batch_norm=true"],
    "dropout 0.5": ["classifier.network.dropout=0.5"],
    "label smoothing 0.1": ["recipe.label_smoothing=0.1"],
    "shifts of 2 pixels": ["data.shift=2"],
    "150 epochs": ["recipe.epochs=150"],
}
"""Changes to `+experiment=memorised_mlp`, which is vulnerable."""
TITLES = {"as it is": "unchanged", "CNN average pooling": "CNN with average pooling"}
"""Names of some changes on the page."""
SLOW = ("CNN", "CNN average pooling", "ViT")
"""Networks with fewer steps of the attack, because a step takes many times as long as on an MLP."""
KEPT = (
    "inversion/accuracy", "transfer/accuracy", "diversity/intra_class_cosine", "reconstruction/auc",
    "reconstruction/auc_low",
    "reconstruction/auc_high", "reconstruction/gap", "reconstruction/gap_low",
    "reconstruction/gap_high", "reconstruction/p_value",
    "reconstruction/good", "reconstruction/good_held_out", "reconstruction/student_accuracy",
    "cost/training_seconds",
)  # fmt: skip
JOBS = [
    *(
        ("objective", data, variant, seed)
        for seed in SEEDS
        for data in PLAIN
        for variant in [*OBJECTIVES][:3]
    ),
    *(("size", "mnist", str(n), seed) for seed in SEEDS for n in SIZES),
    *(("size", data, "100", seed) for seed in SEEDS for data in ("fashion_mnist", "cifar10")),
    *(("objective", data, "natural", seed) for seed in SEEDS for data in PLAIN),
    *(
        ("objective", data, variant, seed)
        for data, seeds in FURTHER.items()
        for seed in seeds
        for variant in OBJECTIVES
    ),
    *(("factor", "mnist", variant, seed) for seed in SEEDS for variant in FACTORS),
    *(
        ("robust", data, variant, seed)
        for data in ROBUST_DATA
        for seed in SEEDS
        for variant in ROBUST
    ),
]


def memorised(data: str, n: int, variant: str, seed: int) -> Path:
    """Return a network that memorised n images; train it if its file is missing."""
    path = (
        ROOT
        / "classifiers"
        / "reconstruction"
        / f"{data}_{n}_{variant.replace(' ', '_')}_{seed}.safetensors"
    )
    if not path.with_suffix(".json").exists():
        where = [
            f"data={data}",
            f"data.subset_size={n}",
            f"data.split_seed={seed}",
            f"seed={seed}",
            f"application.save_as={path}",
        ]
        netinv("+experiment=memorised_mlp", *where, *FACTORS[variant])
    return path


def one(study: str, data: str, variant: str, seed: int) -> list[Row]:
    """Attack one network and return its rows; keep the pairs of the first seed as a picture."""
    if study in ("objective", "robust"):
        path, changed = plain(data, seed), (OBJECTIVES | ROBUST)[variant]
        attack = [
            f"application.verifiers={VERIFIERS[data]}",
            STEPS,
            "application.eval_samples=2000",
            *changed,
        ]
    else:
        n = int(variant) if study == "size" else 100
        path = memorised(data, n, "as it is" if study == "size" else variant, seed)
        attack = [
            "method=kkt",
            f"method.candidates={n * 3 // 2}",
            f"application.reconstructions={n * 3 // 2}",
        ]
        attack += ["method.steps=300"] if variant in SLOW else []
    run_dir = netinv(
        "application=reconstruct",
        f"data={data}",
        f"seed={seed}",
        "classifier=checkpoint",
        f"classifier.path={path}",
        *attack,
    )
    if study == "size" and seed == SEEDS[0]:
        copy_figure(run_dir, "best_pairs", HERE / f"{data}_{variant}_pairs.png", divisor=1)
    summary = read_summary(run_dir)
    chosen = {name: summary[name] for name in KEPT if name in summary}
    return number_rows(chosen, study=study, data=data, variant=variant, seed=seed)


def objective_values(rows: list[Row], data: str, variant: str, number: str) -> list[float]:
    """Return the values of a number under one objective, in the order of the seeds."""
    return pick(rows, number, study="objective", data=data, variant=variant)


def objective_table(rows: list[Row], number: str) -> str:
    """Return the table of one number: a row per data set, a column per objective."""
    lines = [
        [data, *(shown(objective_values(rows, data, variant, number)) for variant in OBJECTIVES)]
        for data in PLAIN
    ]
    return measured(["data", *OBJECTIVES], lines)


def margin(rows: list[Row], data: str, over: str) -> str:
    """Return the mean margin of reconstruction over another objective in transfer accuracy, with
    the 95 % interval of a paired t test."""
    reconstruction, other = (
        objective_values(rows, data, variant, "transfer/accuracy")
        for variant in ("reconstruction", over)
    )
    seeds = len(SEEDS) + len(FURTHER.get(data, ()))
    if not len(reconstruction) == len(other) == seeds:
        return "-"
    differences = [a - b for a, b in zip(reconstruction, other, strict=True)]
    half = float(t.ppf(0.975, seeds - 1)) * stdev(differences) / seeds**0.5
    middle = mean(differences)
    return f"{middle:+.3f} ({middle - half:+.3f} to {middle + half:+.3f})"


def margin_table(rows: list[Row]) -> str:
    """Return the table of reconstruction's margin over the other objectives."""
    others = [variant for variant in OBJECTIVES if variant != "reconstruction"]
    return measured(
        ["data", *(f"over {other}" for other in others)],
        [[data, *(margin(rows, data, other) for other in others)] for data in PLAIN],
    )


def robust_table(rows: list[Row]) -> str:
    """Return the table of the nine terms with random, adversarial or no perturbed pairs."""
    variants = {
        "no perturbed pairs": ("robust", "no perturbed pairs"),
        "random pairs (the papers)": ("objective", "reconstruction"),
        "adversarial pairs": ("robust", "adversarial pairs"),
    }
    lines = []
    for data in ROBUST_DATA:
        for title, (study, variant) in variants.items():
            values = [
                pick(rows, number, study=study, data=data, variant=variant)
                for number in ("transfer/accuracy", "reconstruction/auc")
            ]
            lines.append([f"{data}, {title}", *map(shown, values), str(len(values[0]))])
    return measured(["data, perturbed pairs", "transfer", "AUC", "seeds"], lines)


def kkt_table(rows: list[Row], study: str, names: list[tuple[str, str]], title: str) -> str:
    """Return the table of the attack on weights: a row for each pair of data set and variant."""
    numbers = {
        "auc": "AUC",
        "gap": "gap",
        "p_value": "p",
        "good": "good",
        "good_held_out": "good, held-out",
    }
    lines = []
    for data, name in names:
        values = [
            pick(rows, f"reconstruction/{number}", study=study, data=data, variant=name)
            for number in numbers
        ]
        lines.append(
            [f"{data}, {TITLES.get(name, name)}", *map(shown, values), str(len(values[0]))]
        )
    return measured([title, *numbers.values(), "seeds"], lines)


def measured(columns: list[str], lines: list[list[str]]) -> str:
    """Return a table without the rows that have no numbers yet."""
    return markdown(columns, [line for line in lines if set(line[1:]) - {"-", "0"}])


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    sizes = [*(("mnist", str(n)) for n in SIZES), ("fashion_mnist", "100"), ("cifar10", "100")]
    return {
        "transfer": objective_table(rows, "transfer/accuracy"),
        "margins": margin_table(rows),
        "students": objective_table(rows, "reconstruction/student_accuracy"),
        "auc": objective_table(rows, "reconstruction/auc"),
        "robustness": robust_table(rows),
        "sizes": kkt_table(rows, "size", sizes, "training images"),
        "factors": kkt_table(rows, "factor", [("mnist", name) for name in FACTORS], "change"),
    }


def main() -> None:
    run_experiment(__doc__, HERE, ("study", "data", "variant", "seed"), JOBS, one, tables)


if __name__ == "__main__":
    main()
