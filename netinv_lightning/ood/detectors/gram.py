"""Gram: correlations of the outputs of all layers.

Shape suffixes: n images, B batch, C channels, H height, W width, L positions, N classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import torch
from pytorch_ood import detector as pytorch_ood  # type: ignore[import-untyped]
from torch import Tensor, nn

from netinv_lightning.classifiers.features import FeatureSet, batches
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.penultimate import head_layer, is_convolution
from netinv_lightning.ood.detectors.fit_data import FitData
from netinv_lightning.ood.detectors.scorer import FittedScorer
from netinv_lightning.training.seeds import own_randomness

ORDERS = range(1, 6)
"""Powers of the outputs. The paper uses 1 to 10; the highest ones overflow single precision."""
BATCH = 25
"""Images per pass; the outputs of all layers are in memory at once."""


@dataclass(frozen=True)
class Gram(FittedScorer):
    """Deviation of the correlations of channels from their range in the predicted class.

    Sastry and Oore 2020 (arXiv 1912.12510), Gram of pytorch-ood, with the outputs of all
    convolutions and fully connected layers except the last. The library applies a chain of modules;
    here it gets the outputs that one pass of the classifier records, so that every network works.
    It is the only detector besides ODIN that runs the classifier again.

    Attributes:
        classifier: The classifier.
        gram: The fitted detector of the library.
    """

    classifier: FrozenClassifier
    gram: Any
    needs_features: ClassVar[bool] = True

    @classmethod
    def fit(cls, fit_data: FitData) -> Self:
        classifier = fit_data.classifier
        outputs: list[Tensor] = []  # of the current batch: logits, then layer by layer
        layers = len(_outputs(classifier, fit_data.training.images_nCHW[:1]))

        def run(images_BCHW: Tensor) -> Tensor:
            outputs[:] = _outputs(classifier, images_BCHW)
            return outputs[1]

        gram = pytorch_ood.Gram(
            lambda data: outputs[0],
            [run, *(partial(_number, outputs, number) for number in range(2, layers))],
            classifier.spec.num_classes,
            ORDERS,
        )
        images = batches(classifier, fit_data.training.images_nCHW, BATCH)
        with own_randomness(fit_data.seed, torch.device("cpu")):
            gram.to("cpu").fit([*zip(images, fit_data.labels_n.split(BATCH), strict=True)])
        gram.head, gram.feature_layers = None, []
        return cls(classifier, gram)

    def __call__(self, features: FeatureSet) -> Tensor:
        return torch.cat(list(self._scores(features.images_nCHW)))

    def _scores(self, images_nCHW: Tensor) -> Iterator[Tensor]:
        for x_BCHW in batches(self.classifier, images_nCHW, BATCH):
            logits_BN, *outputs = _outputs(self.classifier, x_BCHW)
            yield self.gram.predict_structured(logits_BN, outputs).double()


def _layers(classifier: FrozenClassifier) -> list[nn.Module]:
    """Return all convolutions and fully connected layers except the head, or it alone."""
    head = head_layer(classifier.network)
    layers = [
        module
        for module in classifier.network.modules()
        if (is_convolution(module) or isinstance(module, nn.Linear)) and module is not head
    ]
    return layers or [head] if head is not None else layers


@torch.no_grad()
def _outputs(classifier: FrozenClassifier, x_BCHW: Tensor) -> list[Tensor]:
    """Return the logits [B, N] and the output of each layer, [B, C, L], on the CPU."""
    recorded: list[Tensor] = []

    def record(module: nn.Module, inputs: object, output: Tensor) -> None:
        tokens = isinstance(module, nn.Linear) and output.dim() == 3
        output_BCL = output.transpose(1, 2) if tokens else output.unsqueeze(-1).flatten(2)
        recorded.append(output_BCL.float().cpu().clone())

    handles = [layer.register_forward_hook(record) for layer in _layers(classifier)]
    try:
        logits_BN = classifier(x_BCHW).float().cpu()
    finally:
        for handle in handles:
            handle.remove()
    return [logits_BN, *recorded]


def _number(outputs: list[Tensor], number: int, data: Tensor) -> Tensor:
    return outputs[number]
