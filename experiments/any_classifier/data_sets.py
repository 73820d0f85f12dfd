"""Write the small data sets of the recipes for signals, tables and medical images as .npz files.

    python -m experiments.any_classifier.data_sets FOLDER

`wine.npz`: 178 wines of three cultivars with 13 chemical measurements, from scikit-learn (Aeberhard
and Forina 1992). Every third row is for testing.

`cylinder_bell_funnel.npz`: random signals of 128 values in three classes: a plateau, a rising ramp
or a falling ramp, with noise. Height, start and length are random. The definition is that of Saito
(1994, "Local feature extraction and its applications using a library of bases", PhD thesis, Yale).

`boots_medmnist.npz`: sneakers and ankle boots of FashionMNIST in the layout of MedMNIST files such
as pneumoniamnist.npz (Yang et al. 2023, arXiv 2110.14795). No MedMNIST file was available.
NETINV_DATA is required.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine

from netinv_lightning.data.datasets import LOADERS

SIGNALS, LENGTH = 600, 128
SNEAKER, ANKLE_BOOT = 7, 9


def wine(path: Path) -> None:
    bunch = load_wine()
    test = np.arange(len(bunch.target)) % 3 == 0
    x, y = bunch.data.astype(np.float32), bunch.target
    np.savez(
        path,
        x_train=x[~test],
        y_train=y[~test],
        x_test=x[test],
        y_test=y[test],
        class_names=np.array(["cultivar 1", "cultivar 2", "cultivar 3"]),
    )


def signals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return signals [n, 1, L] and their classes [n]: cylinder 0, bell 1, funnel 2."""
    generator = np.random.default_rng(seed)
    time, label = np.arange(1, LENGTH + 1), np.arange(count) % 3
    start = generator.uniform(16, 32, (count, 1))
    length = generator.uniform(32, 96, (count, 1))
    height = 6 + generator.normal(size=(count, 1))
    along = (time - start) / length
    shape = np.choose(label[:, None], [np.ones_like(along), along, 1 - along])
    inside = (along >= 0) & (along <= 1)
    x = height * shape * inside + generator.normal(size=(count, LENGTH))
    return x[:, None].astype(np.float32), label


def cylinder_bell_funnel(path: Path) -> None:
    (x_train, y_train), (x_test, y_test) = signals(SIGNALS, 0), signals(SIGNALS, 1)
    names = np.array(["cylinder", "bell", "funnel"])
    np.savez(
        path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, class_names=names
    )


def boots_medmnist(path: Path) -> None:
    arrays = {"class_names": np.array(["sneaker", "ankle boot"])}
    root = Path(os.environ["NETINV_DATA"])
    for split, training in (("train", True), ("test", False)):
        images_nCHW, label_n = LOADERS["fashion_mnist"](root, training)
        chosen = (label_n == SNEAKER) | (label_n == ANKLE_BOOT)
        arrays[f"{split}_images"] = images_nCHW[chosen, 0].numpy()
        arrays[f"{split}_labels"] = (label_n[chosen] == ANKLE_BOOT).long().numpy()[:, None]
    for name in ("images", "labels"):
        whole = arrays[f"train_{name}"]
        arrays[f"train_{name}"], arrays[f"val_{name}"] = whole[:-1000], whole[-1000:]
    np.savez(path, **arrays)


FILES = {
    "wine.npz": wine,
    "cylinder_bell_funnel.npz": cylinder_bell_funnel,
    "boots_medmnist.npz": boots_medmnist,
}


def write(folder: Path) -> None:
    """Write those files that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in FILES.items():
        if not (folder / name).exists() and (
            make is not boots_medmnist or "NETINV_DATA" in os.environ
        ):
            make(folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    write(parser.parse_args().folder)


if __name__ == "__main__":
    main()
