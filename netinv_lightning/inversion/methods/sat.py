"""`method=sat`: exact inversion of a binarised network by satisfiability (Suhail 2024).

    binarised network, class c, constraints -> formula (`cnf.py`) -> solver -> bits -> pixels 0, 1
                                                                  -> unsatisfiable: no such input

Source: Suhail, "Network Inversion of Binarised Neural Nets" (Tiny Papers at ICLR 2024, arXiv
2402.11995). The translation is exact, so each image has the requested class: the inversion accuracy
is 1, or it is proved that a class has no input. Nothing in the formula asks for images that resemble
data.

What differs from the paper: the network has trained integer thresholds, each auxiliary variable is
determined by the input, and there are optional constraints. The sampler is CMSGen (`pycmsgen`)
instead of UniGen3 (`pyunigen`), which guarantees almost uniform samples but counts the models first;
see `experiments/sat_coverage` for both on the same formulas.

Shape suffixes: B batch, C channels, H height, W width, I input bits, n solutions.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.binarised import BinarisedMLP, integer_layers
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.ranges import Count, Names
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import Cost, CostMeter
from netinv_lightning.inversion.methods.cnf import Cnf, NetworkCnf, keep_between, one_of_each
from netinv_lightning.inversion.methods.sat_models import all_models, first_model, random_models

log = logging.getLogger(__name__)


class SatInversion:
    """Solves for images to which a binarised network assigns the requested classes.

    Only the labels of the conditions are used. Pixels are 0 or 1.

    Args:
        conditioning: Draws the conditions of each batch.
        classifier: The network to invert, a `BinarisedMLP`.
        search: `random` draws solutions at random, with repetition; `all` enumerates the solutions,
            up to `limit` per class. A batch then repeats one only after all others of its class.
        limit: Largest number of solutions per class for `search=all`.
        margin: The integer logit of the requested class exceeds every other by at least this number.
            For 0, the first of several classes with the largest logit is predicted.
        least_bright: Smallest number of pixels that are 1; null for any.
        most_bright: Largest number of pixels that are 1; null for any.

    Raises:
        InputError: if the network is not binarised, or a requested class provably has no input.
    """

    generators = nn.ModuleList()
    n_generators = 1

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        *,
        search: Annotated[str, Names(("random", "all"))] = "random",
        limit: Annotated[int, Count(1, 1_000_000)] = 1000,
        margin: Annotated[int, Count(0, 1_000_000)] = 0,
        least_bright: Annotated[int | None, Count(0, 1_000_000)] = None,
        most_bright: Annotated[int | None, Count(0, 1_000_000)] = None,
    ) -> None:
        self.conditioning, self.classifier = conditioning, classifier
        self.search, self.limit, self.margin = search, limit, margin
        self.network = NetworkCnf(integer_layers(_binarised(classifier)))
        pixels = range(1, self.network.inputs + 1)
        keep_between(self.network.hidden, pixels, lowest=least_bright, highest=most_bright)
        one_of_each(self.network.hidden, classifier.spec.groups)
        self.images, self.seconds = 0, 0.0
        for label in conditioning.chosen:
            if first_model(self.formula(label), self.network.inputs) is None:
                raise InputError(
                    f"method.margin={margin}: the network provably assigns no input to class "
                    f"{label} (unsatisfiable), with this margin and these limits of bright "
                    "pixels; relax them, or leave the class out of application.classes"
                )

    @property
    def device(self) -> torch.device:
        return self.classifier.mean_C11.device

    @property
    def max_images(self) -> int | None:
        """Number of solutions that were enumerated; None if they are drawn at random."""
        if self.search == "random":
            return None
        return sum(len(bits_nI) for bits_nI in self.enumerated.values())

    def formula(self, label: int) -> Cnf:
        """Return the formula whose models are the images of a class."""
        return self.network.of_class(label, self.margin)

    def fit(self, run: FitContext) -> None:
        """Move the classifier to the Trainer's device, and enumerate for `search=all`."""
        trainer = run.make_trainer(callbacks=[], loggers=[], enable_checkpointing=False)
        self.classifier.to(trainer.strategy.root_device)
        if self.search == "all":
            meter = CostMeter(self.classifier.forward_count)
            self.enumerated  # noqa: B018
            self.seconds += meter.seconds

    def load(self, directory: Path, channels_last: bool) -> None:
        """Restore nothing: images are solved for again when they are drawn."""

    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        """Draw solutions [B, C, H, W] for the labels of the conditions."""
        seed, meter = int(torch.randint(2**31, ())), CostMeter(self.classifier.forward_count)
        label_B = condition.label_B.cpu()
        bits_BI = torch.empty(len(label_B), self.network.inputs, dtype=torch.long)
        for label in label_B.unique().tolist():
            requested_B = label_B == label
            bits_BI[requested_B] = self._solutions(label, int(requested_B.sum()), seed)
        self.images += len(label_B)
        self.seconds += meter.seconds
        pixels_BI = (bits_BI.float() + 1) / 2
        return pixels_BI.unflatten(1, self.classifier.spec.shape).to(self.device)

    def cost(self) -> Cost:
        """Return the cost of all solving so far; the classifier itself is never called."""
        return Cost(seconds=self.seconds, image_steps=self.images)

    @cached_property
    def enumerated(self) -> dict[int, Tensor]:
        """The solutions [n, I] of each class, up to `limit`."""
        found = {}
        for label in self.conditioning.chosen:
            found[label], complete = all_models(
                self.formula(label), self.network.inputs, self.limit
            )
            number = f"exactly {len(found[label]):,}" if complete else f"more than {self.limit:,}"
            log.info("method=sat: class %d has %s inputs", label, number)
        return found

    def _solutions(self, label: int, count: int, seed: int) -> Tensor:
        """Return solutions [count, I] of a class."""
        if self.search == "random":
            return random_models(self.formula(label), self.network.inputs, count, seed)
        bits_nI, n = self.enumerated[label], len(self.enumerated[label])
        order_n = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        return bits_nI[order_n.repeat(-(-count // n))[:count]]


def _binarised(classifier: FrozenClassifier) -> BinarisedMLP:
    """Return the binarised network of a classifier.

    Raises:
        InputError: if it has another kind of network.
    """
    network, others = classifier.network, "method=generator and method=gradient do without"
    if not isinstance(network, BinarisedMLP) or classifier.multi_label:
        raise InputError(
            "method=sat: needs a binarised network (classifier=binarised, or a zoo network such as "
            f"digits_binarised), but this is {classifier.name}; {others}"
        )
    pixel_PC11 = torch.tensor([0.0, 1.0]).view(2, *[1] * len(classifier.spec.shape))
    mean_C11, std_C11 = classifier.mean_C11.cpu(), classifier.std_C11.cpu()
    below_PC11 = (pixel_PC11 - mean_C11) / std_C11 < network.threshold
    if not (bool(below_PC11[0].all()) and not bool(below_PC11[1].any())):
        raise InputError(
            f"method=sat: needs a bit for each pixel, but classifier.network.threshold="
            f"{network.threshold} is not between a pixel of 0 and a pixel of 1; {others}"
        )
    return network
