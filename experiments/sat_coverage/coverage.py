"""Share of the solution set of a binarised network that a set of images covers.

Shape suffixes: n images, I input bits, C channels, H height, W width.
"""

from __future__ import annotations

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
    network = classifier.network
    assert isinstance(network, BinarisedMLP)
    normalised_nCHW = (images_nCHW - classifier.mean_C11) / classifier.std_C11
    return network.bits(normalised_nCHW).long()


def predicted(classifier: FrozenClassifier, bits_nI: Tensor) -> Tensor:
    """Return the class of each input, [n]."""
    network = classifier.network
    assert isinstance(network, BinarisedMLP)
    return integer_logits(integer_layers(network), bits_nI).argmax(dim=1)


def codes_of(classifier: FrozenClassifier, bits_nI: Tensor) -> Tensor:
    """Return the outputs of the last hidden layer, +1 and -1."""
    network = classifier.network
    assert isinstance(network, BinarisedMLP)
    s_nI = bits_nI.double()
    for layer in integer_layers(network)[:-1]:
        s_nI = sign(s_nI @ layer.weight_OI.double().T + layer.bias_O)
    return s_nI.long()


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
