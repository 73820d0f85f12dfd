"""The untrained student network of `application=distill`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from netinv_lightning.classifiers.architecture import build_network
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.downstream.feature_hint import FeatureHint
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.training.seeds import own_randomness


def build_student(network: dict[str, Any], spec: DataSpec, seed: int) -> nn.Module:
    """Return an untrained student, the same at every call.

    Args:
        network: Its architecture, as `application.student` describes it.
        spec: The data of the teacher.
        seed: Seed of the initial weights.

    Raises:
        InputError: if it cannot be built or does not fit the data.
    """
    try:
        with own_randomness(seed, torch.device("cpu")):
            student = build_network(network, spec)
        FrozenClassifier(student, spec, ())  # checks the shapes
    except InputError as error:
        reason = one_line(error).partition(": ")[2]
        raise InputError(f"application.student={network}: {reason}") from error
    return student.requires_grad_(True)


def check_hint(teacher: FrozenClassifier, student: nn.Module, weight: float) -> None:
    """Check that the penultimate features of both networks can be compared.

    Args:
        teacher: The classifier.
        student: The network of the student.
        weight: Weight of the comparison; 0 for none.

    Raises:
        InputError: if they cannot.
    """
    if not weight:
        return
    try:
        FeatureHint(teacher, Classifier(student, teacher.spec))
    except ValueError as error:
        raise InputError(
            f"application.features={weight}: {error}. Set application.features=0"
        ) from error
