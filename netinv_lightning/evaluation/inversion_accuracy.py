"""Evaluation of an inversion on new samples: of trained generators, or of optimised pixels.

Shape suffixes: B batch, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.evaluation.transfer_metrics import of_classes, transfer_metrics
from netinv_lightning.inversion.base import Inversion
from netinv_lightning.inversion.conditioning import Condition
from netinv_lightning.metrics.accuracy import InversionAccuracy, SetAccuracy
from netinv_lightning.metrics.diversity import ClassCosine
from netinv_lightning.training.distributed import rank, world_size
from netinv_lightning.training.seeds import own_randomness, stream_seed


@torch.no_grad()
def evaluate(
    module: Inversion,
    samples: int,
    batch_size: int,
    seed: int,
    verifiers: Mapping[str, FrozenClassifier] | None = None,
) -> tuple[dict[str, float], Tensor]:
    """Evaluate with conditions of the training distribution, and with hot vectors.

    The samples are divided between generators, and the batches between processes. The random
    numbers of a batch depend only on its number, so the result does not depend on the number of
    processes.

    Args:
        module: The inversion.
        samples: Number of images of each evaluation, over all generators.
        batch_size: Images per batch.
        seed: Seed of latents and conditions.
        verifiers: Classifiers that the run did not use, by name. Their mean agreement with the
            labels is the transfer accuracy, which is near chance for adversarial noise.

    Returns:
        Metric name to number; and the confusion matrix with training conditions, [N, N], with
        conditioning labels in rows.
    """
    soft, hot = (
        _measure(module, samples, batch_size, seed, verifiers or {}, hot=hot)
        for hot in (None, True)
    )
    metrics = {
        names.INVERSION_ACCURACY: float(soft.accuracy["accuracy"]),
        names.INVERSION_CONFIDENCE: float(soft.accuracy["confidence"]),
        names.INVERSION_KL: float(soft.accuracy["kl"]),
        names.INVERSION_ACCURACY_HOT: float(hot.accuracy["accuracy"]),
        names.INVERSION_CONFIDENCE_HOT: float(hot.accuracy["confidence"]),
        names.INTRA_CLASS_COSINE: float(soft.cosine["intra"]),
        names.INTER_CLASS_COSINE: float(soft.cosine["inter"]),
    }
    if "label_accuracy" in soft.accuracy:
        metrics[names.INVERSION_LABEL_ACCURACY] = float(soft.accuracy["label_accuracy"])
    confusion_NN = soft.accuracy["confusion_NN"]
    class_names = module.classifier.spec.class_names
    metrics |= of_classes(names.INVERSION_ACCURACY, confusion_NN, class_names)
    if len(soft.of_generators) > 1:
        metrics |= {
            names.generator(names.INVERSION_ACCURACY, g): value
            for g, value in enumerate(soft.of_generators)
        }
    metrics |= transfer_metrics(soft.transfer, class_names)
    metrics |= transfer_metrics(hot.transfer, class_names, hot=True)
    return metrics, confusion_NN.cpu()


@dataclass
class Measured:
    """Metrics with one kind of conditioning."""

    accuracy: dict[str, Tensor]
    cosine: dict[str, Tensor]
    of_generators: list[float]
    transfer: dict[str, dict[str, Tensor]]


def _measure(
    module: Inversion,
    samples: int,
    batch_size: int,
    seed: int,
    verifiers: Mapping[str, FrozenClassifier],
    hot: bool | None,
) -> Measured:
    classifier = module.classifier.whole.eval()
    N, G = module.conditioning.num_classes, module.n_generators
    layer = classifier.feature_layers[-1]
    kind = SetAccuracy if classifier.multi_label else InversionAccuracy
    of_generators = [kind(N).to(module.device) for _ in range(G)]
    agreement = {name: kind(N).to(module.device) for name in verifiers}
    cosine = ClassCosine(N, classifier.feature_dims[layer]).to(module.device)
    for number, (g, size) in enumerate(batches(samples, batch_size, G)):
        if number % world_size() != rank():
            continue
        condition, x_BCHW = draw_batch(module, g, number, size, seed, hot)
        logits_BN, features = classifier.logits_and_features(x_BCHW)
        of_generators[g].update(logits_BN, condition.label_B, condition.target_BN)
        cosine.update(features[layer], condition.label_B)
        for name, verifier in verifiers.items():
            agreement[name].update(
                verifier.to(module.device)(x_BCHW), condition.label_B, condition.target_BN
            )
    values = [metric.compute() for metric in of_generators]  # sums over processes
    n_G = torch.stack([value["confusion_NN"].sum() for value in values]).double()
    whole: dict[str, Tensor] = {
        name: (torch.stack([value[name] for value in values]) * n_G).sum() / n_G.sum()
        for name in ("accuracy", "confidence", "kl", "label_accuracy")
        if name in values[0]
    }
    whole["confusion_NN"] = torch.stack([value["confusion_NN"] for value in values]).sum(dim=0)
    return Measured(
        whole,
        cosine.compute(),
        [float(v["accuracy"]) for v in values],
        {name: metric.compute() for name, metric in agreement.items()},
    )


def draw_batch(
    module: Inversion, g: int, number: int, size: int, seed: int, hot: bool | None = None
) -> tuple[Condition, Tensor]:
    """Draw conditions and images [B, C, H, W] of one batch.

    Args:
        module: The inversion.
        g: Index of the generator.
        number: Number of the batch, which determines its random numbers together with the seed.
        size: B.
        seed: Seed of the run.
        hot: Whether to condition on hot vectors; None for the setting of the run.
    """
    with own_randomness(stream_seed(seed, number), module.device):
        condition = module.conditioning.sample(size, module.device, hot=hot)
        return condition, module.draw(condition, g)


def batches(samples: int, batch_size: int, generators: int) -> Iterator[tuple[int, int]]:
    """Yield the generator and the size of each batch."""
    for g in range(generators):
        share = samples // generators + (g < samples % generators)
        for first in range(0, share, batch_size):
            yield g, min(batch_size, share - first)
