"""The methods of inversion: the class of each, and what it needs.

This module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass

_METHODS = "netinv_lightning.inversion.methods"

ACCESS = ("training_gradient", "weights", "gradients", "scores", "labels")
"""Access to the classifier, from the most to the least: the gradient of a training batch with
respect to its parameters, beside the parameters; its parameters and layers; gradients of its
outputs with respect to the input; scores of all classes; the predicted label only."""


@dataclass(frozen=True)
class Method:
    """What is known about a method before its module is imported.

    Attributes:
        target: Dotted name of its class. The keyword-only arguments of the constructor are the keys
            `method.KEY`.
        access: The access to the classifier that it needs, one of `ACCESS`. A method with `scores`
            or `labels` cannot reach more.
        least_access: The access with which it still works, if that is less; empty if it is not.
        data: Whether it needs auxiliary images, which `method.auxiliary` names.
        stored: Whether it trains networks that `checkpoints/method.ckpt` contains, without which
            it cannot draw.
        trains_generator: Whether it trains the generators of the config groups `generator` and
            `application`.
        second_order: Whether it needs second derivatives, which a compiled network does not have.
        all_classes: Whether it always draws images of all classes.
        size_key: The key that sets how many images it makes.
        extra: The extra of `pyproject.toml` that it needs; empty for none.
        modules: The modules of that extra that it imports.
    """

    target: str
    access: str = "gradients"
    least_access: str = ""
    data: bool = False
    stored: bool = False
    trains_generator: bool = False
    second_order: bool = False
    all_classes: bool = False
    size_key: str = "application.eval_samples"
    extra: str = ""
    modules: tuple[str, ...] = ()


METHODS: dict[str, Method] = {
    "generator": Method("netinv_lightning.inversion.module.InversionModule", trains_generator=True),
    "gradient": Method(f"{_METHODS}.gradient.PixelInversion"),
    "kkt": Method(
        f"{_METHODS}.kkt.KktInversion",
        access="weights",
        second_order=True,
        all_classes=True,
        size_key="method.candidates",
    ),
    "sat": Method(
        f"{_METHODS}.sat.SatInversion",
        access="weights",
        extra="methods",
        modules=("pysat", "pycmsgen"),
    ),
    "background": Method(
        f"{_METHODS}.background.BackgroundInversion", access="scores", data=True, stored=True
    ),
    "landscape": Method(f"{_METHODS}.landscape.LandscapeInversion", stored=True),
    "min": Method(
        f"{_METHODS}.min.ModelInversionNetworks", access="scores", data=True, stored=True
    ),
    "naturalinversion": Method(f"{_METHODS}.naturalinversion.NaturalInversion", access="weights"),
    "admm": Method(f"{_METHODS}.admm.AdmmInversion", access="weights"),
    "gradient_leakage": Method(
        f"{_METHODS}.gradient_leakage.GradientLeakage",
        access="training_gradient",
        second_order=True,
        size_key="method.images",
    ),
    "evolution": Method(
        f"{_METHODS}.evolution.EvolutionInversion",
        access="scores",
        least_access="labels",
        extra="methods",
        modules=("cma",),
    ),
    "nullspace": Method(f"{_METHODS}.nullspace.NullSpaceInversion"),
}
"""All methods, by the name that `method` selects."""


def methods_with(access: str) -> tuple[str, ...]:
    """Return the names of the methods that need this access to the classifier or less."""
    least = ACCESS.index(access)
    return tuple(
        name
        for name, method in METHODS.items()
        if ACCESS.index(method.least_access or method.access) >= least
    )
