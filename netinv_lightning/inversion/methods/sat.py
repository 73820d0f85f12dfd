"""`method=sat`: exact inversion of a binarised network by satisfiability (Suhail 2024).

    binarised network, class c, constraints -> formula (`cnf.py`) -> solver -> bits -> pixels 0, 1
                                                                  -> unsatisfiable: no such input

Source: Suhail, "Network Inversion of Binarised Neural Nets" (Tiny Papers at ICLR 2024, arXiv
2402.11995). The translation is exact, so each image has the requested class: the inversion accuracy
is 1, or it is proved that a class has no input. Nothing in the formula asks for images that
resemble data.

What differs from the paper: thresholds are trained integers, each auxiliary variable is determined
by the input, and there are optional constraints. Solutions that are common are drawn exactly
uniformly, by rejection: a million random inputs contain enough of them. Rare ones are drawn by
CMSGen (`pycmsgen`), a solver with random decisions, whose draws are measurably not uniform
(`experiments/sat_coverage`). UniGen3 (`pyunigen`) guarantees almost uniform samples, but has to
count the solutions first.

Shape suffixes: B batch, C channels, H height, W width, I input bits, n solutions.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.binarised import (
    BinarisedMLP,
    IntegerLayer,
    integer_layers,
    integer_logits,
)
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.rules import Count, Flag, Names
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import Cost, CostMeter
from netinv_lightning.inversion.methods.cnf import Cnf, NetworkCnf, keep_between, one_of_each
from netinv_lightning.inversion.methods.sat_models import (
    all_models,
    first_model,
    largest_margin,
    random_models,
)
from netinv_lightning.runs.notices import notice

PROPOSED, PROPOSALS = 20_000, 50
"""Random inputs in a block, and blocks, that are searched for solutions before CMSGen is used."""


class SatInversion:
    """Solves for images to which a binarised network assigns the requested classes.

    Only the labels of the conditions are used. Pixels are 0 or 1.

    Args:
        conditioning: Draws the conditions of each batch.
        classifier: The network to invert, a `BinarisedMLP`.
        search: `random` draws solutions uniformly, by rejection where they are common and by CMSGen
            where they are rare; `cmsgen` always uses CMSGen; `all` enumerates the solutions, up to
            `limit` per class. A batch then repeats one only after all others of its class.
        limit: Largest number of solutions per class for `search=all`.
        margin: The integer logit of the requested class exceeds every other by at least this
            number. For 0, the first of several classes with the largest logit is predicted.
        least_bright: Smallest number of pixels that are 1; null for any.
        most_bright: Largest number of pixels that are 1; null for any.
        certify: Prove the largest margin that an input of each class can have, and print it.

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
        search: Annotated[str, Names(("random", "cmsgen", "all"))] = "random",
        limit: Annotated[int, Count(1, 1_000_000)] = 1000,
        margin: Annotated[int, Count(0, 1_000_000)] = 0,
        least_bright: Annotated[int | None, Count(0, 1_000_000)] = None,
        most_bright: Annotated[int | None, Count(0, 1_000_000)] = None,
        certify: Annotated[bool, Flag()] = False,
    ) -> None:
        self.conditioning, self.classifier = conditioning, classifier
        self.search, self.limit, self.margin = search, limit, margin
        self.least_bright, self.most_bright, self.certify = least_bright, most_bright, certify
        self.images, self.seconds, self._solvable = 0, 0.0, False
        _binarised(classifier)
        if classifier.trained:  # else the weights follow before `fit`
            self._prove_solvable()

    @property
    def device(self) -> torch.device:
        return self.classifier.mean_C11.device

    @property
    def max_images(self) -> int | None:
        """Number of solutions that were enumerated; None if they are drawn at random."""
        if self.search != "all":
            return None
        return sum(len(bits_nI) for bits_nI in self.enumerated.values())

    @cached_property
    def layers(self) -> list[IntegerLayer]:
        """The integer form of the network."""
        return integer_layers(_binarised(self.classifier))

    @property
    def inputs(self) -> int:
        """Number of input bits I."""
        return self.layers[0].weight_OI.shape[1]

    @cached_property
    def network(self) -> NetworkCnf:
        """The formula of the network with all constraints, but without a class."""
        network = NetworkCnf(self.layers)
        pixels = range(1, self.inputs + 1)
        keep_between(network.hidden, pixels, lowest=self.least_bright, highest=self.most_bright)
        one_of_each(network.hidden, self.classifier.spec.groups)
        return network

    def formula(self, label: int) -> Cnf:
        """Return the formula whose models are the images of a class."""
        return self.network.of_class(label, self.margin)

    def fit(self, run: FitContext) -> None:
        """Move the classifier to the Trainer's device, and prove what is requested."""
        trainer = run.make_trainer(callbacks=[], loggers=[], enable_checkpointing=False)
        self.classifier.to(trainer.strategy.root_device)
        self._prove_solvable()
        if self.certify:
            self._certify()

    def load(self, directory: Path, channels_last: bool) -> None:
        """Restore nothing: images are solved for again when they are drawn."""

    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        """Draw solutions [B, C, H, W] for the labels of the conditions."""
        seed, meter = int(torch.randint(2**31, ())), CostMeter(self.classifier.forward_count)
        label_B = condition.label_B.cpu()
        bits_BI = torch.empty(len(label_B), self.inputs, dtype=torch.long)
        counts = {int(label): int((label_B == label).sum()) for label in label_B.unique()}
        accepted = self._accepted(counts, seed) if self.search == "random" else {}
        for label, count in counts.items():
            found_nI = accepted.get(label)
            bits_BI[label_B == label] = (
                self._solutions(label, count, seed) if found_nI is None else found_nI
            )
        self.images += len(label_B)
        self.seconds += meter.seconds
        pixels_BI = (bits_BI.float() + 1) / 2
        return pixels_BI.unflatten(1, self.classifier.spec.shape).to(self.device)

    def metrics(self) -> dict[str, float]:
        return {}

    def cost(self) -> Cost:
        """Return the cost of all solving so far; the classifier itself is never called."""
        return Cost(seconds=self.seconds, image_steps=self.images)

    @cached_property
    def enumerated(self) -> dict[int, Tensor]:
        """The solutions [n, I] of each class, up to `limit`."""
        found = {}
        for label in self.conditioning.chosen:
            formula = self.formula(label)
            found[label], complete = all_models(formula, self.inputs, self.limit)
            number = f"exactly {len(found[label]):,}" if complete else f"more than {self.limit:,}"
            notice(f"method=sat: class {label} has {number} inputs")
        return found

    def _prove_solvable(self) -> None:
        """Check that each requested class has an input.

        Raises:
            InputError: if one provably has none.
        """
        if self._solvable:
            return
        meter = CostMeter(self.classifier.forward_count)
        bits_nI = self._random_inputs(torch.Generator().manual_seed(0))
        logits_nN = integer_logits(self.layers, bits_nI)
        for label in self.conditioning.chosen:
            if bool(self.solves(bits_nI, label, logits_nN).any()):
                continue  # a random input is a solution; else the solver decides
            if first_model(self.formula(label), self.inputs) is None:
                raise InputError(
                    f"method.margin={self.margin}: the network provably assigns no input to class "
                    f"{label} (unsatisfiable) with this margin and these limits of bright pixels; "
                    "relax them, or leave the class out of application.classes"
                )
        self._solvable = True
        self.seconds += meter.seconds

    def _certify(self) -> None:
        """Print the largest margin of each requested class, which the solver proves."""
        meter = CostMeter(self.classifier.forward_count)
        for label in self.conditioning.chosen:
            best = largest_margin(self.network, label)
            assert best is not None, "a class without inputs was refused"
            notice(f"method=sat: class {label} has a margin of at most {best[0]} (proved)")
        self.seconds += meter.seconds

    def _solutions(self, label: int, count: int, seed: int) -> Tensor:
        """Return solutions [count, I] of a class."""
        if self.search != "all":
            return random_models(self.formula(label), self.inputs, count, seed)
        bits_nI, n = self.enumerated[label], len(self.enumerated[label])
        order_n = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        return bits_nI[order_n.repeat(-(-count // n))[:count]]

    def _accepted(self, counts: dict[int, int], seed: int) -> dict[int, Tensor]:
        """Return solutions [count, I] among random inputs, of each class that has enough there."""
        stream = torch.Generator().manual_seed(seed)
        found = {label: torch.empty(0, self.inputs, dtype=torch.long) for label in counts}
        for _ in range(PROPOSALS):
            missing = [label for label, count in counts.items() if len(found[label]) < count]
            if not missing:
                break
            bits_nI = self._random_inputs(stream)
            logits_nN = integer_logits(self.layers, bits_nI)
            for label in missing:
                accepted_nI = bits_nI[self.solves(bits_nI, label, logits_nN)]
                found[label] = torch.cat([found[label], accepted_nI])[: counts[label]]
        return {label: f_nI for label, f_nI in found.items() if len(f_nI) == counts[label]}

    def _random_inputs(self, stream: torch.Generator) -> Tensor:
        """Return a block of random inputs, +1 and -1, [n, I]."""
        return 2 * torch.randint(2, (PROPOSED, self.inputs), generator=stream) - 1

    def solves(self, bits_nI: Tensor, label: int, logits_nN: Tensor) -> Tensor:
        """Return whether inputs are images of a class that fulfil all constraints, [n].

        Args:
            bits_nI: +1 and -1.
            label: The class.
            logits_nN: The integer logits of the inputs.
        """
        others_nN = logits_nN.index_fill(1, torch.tensor([label]), torch.iinfo(torch.long).min // 2)
        lead_n = logits_nN[:, label] - others_nN.max(dim=1).values
        bright_n = (bits_nI > 0).sum(dim=1)
        fine_n = (logits_nN.argmax(dim=1) == label) & (lead_n >= self.margin)
        fine_n &= bright_n >= (self.least_bright or 0)
        if self.most_bright is not None:
            fine_n &= bright_n <= self.most_bright
        for group in self.classifier.spec.groups:
            fine_n &= (bits_nI[:, list(group)] > 0).sum(dim=1) == 1
        return fine_n


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
