"""Small data sets in files: a user's own images, and MNIST in its file layout."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

X = np.random.default_rng(0).integers(0, 256, (100, 3, 8, 8), dtype=np.uint8)
Y = np.arange(100) % 4


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    np.savez(tmp_path / "mine.npz", X=X, y=Y)
    return tmp_path / "mine.npz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(X[2 * label + i].transpose(1, 2, 0)).save(
                tmp_path / "photos" / name / f"{i}.png"
            )
    return tmp_path / "photos"


def pixels(n: int, side: int, channels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, channels, side, side), dtype=np.uint8)


def write_mnist(root: Path, n: dict[str, int], keep: int | None = None) -> None:
    root.mkdir(parents=True)
    for seed, (split, count) in enumerate(n.items()):
        images = struct.pack(">IIII", 2051, count, 28, 28) + pixels(count, 28, 1, seed).tobytes()
        (root / f"{split}-images-idx3-ubyte").write_bytes(images[:keep])
        (root / f"{split}-labels-idx1-ubyte").write_bytes(
            (struct.pack(">II", 2049, count) + bytes(range(count)))[:keep]
        )
