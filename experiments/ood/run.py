"""Out-of-distribution detection on the papers' four pairs and more (S2 section 5.2; A5, A6-9): `make ood`.

Plain classifiers are trained first, the papers' CNN at half its width, three seeds each; they stay in `classifiers/` below the checkout.
`contest` is every detector and every garbage class; `near` has classes or sets that resemble the data; `shifts` is the perturbation
study; the others change one key of the garbage class. How jobs are run: experiments/jobs.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from jobs import ROOT, Row, netinv, run_missing  # noqa: E402

RESULTS = HERE / "results.csv"
SEEDS = (0, 1, 2)
STAGES = "+classifier.network.stages=[[16],[32,32],[64,64]]"
PLAIN = {
    "mnist": ["recipe.epochs=2", "data.shift=2", "data.batch_size=128"],
    "fashion_mnist": ["recipe.epochs=3", "data.shift=1", "data.flip=true", "data.batch_size=128"],
    "svhn_head": ["recipe.epochs=25", "data.shift=3", "data.batch_size=64"],
    "cifar10": ["recipe.epochs=8", "data.shift=4", "data.flip=true", "data.batch_size=128"],
}
"""How the plain classifier of each data set is trained; the garbage classes have the same batches and augmentation."""
NOISE = ["gaussian_noise", "uniform_noise"]
OUTSIDE = {
    "mnist": ["fashion_mnist", "svhn_head", "cifar10", "emnist_letters", *NOISE],
    "fashion_mnist": ["mnist", "svhn_head", "cifar10", "emnist_letters", *NOISE],
    "svhn_head": ["cifar10", "mnist", "fashion_mnist", *NOISE],
    "cifar10": ["svhn_head", "mnist", "fashion_mnist", *NOISE],
}
"""The papers' pair first."""
EXPOSED = "garbage.exposed.exposed=[cifar100_subset]"
FEW = "application.detectors=[msp,energy,odin]"
GARBAGE = ["garbage=[paper,inverted,noise,noise_zoomed,exposed]", EXPOSED, "garbage.paper.epochs=5", "garbage.paper.images=10000"]
EVERY = [
    "msp",
    "max_logit",
    "energy",
    "gen",
    "uncertainty",
    "lc",
    "odin",
    "mahalanobis",
    "knn",
    "vim",
    "oodl",
    "gmm",
    "cluster",
    "autoencoder",
]
VARIANTS: dict[str, list[str]] = {
    "contest": [*GARBAGE, f"application.detectors=[{','.join(EVERY)}]"],
    "fresh generator": ["garbage=inverted", FEW, "garbage.inverted.generator=fresh"],
    "garbage inverted too": ["garbage=inverted", FEW, "garbage.inverted.invert_garbage=true"],
    "20 a class": ["garbage=inverted", FEW, "garbage.inverted.per_class=20"],
    "300 a class": ["garbage=inverted", FEW, "garbage.inverted.per_class=300"],
    "papers' objective": ["garbage=inverted", FEW, "garbage.inverted.inversion=[]"],
    "shifts": ["application.strengths=[0.01,0.03,0.1,0.3]", "application.detectors=[msp,energy,mahalanobis,knn]"],
}  # fmt: skip
NEAR = {
    "mnist": ["data.classes=[0,1,2,3,4]", "application.outliers=[left_out,emnist_letters]"],
    "cifar10": ["application.outliers=[cifar100_subset]"],
}
ABLATED = ("mnist", "fashion_mnist")
JOBS = [
    *((data, "contest", seed) for seed in SEEDS for data in PLAIN),
    *((data, "near", seed) for seed in SEEDS for data in NEAR),
    *((data, "shifts", seed) for seed in SEEDS for data in ("mnist", "cifar10")),
    *((data, variant, seed) for seed in SEEDS for variant in [*VARIANTS][1:-1] for data in ABLATED),
]


def plain(data: str, seed: int, *classes: str) -> Path:
    """The plain classifier of a data set and seed; trained where it is not there."""
    path = ROOT / "classifiers" / "ood" / f"{data}{'_some' if classes else ''}_{seed}.safetensors"
    if not path.with_suffix(".json").exists():
        where = [f"data={data}", f"seed={seed}", f"application.save_as={path}", *classes]
        netinv("application=train_classifier", "classifier=cnn", STAGES, *where, *PLAIN[data])
    return path


def one(data: str, variant: str, seed: int) -> list[Row]:
    if variant == "near":
        keys = ["garbage=[inverted,noise]", *NEAR[data]]
        path = plain(data, seed, *(key for key in keys if key.startswith("data.classes")))
    else:
        keys, path = [f"application.outliers=[{','.join(OUTSIDE[data])}]", *VARIANTS[variant]], plain(data, seed)
    run_dir = netinv(
        "application=detect_ood", f"data={data}", f"seed={seed}", "classifier=checkpoint", f"classifier.path={path}",
        "application.samples=2000", *(key for key in PLAIN[data] if key.startswith("data.")), *keys,
    )  # fmt: skip
    if seed == SEEDS[0] and variant in ("contest", "shifts"):
        for figure in ("detection", "roc", "confidence") if variant == "contest" else ("shifts",):
            with Image.open(run_dir / "figures" / f"{figure}.png") as image:
                image.convert("RGB").reduce(2).save(HERE / f"{data}_{figure}.png", optimize=True)
    summary = json.loads((run_dir / "summary.json").read_text())
    return [
        {"data": data, "variant": variant, "seed": seed, "number": name, "value": f"{value:.4f}"}
        for name, value in summary.items()
        if name.startswith("ood/")
    ]


if __name__ == "__main__":
    run_missing(RESULTS, ("data", "variant", "seed"), JOBS, one)
