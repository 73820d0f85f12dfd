"""The keys `classifier.callable` and `classifier.command` of a black box: only its output is known.

Both keys name code that will be run. The command line may name any code. Code that is named in a
file from somebody else is refused unless the command line repeats it.

This module does not import torch.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from netinv_lightning.config.method_registry import METHODS
from netinv_lightning.errors import InputError

FUNCTION = re.compile(r"([^\W\d]\w*\.)*[^\W\d]\w*:[^\W\d]\w*(\.[^\W\d]\w*)*")
"""Such as `package.module:function`."""
OTHER_NETWORKS = ("zoo", "path", "network")
"""Keys of `classifier` that name a network, which a black box replaces."""
WITH_LAYERS = ("train_classifier", "reconstruct", "audit", "detect_ood", "approach")
"""Applications that need the layers or the exact gradients of their classifier."""
TERMS_OF_LAYERS = ("gradient", "stationarity", "batch_norm")
"""Terms of the objective that need the weights or the layers of the classifier."""


def names_black_box(classifier: Mapping[Any, Any] | DictConfig) -> bool:
    """Return whether a black box is chosen; `classifier=black_box` alone sets `callable` to ""."""
    return classifier.get("callable") is not None or classifier.get("command") is not None


def black_box_code(content: Any) -> Iterator[tuple[str, str]]:
    """Yield each key of a config that names the code of a black box, and a name for trust.

    Args:
        content: The config as plain containers.
    """
    classifier = content.get("classifier") if isinstance(content, Mapping) else None
    if not isinstance(classifier, Mapping):
        return
    if function := classifier.get("callable"):
        yield "classifier.callable", dotted(str(function))
    if command := classifier.get("command"):
        yield "classifier.command", command_name(command)


def dotted(function: str) -> str:
    """Return the name of `package.module:function` with dots only."""
    return function.replace(":", ".", 1)


def command_name(command: Any) -> str:
    """Return the unique name of a command in the list of trusted names."""
    return f"command {json.dumps(list(command) if OmegaConf.is_list(command) else command)}"


def command_refusal(where: str, command: Any) -> str:
    """Return the message about a command that only a file names."""
    return (
        f"{where}: classifier.command={command}: is a program that would be run. If you trust it, "
        "repeat classifier.command=[...] on the command line"
    )


def check_black_box_named(cfg: DictConfig) -> None:
    """Refuse `classifier=black_box` alone.

    Raises:
        InputError: naming the keys that are missing.
    """
    if cfg.classifier.callable == "" and cfg.classifier.command is None:
        raise InputError(
            "classifier=black_box: no black box is named; give a Python function, "
            "classifier.callable=package.module:function, or a program, "
            "classifier.command=[python,predict.py]"
        )


def check_black_box(cfg: DictConfig) -> None:
    """Refuse keys of a black box that are wrong or contradict others.

    Raises:
        InputError: naming the key.
    """
    classifier = cfg.classifier
    function, command = classifier.callable, classifier.command
    if not function and command is None:
        return
    if function and command is not None:
        raise InputError(
            f"classifier.callable={function}: classifier.command={list(command)} is a black box "
            "too. Set only one of them"
        )
    key = f"classifier.callable={function}" if function else f"classifier.command={list(command)}"
    if function and not FUNCTION.fullmatch(function):
        raise InputError(f"{key}: must be package.module:function")
    if not function:
        _check_program(list(command), key)
    for other in OTHER_NETWORKS:
        if classifier[other]:
            raise InputError(
                f"{key}: classifier.{other} names a network too. To use the black box, add "
                "classifier=black_box"
            )
    if classifier.train or cfg.application.name in WITH_LAYERS:
        wrong = (
            "classifier.train=true" if classifier.train else f"application={cfg.application.name}"
        )
        raise InputError(
            f"{wrong}: needs the layers of the classifier, which a black box does not provide. Set "
            "application=invert without classifier.train"
        )
    if list(classifier.feature_layers) != ["logits"]:
        raise InputError(
            f"classifier.feature_layers={list(classifier.feature_layers)}: a black box has no "
            "layers. Set classifier.feature_layers=[logits]"
        )
    check_terms_of_black_box(cfg.loss)
    if METHODS[cfg.method.name].access == "weights":
        raise InputError(
            f"method={cfg.method.name}: needs the weights of the classifier, which a black box "
            "does not provide. Set method=generator or method=gradient"
        )


def check_terms_of_black_box(loss: Mapping[Any, Any] | DictConfig) -> None:
    """Refuse terms of the objective that need the weights or the layers of a black box.

    Terms with the option `when` are not refused: they are left out for such networks.

    Raises:
        InputError: naming the term.
    """
    for term in TERMS_OF_LAYERS:
        if term in loss and "when" not in loss[term]:
            raise InputError(
                f"loss.{term}: needs the layers of the classifier, which a black box does not "
                f"provide. Leave it out: ~loss.{term}"
            )


def _check_program(command: list[Any], key: str) -> None:
    if not command or not all(isinstance(word, str) and "\0" not in word for word in command):
        raise InputError(f"{key}: must be a program and its arguments, as [python,predict.py]")
    if shutil.which(command[0]) is None:
        raise InputError(
            f"{key}: the program {command[0]} was not found. Give its path, or install it"
        )
