"""Share of the solution set of a binarised network that a set of images covers.

Shape suffixes: n images, I input bits, C channels, H height, W width, S solutions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from netinv_lightning.classifiers.binarised import (
    BinarisedMLP,
    integer_layers,
    integer_logits,
    sign,
)
from netinv_lightning.classifiers.frozen import FrozenClassifier


def bits_of(classifier: FrozenClassifier, images_nCHW: Tensor) -> Tensor:
    """Return the bits that the network computes from images in [0, 1], +1 and -1, [n, I]."""
    normalised_nCHW = (images_nCHW - classifier.mean_C11) / classifier.std_C11
    return _network(classifier).bits(normalised_nCHW).long()


def predicted(classifier: FrozenClassifier, bits_nI: Tensor) -> Tensor:
    """Return the class of each input, [n]."""
    return integer_logits(integer_layers(_network(classifier)), bits_nI).argmax(dim=1)


def lead(classifier: FrozenClassifier, bits_nI: Tensor) -> Tensor:
    """Return by how much the largest integer logit exceeds the second largest, [n]."""
    logits_nN = integer_logits(integer_layers(_network(classifier)), bits_nI)
    first_n, second_n = logits_nN.topk(2, dim=1).values.unbind(dim=1)
    return first_n - second_n


def codes_of(classifier: FrozenClassifier, bits_nI: Tensor) -> Tensor:
    """Return the outputs of the last hidden layer, +1 and -1."""
    s_nI = bits_nI.double()
    for layer in integer_layers(_network(classifier))[:-1]:
        s_nI = sign(s_nI @ layer.weight_OI.double().T + layer.bias_O)
    return s_nI.long()


def every_input(inputs: int) -> Tensor:
    """Return all inputs, +1 and -1, [2^I, I]; row k has the binary digits of k."""
    digit_I = torch.arange(inputs)
    return 2 * (torch.arange(2**inputs)[:, None] >> digit_I & 1) - 1


def numbers_of(bits_nI: Tensor) -> Tensor:
    """Return the row of `every_input` that each input is, [n]."""
    return ((bits_nI > 0).long() << torch.arange(bits_nI.shape[1])).sum(dim=1)


def covered(number_n: Tensor, solution_S: Tensor) -> float:
    """Return the share of solutions that occur among images, both as numbers of inputs."""
    return float(torch.isin(solution_S, number_n).double().mean())


def distinct(rows_nI: Tensor) -> int:
    """Return the number of different rows."""
    return len(rows_nI.unique(dim=0))


def mean_distance(bits_nI: Tensor, most: int = 1000) -> float:
    """Return the mean Hamming distance of two different images among the first `most`."""
    bits_nI = bits_nI[:most].float()
    n, pixels = bits_nI.shape
    distance_nn = (pixels - bits_nI @ bits_nI.T) / 2
    return float(distance_nn.sum() / (n * (n - 1))) if n > 1 else 0.0


def nearest_distance(reference_nI: Tensor, bits_nI: Tensor) -> Tensor:
    """Return the Hamming distance of each reference to its nearest image, [n]."""
    pixels = reference_nI.shape[1]
    return (pixels - (reference_nI.float() @ bits_nI.float().T).max(dim=1).values) / 2


def _network(classifier: FrozenClassifier) -> BinarisedMLP:
    network = classifier.network
    assert isinstance(network, BinarisedMLP)
    return network
