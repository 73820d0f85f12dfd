"""Training-like reconstruction and what it gives away (S2 section 5.3; A4-9 to A4-11, A6-10): `make reconstruction`.

`objective`: plain inversion, all nine terms and the natural prior, on the papers' CNN at half its width, a classifier a seed. `size`: MLPs
that learnt 100 to 1,000 images until nothing moved, under the stationarity attack (`method=kkt`). `factor`: one thing changed in how
the network that the attack meets is made or trained. `robust`: all nine terms with other perturbed pairs, or none (A3-9, A9-FW3). How jobs
are run: experiments/jobs.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev

from PIL import Image
from scipy.stats import t

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from half_width import PLAIN, VERIFIERS, plain  # noqa: E402
from jobs import ROOT, Row, netinv, run_missing  # noqa: E402
from page import markdown, pick, shown  # noqa: E402

RESULTS = HERE / "results.csv"
SEEDS = (0, 1, 2)
FURTHER = {"svhn_head": (3, 4)}
"""Seeds of `objective` where three left the interval of the margin open."""
OBJECTIVES = {
    "plain": ["loss=inversion", "conditioning.vectors=soft"],
    "plain, hot": ["loss=inversion"],
    "reconstruction": [],
    "natural": ["loss=natural"],
}
"""The papers' inversion, the same under hot vectors as a control, the papers' reconstruction, and ours without data."""
ROBUST = {
    "no perturbed pairs": ["~loss.kl_perturbed", "~loss.ce_perturbed"],
    "adversarial pairs": ["perturbation.direction=adversarial"],
}
"""What `reconstruction`, whose perturbations are random, is compared with: whether images that stay in their class are training-like."""
OF_ROBUST = ("mnist", "fashion_mnist")
STEPS = "application.steps=100"
SIZES = (100, 200, 500, 1000)
SMALL_CNN = [
    "classifier=cnn",
    "+classifier.network.stages=[[16],[32],[32]]",
    "~classifier.network.widths",
    "recipe.lr=0.02",
]  # with 0.1 some seeds learn nothing
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
"""What is changed of `+experiment=memorised_mlp`, which is vulnerable."""
SLOW = ("CNN", "CNN average pooling", "ViT")
"""Where a step of the attack takes many times that of an MLP, it makes fewer."""
KEPT = (
    "inversion/accuracy", "transfer/accuracy", "diversity/intra_class_cosine", "reconstruction/auc", "reconstruction/auc_low",
    "reconstruction/auc_high", "reconstruction/gap", "reconstruction/gap_low", "reconstruction/gap_high", "reconstruction/p_value",
    "reconstruction/good", "reconstruction/good_held_out", "reconstruction/student_accuracy", "cost/training_seconds",
)  # fmt: skip
JOBS = [
    *(("objective", data, variant, seed) for seed in SEEDS for data in PLAIN for variant in [*OBJECTIVES][:3]),
    *(("size", "mnist", str(n), seed) for seed in SEEDS for n in SIZES),
    *(("size", data, "100", seed) for seed in SEEDS for data in ("fashion_mnist", "cifar10")),
    *(("objective", data, "natural", seed) for seed in SEEDS for data in PLAIN),
    *(("objective", data, variant, seed) for data, seeds in FURTHER.items() for seed in seeds for variant in OBJECTIVES),
    *(("factor", "mnist", variant, seed) for seed in SEEDS for variant in FACTORS),
    *(("robust", data, variant, seed) for data in OF_ROBUST for seed in SEEDS for variant in ROBUST),
]


def memorised(data: str, n: int, variant: str, seed: int) -> Path:
    """A network that learnt n images by heart; trained where it is not there."""
    path = ROOT / "classifiers" / "reconstruction" / f"{data}_{n}_{variant.replace(' ', '_')}_{seed}.safetensors"
    if not path.with_suffix(".json").exists():
        where = [f"data={data}", f"data.subset_size={n}", f"data.split_seed={seed}", f"seed={seed}", f"application.save_as={path}"]
        netinv("+experiment=memorised_mlp", *where, *FACTORS[variant])
    return path


def one(study: str, data: str, variant: str, seed: int) -> list[Row]:
    if study in ("objective", "robust"):
        path, changed = plain(data, seed), (OBJECTIVES | ROBUST)[variant]
        attack = [f"application.verifiers={VERIFIERS[data]}", STEPS, "application.eval_samples=2000", *changed]
    else:
        n = int(variant) if study == "size" else 100
        path = memorised(data, n, "as it is" if study == "size" else variant, seed)
        attack = ["method=kkt", f"method.candidates={n * 3 // 2}", f"application.reconstructions={n * 3 // 2}"]
        attack += ["method.steps=300"] if variant in SLOW else []
    run_dir = netinv("application=reconstruct", f"data={data}", f"seed={seed}", "classifier=checkpoint", f"classifier.path={path}", *attack)
    if study == "size" and seed == SEEDS[0]:
        with Image.open(run_dir / "figures" / "best_pairs.png") as image:
            image.convert("RGB").save(HERE / f"{data}_{variant}_pairs.png", optimize=True)
    summary = json.loads((run_dir / "summary.json").read_text())
    return [
        {"study": study, "data": data, "variant": variant, "seed": seed, "number": name, "value": f"{summary[name]:.4f}"}
        for name in KEPT
        if name in summary
    ]


def of_objective(rows: list[Row], data: str, variant: str, number: str) -> list[float]:
    return pick(rows, number, study="objective", data=data, variant=variant)


def by_objective(rows: list[Row], number: str) -> str:
    """A number of each data set under each objective."""
    lines = [[data, *(shown(of_objective(rows, data, variant, number)) for variant in OBJECTIVES)] for data in PLAIN]
    return measured(["data", *OBJECTIVES], lines)


def margin(rows: list[Row], data: str, over: str) -> str:
    """How far reconstruction's transfer lies above another objective's, with the interval of a paired t test over the seeds (95 %)."""
    reached, others = (of_objective(rows, data, variant, "transfer/accuracy") for variant in ("reconstruction", over))
    seeds = len(SEEDS) + len(FURTHER.get(data, ()))
    if not len(reached) == len(others) == seeds:
        return "-"
    differences = [a - b for a, b in zip(reached, others, strict=True)]
    half = float(t.ppf(0.975, seeds - 1)) * stdev(differences) / seeds**0.5
    return f"{mean(differences):+.3f} ({mean(differences) - half:+.3f} to {mean(differences) + half:+.3f})"


def measured(columns: list[str], lines: list[list[str]]) -> str:
    """A table of the rows that have been measured."""
    return markdown(columns, [line for line in lines if set(line[1:]) - {"-", "0"}])


def tables(rows: list[Row]) -> str:
    """What the page shows."""
    parts = ["## Do other networks recognise reconstructions? Transfer accuracy\n"]
    parts.append(by_objective(rows, "transfer/accuracy"))
    parts.append("Reconstruction above the others, seeds paired:\n")
    lines = [[data, *(margin(rows, data, over) for over in OBJECTIVES if over != "reconstruction")] for data in PLAIN]
    parts.append(measured(["data", *(f"above {over}" for over in OBJECTIVES if over != "reconstruction")], lines))
    parts.append("## What a new network learns from 1,000 of them alone: accuracy on real test images\n")
    parts.append(by_objective(rows, "reconstruction/student_accuracy"))
    parts.append("## Are they nearer to training images? AUC of members against held-out images\n")
    parts.append(by_objective(rows, "reconstruction/auc"))
    parts.append("## Does robustness guide towards training images?\n")
    lines = []
    for data in OF_ROBUST:
        told = {"no perturbed pairs": "robust", "reconstruction": "objective", "adversarial pairs": "robust"}
        for variant, study in told.items():
            of_pairs = [
                pick(rows, number, study=study, data=data, variant=variant) for number in ("transfer/accuracy", "reconstruction/auc")
            ]
            name = "random pairs (the papers)" if variant == "reconstruction" else variant
            lines.append([f"{data}, {name}", *map(shown, of_pairs), str(len(of_pairs[0]))])
    parts.append(measured(["data, perturbed pairs", "transfer", "AUC", "seeds"], lines))
    numbers = ("auc", "gap", "p_value", "good", "good_held_out")
    for study, names, title in (
        ("size", tuple(map(str, SIZES)), "The size of the training set, under `method=kkt`"),
        ("factor", tuple(FACTORS), "How the network was made and trained: 100 images, `method=kkt`"),
    ):
        parts.append(f"## {title}\n")
        of_data = [("mnist", name) for name in names] + ([("fashion_mnist", "100"), ("cifar10", "100")] if study == "size" else [])
        lines = [
            [f"{data}, {name}", *map(shown, of_numbers), str(len(of_numbers[0]))]
            for data, name in of_data
            for of_numbers in [[pick(rows, f"reconstruction/{w}", study=study, data=data, variant=name) for w in numbers]]
        ]
        parts.append(measured(["images" if study == "size" else "changed", "AUC", "gap", "p", "good", "good, held out", "seeds"], lines))
    return "\n".join(parts)


if __name__ == "__main__":
    print(tables(run_missing(RESULTS, ("study", "data", "variant", "seed"), JOBS, one)))
