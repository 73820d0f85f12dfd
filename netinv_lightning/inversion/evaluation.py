"""What a trained generator reaches on fresh samples, drawn in the sampling mode of the run.

Shape suffixes: B batch, N classes, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from netinv_lightning.classifiers.classifier import FrozenClassifier
from netinv_lightning.inversion.module import InversionModule, own_randomness
from netinv_lightning.metrics import names
from netinv_lightning.metrics.inversion import ClassCosine, InversionAccuracy


@torch.no_grad()
def evaluate(
    module: InversionModule, samples: int, batch_size: int, seed: int, verifiers: Sequence[FrozenClassifier] = ()
) -> dict[str, float]:
    """Measures inversion twice: conditioned from the training distribution, and by hot vectors.

    Args:
        module: The trained inversion.
        samples: Images for each of the two.
        batch_size: Images at a time.
        seed: Of the latents and conditions.
        verifiers: Classifiers that the run never saw; their mean agreement with the labels is the transfer accuracy,
            which tells adversarial noise (chance) from images that mean something.

    Returns:
        Metric name to number.
    """
    classifier, N = module.classifier.eval(), module.conditioning.num_classes
    metrics: dict[str, float] = {}
    for hot in (False, True):
        accuracy = InversionAccuracy(N).to(module.device)
        agreement = [InversionAccuracy(N).to(module.device) for _ in verifiers]
        cosine: ClassCosine | None = None
        with own_randomness(seed + 1, module.device):
            for first in range(0, samples, batch_size):
                condition = module.conditioning.sample(min(batch_size, samples - first), module.device, hot=hot or None)
                x_BCHW = module.draw(condition)
                logits_BN, features = classifier.logits_and_features(x_BCHW)
                accuracy.update(logits_BN, condition.label_B, condition.target_BN)
                for metric, verifier in zip(agreement, verifiers, strict=True):
                    metric.update(verifier.to(module.device)(x_BCHW), condition.label_B, condition.target_BN)
                f_BD = features[classifier.feature_layers[-1]]
                cosine = cosine or ClassCosine(N, f_BD.shape[1]).to(module.device)
                cosine.update(f_BD, condition.label_B)
        values = accuracy.compute()
        if hot:
            metrics[names.INVERSION_ACCURACY_HOT] = float(values["accuracy"])
            metrics[names.INVERSION_CONFIDENCE_HOT] = float(values["confidence"])
            continue
        metrics[names.INVERSION_ACCURACY] = float(values["accuracy"])
        metrics[names.INVERSION_CONFIDENCE] = float(values["confidence"])
        metrics[names.INVERSION_KL] = float(values["kl"])
        confusion_NN = values["confusion_NN"].double()
        per_class_N = confusion_NN.diagonal() / confusion_NN.sum(dim=1)
        metrics |= {
            names.class_accuracy(label): float(value) for label, value in zip(classifier.spec.class_names, per_class_N, strict=True)
        }
        assert cosine is not None
        similar = cosine.compute()
        metrics |= {names.INTRA_CLASS_COSINE: float(similar["intra"]), names.INTER_CLASS_COSINE: float(similar["inter"])}
        if verifiers:
            shares = [float(metric.compute()["accuracy"]) for metric in agreement]
            metrics[names.TRANSFER_ACCURACY] = sum(shares) / len(shares)
    return metrics
