"""The four recipes that invert the zoo's classifiers, and seeds not used to choose settings."""

from __future__ import annotations

DATA_OF_RECIPE = {
    "mnist_invert": "MNIST",
    "fmnist_invert": "FashionMNIST",
    "svhn_invert": "SVHN (head)",
    "cifar_invert": "CIFAR-10",
}
UNUSED_SEEDS = (10, 11, 12)
NO_VIEWS = [f"augmentation.{key}=0" for key in ("shift", "rotation", "scale", "shear", "noise")]
"""Overrides without random views of the images."""
