"""Classifiers on disk: weights as safetensors, with a model card beside them.

A card `<name>.json` contains the network, its data, its recipe, its test accuracy and the sha256 of
the weights. Loading a file never executes code in it: files are safetensors, or are read with
torch.load(weights_only=True). TorchScript archives are programs, so they are not loaded. The names
in a file are matched with the weights in `netinv_lightning.classifiers.state_dicts`.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from netinv_lightning.classifiers.formats.recognise import is_torchscript
from netinv_lightning.classifiers.named_weights import require_weights
from netinv_lightning.classifiers.state_dicts import differences, match, state_dicts
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.data.tensor_files import read_tensors
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.runs.file_writing import replacing, write_json
from netinv_lightning.runs.outside_files import read_json


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_classifier(path: Path, network: nn.Module, card: dict[str, Any]) -> None:
    """Write `path` (.safetensors) and its card beside it, completed with the weights' sha256.

    Weights that share memory are written once per name, since safetensors refuses shared memory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {
        key: tensor.detach().cpu().contiguous()
        for key, tensor in _without_shared_memory(network.state_dict()).items()
    }
    with replacing(path) as partial:
        save_file(weights, partial)
    write_json(path.with_suffix(".json"), {**card, "sha256": sha256(path)})


def model_card(
    name: str,
    network: nn.Module,
    *,
    spec: DataSpec,
    description: Mapping[str, Any],
    training_images: int,
    test_images: int,
    test_accuracy: float,
    seed: int,
    recipe: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the model card of a trained classifier; `save_classifier` writes it.

    Args:
        name: Name of the classifier.
        network: The network.
        spec: Properties of its data.
        description: Its architecture, as `classifier.network` describes it, and how its output is
            read.
        training_images: Number of real training images.
        test_images: Number of real test images.
        test_accuracy: Accuracy on them, in [0, 1]; NaN without test images.
        seed: Seed of the training.
        recipe: How it was trained.
    """
    return {
        "name": name,
        "data": spec.as_dict(),
        **description,
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "training_images": training_images,
        "test_images": test_images,
        "test_accuracy": round(test_accuracy, 4),
        "seed": seed,
        "recipe": dict(recipe),
    }


def _without_shared_memory(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same tensors without shared memory."""
    seen: set[int] = set()
    apart = {}
    for key, tensor in state.items():
        address = tensor.untyped_storage().data_ptr()
        apart[key] = tensor.clone() if address in seen else tensor
        seen.add(address)
    return apart


def read_card(path: Path) -> dict[str, Any] | None:
    """Return the model card beside the weights at `path`; None if there is none.

    Raises:
        InputError: if the weights are missing, or differ from those that the card was written for.
    """
    require_weights(path)
    card_path = path.with_suffix(".json")
    if not card_path.is_file():
        return None
    try:
        card: dict[str, Any] = read_json(card_path)
        expected = str(card["sha256"])
    except (
        ValueError,
        KeyError,
        TypeError,
    ) as error:  # also JSONDecodeError and UnicodeDecodeError
        raise InputError(
            f"classifier.path={path}: its card {card_path.name} is damaged ({one_line(error)}); "
            "remove or replace it"
        ) from error
    if sha256(path) != expected:
        raise InputError(
            f"classifier.path={path}: the file is damaged or was replaced: its sha256 is "
            f"{sha256(path)[:12]}..., but its card contains {expected[:12]}...; download the file "
            f"again, or remove {card_path.name} if it belongs to other weights"
        )
    return card


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read the first state dict of a .safetensors file, or of a .pt, .pth or .ckpt without code.

    Raises:
        InputError: if the file is missing or truncated, contains no state dict, or would run code
            when unpickled.
    """
    return next(iter(read_state_dicts(path).values()))


def load_checkpoint(network: nn.Module, path: Path) -> str:
    """Load the weights of a file into `network`, all of them and no others.

    Returns:
        One line that names the nested key and the prefix that were removed; empty if there were
        none.

    Raises:
        InputError: as `load_weights`, or if no state dict of the file fits the network.
    """
    where = f"classifier.path={path}"
    weights, note = match(read_state_dicts(path), network, where)
    fill(network, weights, where)
    return note


def read_state_dicts(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read the state dicts of a file by their nested keys."""
    where = f"classifier.path={path}"
    require_weights(path)
    if path.suffix == ".safetensors":
        return {"": read_tensors(path, where)}
    if is_torchscript(path):
        raise InputError(
            f"{where}: is a TorchScript archive, which contains a program; programs from files are "
            "not run. Save its state_dict() and name the network, or export it with torch.export; "
            f"if you trust it, set classifier=torchscript classifier.path={path}"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # warnings about pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = one_line(error).split("WeightsUnpickler error:")[-1].strip()
        raise InputError(
            f"{where}: contains more than tensors and is not loaded, because unpickling could run "
            f"code ({reason.partition('. ')[0][:120]}); "
            "save its state_dict() with safetensors.torch.save_file"
        ) from error
    except Exception as error:  # damaged files raise many kinds of errors
        raise InputError(
            f"{where}: is not a complete checkpoint ({one_line(error)[:160]}); download it again"
        ) from error
    if not (found := state_dicts(content)):
        raise InputError(
            f"{where}: contains no state dict (names to tensors); save the network's state_dict()"
        )
    return found


def fill(network: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Load `weights` into `network`, all of them and no others.

    A name may be missing if its weight shares memory with one that exists (tied weights), or if it
    counts the batches of a BatchNorm.

    Raises:
        InputError: if names or shapes differ; the message counts and names the differences.
    """
    if parts := differences(network, weights):
        hint = (
            "; the file is one of several shards; merge them into one" if "-of-0" in where else ""
        )
        raise InputError(
            f"{where}: these weights do not fit the architecture {type(network).__name__}: "
            f"{'; '.join(parts)}; set classifier.network and classifier.num_classes to those that "
            f"the weights were trained with{hint}"
        )
    network.load_state_dict(weights, strict=False)


def broken_weight(network: nn.Module) -> str | None:
    """Return the name of the first weight that is not finite; None if all are."""
    state = network.state_dict().items()
    return next((name for name, weight in state if not weight.isfinite().all()), None)
