"""Repeat Figure 5 of the paper with numbers, and compare MLP with CNN: `make training-size`.

Suhail, Tang and Sethi 2024 (arXiv:2411.17777), section 5.3 and Figure 5.

Classifiers are trained on the papers' numbers of images. `application=reconstruct` inverts each
with three generators and all nine terms. Figure 5 shows seed 0.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from experiments.half_width import HALF_CNN, VERIFIERS
from experiments.jobs import ROOT, Row, netinv
from experiments.page import markdown, pick, run_experiment, shown
from experiments.run_files import number_rows, read_summary
from netinv_lightning.classifiers.checkpoints import read_card
from netinv_lightning.data.pixels import to_uint8, to_unit_range
from netinv_lightning.data.specs import SPECS
from netinv_lightning.evaluation.finished_run import inversion_config, load_inversion
from netinv_lightning.evaluation.real_data import open_real
from netinv_lightning.figures.images import GAP, draw_images
from netinv_lightning.privacy.real_images import real_images
from netinv_lightning.training.seeds import own_randomness

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
CLEAN = "svhn_head_clean"
ALL = {"mnist": 54_000, "fashion_mnist": 54_000, "svhn_head": 3_990, CLEAN: 189, "cifar10": 45_000}
"""All available training images, without the held-out tenth. Of the 378 single digits of SVHN,
half are held out."""
SIZES = {
    "mnist": (1000, 10_000, 54_000),
    "fashion_mnist": (1000, 10_000, 54_000),
    "svhn_head": (1000, 3_990),
    CLEAN: (189,),
    "cifar10": (1000, 5000, 10_000),
}
"""The papers' training-set sizes, as far as the data sets allow."""
FIGURE_5 = [data for data in SIZES if data != CLEAN]
NETWORKS = {"cnn": HALF_CNN, "mlp": ["classifier=mlp"]}
COMPARED = 1000
"""Largest training set of the MLP; memorisation should appear first with few images."""
BATCH, TRAINED = 128, 1000
"""Batch size and steps of every classifier: about 128 epochs of 1,000 images, 2 of 54,000."""
GENERATORS = 3
KEPT = (
    "inversion/accuracy", "transfer/accuracy", "diversity/intra_class_cosine", "reconstruction/auc",
    "reconstruction/auc_low",
    "reconstruction/auc_high", "reconstruction/gap", "reconstruction/p_value",
    "reconstruction/good", "reconstruction/good_held_out",
)  # fmt: skip
JOBS = [
    *((data, "cnn", n, seed) for seed in SEEDS for data, sizes in SIZES.items() for n in sizes),
    *(
        (data, "mlp", n, seed)
        for seed in SEEDS
        for data, sizes in SIZES.items()
        for n in sizes
        if n <= COMPARED
    ),
]


def trained(data: str, network: str, n: int, seed: int) -> Path:
    """Return a classifier trained on n images without augmentation; train it if its file is
    missing."""
    path = ROOT / "classifiers" / "training_size" / f"{data}_{network}_{n}_{seed}.safetensors"
    if not path.with_suffix(".json").exists():
        epochs = round(TRAINED / math.ceil(n / BATCH))
        subset = [f"data.subset_size={n}"] if n < ALL[data] else []
        held_out = ["data.val_fraction=0.5"] if data == CLEAN else []
        netinv(
            "application=train_classifier", *NETWORKS[network], f"data={data}",
            f"data.split_seed={seed}", f"seed={seed}",
            *subset, *held_out, f"data.batch_size={BATCH}", f"recipe.epochs={epochs}",
            f"+trainer.check_val_every_n_epoch={epochs}",
            f"application.save_as={path}",
        )  # fmt: skip
    return path


def one(data: str, network: str, n: int, seed: int) -> list[Row]:
    """Reconstruct from one classifier and return its rows; keep the images of the first seed for
    Figure 5."""
    path = trained(data, network, n, seed)
    verifiers = VERIFIERS["svhn_head" if data == CLEAN else data]
    run_dir = netinv(
        "application=reconstruct", f"data={data}", f"seed={seed}", "classifier=checkpoint",
        f"classifier.path={path}",
        f"n_generators={GENERATORS}", "application.steps=100", "application.eval_samples=2000",
        f"application.verifiers={verifiers}",
        "application.student=false",
    )  # fmt: skip
    if (network, seed) == ("cnn", SEEDS[0]) and data in FIGURE_5:
        Image.fromarray(strip(run_dir)).save(_strip(data, n), optimize=True)
    summary = read_summary(run_dir)
    card = read_card(path)
    assert card is not None
    numbers = {"classifier/test_accuracy": card["test_accuracy"]} | {
        name: summary[name] for name in KEPT if name in summary
    }
    return number_rows(numbers, data=data, network=network, n=n, seed=seed)


def strip(run_dir: Path) -> np.ndarray:
    """Return an image with one row per class: the training image closest (by correlation) to the
    class mean, one image per generator."""
    cfg = inversion_config(run_dir)
    module = load_inversion(cfg, run_dir)
    spec = module.classifier.spec
    data, missing = open_real(cfg.data, spec)
    assert data is not None, missing
    members = real_images(data, cfg.seed).members
    label_N = torch.arange(spec.num_classes)
    typical_NCHW = torch.stack(
        [_typical(members.images_nCHW[members.labels_n == label]) for label in label_N]
    )
    with own_randomness(cfg.seed, torch.device("cpu")), torch.no_grad():
        drawn = [module.draw(module.conditioning.of_labels(label_N), g) for g in range(GENERATORS)]
    columns_KNCHW = to_uint8(torch.stack([typical_NCHW, *drawn]))
    C, H, W = spec.channels, spec.image_size, spec.image_size
    rows = columns_KNCHW.permute(1, 3, 0, 4, 2).reshape(
        spec.num_classes * H, (1 + GENERATORS) * W, C
    )
    return rows.squeeze(2).numpy()


def _typical(x_nCHW: Tensor) -> Tensor:
    """Return the image that correlates most with the mean image."""
    flat_nD = x_nCHW.flatten(1)
    centred_nD = flat_nD - flat_nD.mean(dim=1, keepdim=True)
    mean_D = flat_nD.mean(dim=0)
    return x_nCHW[torch.cosine_similarity(centred_nD, (mean_D - mean_D.mean())[None]).argmax()]


def _strip(data: str, n: int) -> Path:
    return HERE / "strips" / f"{data}_{n}.png"


def draw_figure_5(path: Path) -> None:
    """Draw the strips side by side, one panel per data set (Figure 5)."""
    figure = Figure(figsize=(11, 10.5), layout="constrained")
    axes = figure.subplots(2, 2)
    for axis, data in zip(axes.flat, FIGURE_5, strict=True):
        sizes, spec = SIZES[data], SPECS[data]
        size = spec.image_size
        columns, names = [], ["training\nimages"]
        for n in sizes:
            pixels = to_unit_range(
                torch.from_numpy(np.array(Image.open(_strip(data, n)).convert("RGB"))).permute(
                    2, 0, 1
                )
            )
            of_strip = (
                pixels.unflatten(1, (-1, size)).unflatten(3, (-1, size)).permute(1, 3, 0, 2, 4)
            )  # [N, 4, 3, H, W]
            columns.append(of_strip if not columns else of_strip[:, 1:])
            names += ["", f"{n:,}", ""]
        draw_images(axis, torch.cat(columns, dim=1), spec.class_names, names)
        for group in range(len(sizes)):
            axis.axvline(
                (1 + GENERATORS * group) * (size + GAP) - 1 - GAP / 2, color="white", linewidth=5
            )
        axis.tick_params("y", labelsize=8)
        axis.tick_params("x", labelsize=8)
        axis.set_title(data, fontsize=10)
    figure.suptitle(
        "Reconstructions from classifiers with different numbers of training images, "
        "three generators each",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)


def tables(rows: list[Row]) -> dict[str, str]:
    """Return the tables of the page."""
    numbers = {
        "classifier/test_accuracy": "test accuracy", "inversion/accuracy": "inversion accuracy",
        "transfer/accuracy": "transfer",
        "reconstruction/auc": "AUC", "reconstruction/p_value": "p", "reconstruction/good": "good",
        "reconstruction/good_held_out": "good, held-out",
    }  # fmt: skip
    lines = []
    for data, sizes in SIZES.items():
        for n in sizes:
            for network in NETWORKS:
                values = [
                    pick(rows, number, data=data, network=network, n=str(n)) for number in numbers
                ]
                if values[0]:
                    lines.append(
                        [data, f"{n:,}", network, *map(shown, values), str(len(values[0]))]
                    )
    return {
        "sizes": markdown(["data", "training images", "network", *numbers.values(), "seeds"], lines)
    }


def main() -> None:
    (HERE / "strips").mkdir(exist_ok=True)
    run_experiment(__doc__, HERE, ("data", "network", "n", "seed"), JOBS, one, tables)
    if all(_strip(data, n).exists() for data in FIGURE_5 for n in SIZES[data]):
        draw_figure_5(HERE / "figure5.png")


if __name__ == "__main__":
    main()
