"""What an inversion reaches on fresh samples: of a trained generator in the sampling mode of the run, or optimised pixels.

Shape suffixes: B batch, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.base import Inversion
from netinv_lightning.inversion.conditioning import Condition
from netinv_lightning.metrics.inversion import ClassCosine, InversionAccuracy
from netinv_lightning.training.distributed import rank, world_size
from netinv_lightning.training.seeds import own_randomness, stream_seed


@torch.no_grad()
def evaluate(
    module: Inversion,
    samples: int,
    batch_size: int,
    seed: int,
    verifiers: Sequence[FrozenClassifier] = (),
) -> tuple[dict[str, float], Tensor]:
    """Measures inversion twice: conditioned from the training distribution, and by hot vectors.

    Several generators share the samples out, and several processes share the batches out; the draws of a batch depend on
    its number alone, so the result is the same over any number of processes.

    Args:
        module: The inversion.
        samples: Images for each of the two, over all generators.
        batch_size: Images at a time.
        seed: Of the latents and conditions.
        verifiers: Classifiers that the run never saw; their mean agreement with the labels is the transfer accuracy,
            which tells adversarial noise (chance) from images that mean something.

    Returns:
        Metric name to number; and the confusion matrix of the first, [N, N], conditioning labels in rows.
    """
    soft = _measure(module, samples, batch_size, seed, verifiers, hot=None)
    hot = _measure(module, samples, batch_size, seed, (), hot=True)
    metrics = {
        names.INVERSION_ACCURACY: float(soft.accuracy["accuracy"]),
        names.INVERSION_CONFIDENCE: float(soft.accuracy["confidence"]),
        names.INVERSION_KL: float(soft.accuracy["kl"]),
        names.INVERSION_ACCURACY_HOT: float(hot.accuracy["accuracy"]),
        names.INVERSION_CONFIDENCE_HOT: float(hot.accuracy["confidence"]),
        names.INTRA_CLASS_COSINE: float(soft.cosine["intra"]),
        names.INTER_CLASS_COSINE: float(soft.cosine["inter"]),
    }
    confusion_NN = soft.accuracy["confusion_NN"]
    hits_and_counts = zip(
        confusion_NN.diagonal().tolist(), confusion_NN.sum(dim=1).tolist(), strict=True
    )
    metrics |= {
        names.class_accuracy(label): hits / count
        for label, (hits, count) in zip(
            module.classifier.spec.class_names, hits_and_counts, strict=True
        )
        if count  # of few samples a class may have none
    }
    if len(soft.of_generators) > 1:
        metrics |= {
            names.generator(names.INVERSION_ACCURACY, g): value
            for g, value in enumerate(soft.of_generators)
        }
    if verifiers:
        metrics[names.TRANSFER_ACCURACY] = sum(soft.transfer) / len(soft.transfer)
    return metrics, confusion_NN.cpu()


@dataclass
class Measured:
    """What one kind of conditioning gave."""

    accuracy: dict[str, Tensor]
    cosine: dict[str, Tensor]
    of_generators: list[float]
    transfer: list[float]


def _measure(
    module: Inversion,
    samples: int,
    batch_size: int,
    seed: int,
    verifiers: Sequence[FrozenClassifier],
    hot: bool | None,
) -> Measured:
    classifier, N, G = (
        module.classifier.eval(),
        module.conditioning.num_classes,
        module.n_generators,
    )
    layer = classifier.feature_layers[-1]
    of_generators = [InversionAccuracy(N).to(module.device) for _ in range(G)]
    agreement = [InversionAccuracy(N).to(module.device) for _ in verifiers]
    cosine = ClassCosine(N, classifier.feature_dims[layer]).to(module.device)
    for number, (g, size) in enumerate(batches(samples, batch_size, G)):
        if number % world_size() != rank():
            continue
        condition, x_BCHW = draw_batch(module, g, number, size, seed, hot)
        logits_BN, features = classifier.logits_and_features(x_BCHW)
        of_generators[g].update(logits_BN, condition.label_B, condition.target_BN)
        cosine.update(features[layer], condition.label_B)
        for metric, verifier in zip(agreement, verifiers, strict=True):
            metric.update(
                verifier.to(module.device)(x_BCHW), condition.label_B, condition.target_BN
            )
    values = [metric.compute() for metric in of_generators]  # computing sums over processes first
    n_G = torch.stack([value["confusion_NN"].sum() for value in values]).double()
    whole = {
        name: (torch.stack([value[name] for value in values]) * n_G).sum() / n_G.sum()
        for name in ("accuracy", "confidence", "kl")
    }
    whole["confusion_NN"] = torch.stack([value["confusion_NN"] for value in values]).sum(dim=0)
    return Measured(
        whole,
        cosine.compute(),
        [float(v["accuracy"]) for v in values],
        [float(metric.compute()["accuracy"]) for metric in agreement],
    )


def draw_batch(
    module: Inversion, g: int, number: int, size: int, seed: int, hot: bool | None = None
) -> tuple[Condition, Tensor]:
    """Conditions and images [B, C, H, W] of one batch; its number and the seed alone decide them.

    Args:
        module: The inversion.
        g: Which generator draws.
        number: Of the batch.
        size: B.
        seed: Of the run.
        hot: Condition on hot vectors; None as the run was configured.
    """
    with own_randomness(stream_seed(seed, number), module.device):
        condition = module.conditioning.sample(size, module.device, hot=hot)
        return condition, module.draw(condition, g)


def batches(samples: int, batch_size: int, generators: int) -> Iterator[tuple[int, int]]:
    """Generator and size of each batch."""
    for g in range(generators):
        share = samples // generators + (g < samples % generators)
        for first in range(0, share, batch_size):
            yield g, min(batch_size, share - first)
