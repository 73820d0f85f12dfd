"""Classifiers on disk: weights as safetensors, and beside them a card that says what they are.

A card `<name>.json` tells the network, its data, its recipe, its test accuracy and the sha256 of the weights. Files
from outside are never unpickled with code execution: safetensors, or torch.load(weights_only=True).
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from netinv_lightning.errors import InputError, one_line
from netinv_lightning.run_dir import write_atomically


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require(path: Path) -> None:
    if not path.is_file():
        raise InputError(
            f"classifier.path={path}: there is no such file; give the checkpoint's path, or take one of the zoo: classifier=zoo"
        )


def save_classifier(path: Path, network: nn.Module, card: dict[str, Any]) -> None:
    """Writes `path` (.safetensors) and its card beside it, completed with the weights' sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    save_file({key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}, temporary)
    os.replace(temporary, path)
    write_atomically(path.with_suffix(".json"), json.dumps({**card, "sha256": sha256(path)}, indent=2) + "\n")


def read_card(path: Path) -> dict[str, Any] | None:
    """The card beside the weights at `path`, or None where there is none.

    Raises:
        InputError: if there are no weights, or not those that the card was written for.
    """
    _require(path)
    card_path = path.with_suffix(".json")
    if not card_path.is_file():
        return None
    try:
        card: dict[str, Any] = json.loads(card_path.read_text())
        expected = str(card["sha256"])
    except (ValueError, KeyError, TypeError) as error:  # also JSONDecodeError and UnicodeDecodeError
        raise InputError(
            f"classifier.path={path}: its card {card_path.name} is damaged ({one_line(error)}); remove or replace it"
        ) from error
    if sha256(path) != expected:
        raise InputError(
            f"classifier.path={path}: the file is damaged or was replaced: its sha256 is {sha256(path)[:12]}..., "
            f"its card says {expected[:12]}...; get the file again, or remove {card_path.name} if it belongs to other weights"
        )
    return card


def load_weights(path: Path) -> dict[str, Tensor]:
    """Reads a state dict from .safetensors, or from a .pt, .pth or .ckpt that holds nothing but tensors.

    Raises:
        InputError: if the file is missing, truncated, or would run code when unpickled.
    """
    where = f"classifier.path={path}"
    _require(path)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{where}: is not a whole safetensors file ({one_line(error)}); get it again") from error
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols: the line below is all that is said
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = one_line(error).split("WeightsUnpickler error:")[-1].strip()
        raise InputError(
            f"{where}: holds more than tensors and is not loaded, since unpickling it could run code ({reason.partition('. ')[0][:120]}); "
            "save its state_dict() with safetensors.torch.save_file"
        ) from error
    except Exception as error:  # torch answers damaged bytes with whatever it trips over
        raise InputError(f"{where}: is not a whole checkpoint ({one_line(error)[:160]}); get it again") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        raise InputError(f"{where}: holds no state dict (names to tensors); save the network's state_dict()")
    return content


def fill(network: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Loads `weights` into `network`, all of them and no others.

    Raises:
        InputError: if names or shapes differ; the line counts and names what differs.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in weights]
    unexpected = [name for name in weights if name not in own]
    reshaped = [
        f"{name} is {tuple(weights[name].shape)} in the file, {tuple(own[name].shape)} in the network"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if missing or unexpected or reshaped:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:2])}{', ...' if len(names) > 2 else ''})"
            for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
            if names
        ]
        raise InputError(
            f"{where}: these weights belong to another architecture than {type(network).__name__}: {'; '.join(parts)}; "
            "set classifier.network and classifier.num_classes to what they were trained with"
        )
    network.load_state_dict(weights)
