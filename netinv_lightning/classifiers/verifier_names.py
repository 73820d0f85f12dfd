"""Parse and check `application.verifiers` without importing torch.

An entry is the name of a classifier of the zoo, the path of a file with a model card (or one that
describes its own network), or a mapping with keys of `classifier` and an optional `name`:

    application.verifiers=[mnist_mlp,mine.safetensors]
    'application.verifiers=[{path: b.pt, network: {_target_: nets.B}, image_size: 64}]'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from netinv_lightning.classifiers.formats.recognise import format_of
from netinv_lightning.classifiers.named_weights import require_weights
from netinv_lightning.classifiers.zoo import zoo_names, zoo_path
from netinv_lightning.config.schema import ClassifierConfig
from netinv_lightning.errors import InputError, nearest

KEY, VERIFIER_OF = "application.verifiers", "application.verifier_of"
NOT_KEYS = ("train", "callable", "command", "query_directions", "query_sigma")
KEYS = ("name", *(key.name for key in fields(ClassifierConfig) if key.name not in NOT_KEYS))
PATH_ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt", ".tar", ".pt2", ".onnx", ".bin")


def entries(asked: Any, where: str = KEY) -> dict[str, dict[str, Any]]:
    """Return the keys of `classifier` for each verifier in a list, by the name of the verifier.

    Args:
        asked: The list.
        where: The config key of the list, for messages.

    Raises:
        InputError: if an entry is neither a name nor a path nor a mapping with known keys, or two
            have the same name.
    """
    plain: Any = OmegaConf.to_container(asked, resolve=True) if OmegaConf.is_list(asked) else asked
    found: dict[str, dict[str, Any]] = {}
    for entry in plain or ():
        name, keys = _entry(entry, where)
        if name in found:
            raise InputError(f"{where}={name}: is named twice; give each verifier its own name")
        found[name] = keys
    return found


def _entry(entry: Any, where: str) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, Mapping):
        for key in entry:
            if key not in KEYS:
                raise InputError(f"{where}: {key} is not a key of a verifier; {nearest(key, KEYS)}")
        keys = {str(key): value for key, value in entry.items() if key != "name"}
        if not (keys.get("zoo") or keys.get("path") or keys.get("network")):
            raise InputError(f"{where}={dict(entry)}: must have zoo, path or network")
        target = str((keys.get("network") or {}).get("_target_", "network")).rpartition(".")[2]
        name = entry.get("name") or keys.get("zoo") or Path(keys.get("path") or target).stem
        return str(name).replace("/", "_"), keys
    if not isinstance(entry, str):
        raise InputError(
            f"{where}={entry}: must be the name of a classifier in the zoo, the path of a "
            "classifier, or a mapping with keys of classifier"
        )
    if entry in zoo_names():
        return entry, {"zoo": entry}
    if "/" in entry or entry.endswith(PATH_ENDINGS) or Path(entry).exists():
        return Path(entry).stem, {"path": entry}
    raise InputError(
        f"{where}={entry}: is not in the zoo; "
        f"{nearest(entry, zoo_names(), 'Or give the path of a classifier')}"
    )


def check_verifiers(cfg: DictConfig, compare: bool) -> None:
    """Check that the verifiers of a config exist and are not the classifier itself.

    Args:
        cfg: The config.
        compare: Whether `cfg.classifier` is the classifier that is inverted.

    Raises:
        InputError: naming the entry.
    """
    inverted = cfg.classifier
    for name, keys in entries(cfg.application.get("verifiers")).items():
        where, path = f"{KEY}={name}", keys.get("path")
        _check_files(keys, where, KEY)
        same = path is not None and inverted.path is not None and _same(path, inverted.path)
        if compare and (same or (keys.get("zoo") or "") == inverted.zoo):
            raise InputError(f"{where}: is the classifier that is inverted. Name other classifiers")


def check_verifier_of(cfg: DictConfig) -> None:
    """Check that the classifier that a verifier is trained for exists.

    Raises:
        InputError: naming the key.
    """
    if (named := cfg.application.verifier_of) is not None:
        for keys in entries([named], VERIFIER_OF).values():
            _check_files(keys, f"{VERIFIER_OF}={named}", VERIFIER_OF)


def _check_files(keys: Mapping[str, Any], where: str, key: str) -> None:
    path = keys.get("path")
    if keys.get("zoo") is not None:
        zoo_path(keys["zoo"], key)
    if path is None:
        return
    require_weights(Path(path), where)
    described = keys.get("network") or format_of(Path(path))
    if not described and not Path(path).with_suffix(".json").is_file():
        remedy = (
            f"Name its network: '{KEY}=[{{path: {path}, network: {{_target_: ...}}}}]'"
            if key == KEY
            else "Give a classifier with a model card, such as one that "
            "application=train_classifier saved, or a file that contains its network (.pt2, .onnx)"
        )
        raise InputError(
            f"{where}: has no model card ({Path(path).with_suffix('.json').name}). {remedy}"
        )


def _same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()
