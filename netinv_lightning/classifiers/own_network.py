"""A network that is handed over in Python, as a frozen classifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from netinv_lightning.classifiers.assumptions import print_assumptions
from netinv_lightning.classifiers.black_box import frozen
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.inference import infer_facts
from netinv_lightning.classifiers.own_spec import own_shape, own_spec


@contextmanager
def restored(network: nn.Module) -> Iterator[None]:
    """Context after which the modules train and the weights have gradients as before."""
    trained = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    training = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(trained.get(name, True))  # a lazy layer's bias may be new


def own_classifier(
    network: nn.Module,
    given: Mapping[str, Any],
    *,
    bounds: Sequence[Sequence[float]],
    groups: Sequence[Sequence[int]],
    output: str | None,
    **reading: Any,
) -> FrozenClassifier:
    """Return the frozen classifier of a network; print what is inferred and assumed about it.

    Args:
        network: The network or the black box.
        given: `num_classes`, `shape`, `channels`, `image_size`, `mean` and `std`; None for those
            that are inferred.
        bounds: As for `netinv_lightning.invert`, like the next two.
        groups: Lists of features.
        output: Name or index of the logits.
        reading: The other arguments of `black_box.frozen`.

    Raises:
        InputError: if the network or a value is invalid.
    """
    facts = infer_facts(network.eval(), given, output)
    spec = own_spec(
        facts["num_classes"],
        own_shape(facts.get("shape"), facts.get("channels"), facts.get("image_size")),
        mean=facts.get("mean"),
        std=facts.get("std"),
        bounds=bounds,
        groups=groups,
    )
    classifier = frozen(network, spec, output=output, **reading)
    both = given["mean"] is not None and given["std"] is not None
    source = "the arguments mean and std" if both else "timm" if "mean" in facts else ""
    return print_assumptions(classifier, source, both)
