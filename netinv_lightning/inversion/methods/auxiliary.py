"""Methods that train on auxiliary images and the classifier's scores for them.

Shape suffixes: n auxiliary images, B batch, N classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import extract_logits
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.methods.trained import TrainedInversion
from netinv_lightning.inversion.objective import Objective

SCORED = 512
"""Number of auxiliary images that the classifier scores at once."""
CHECKED = 16
"""Images of a step that are classified, for the logged accuracy."""


class AuxiliaryInversion(TrainedInversion):
    """Trains networks on auxiliary images, which the classifier scores once before the training.

    Args:
        conditioning: Draws the conditions.
        classifier: The network to invert; only its scores are used.
        auxiliary: Returns the auxiliary images, uint8 [n, C, H, W].
        seed: Seed of the networks and of their batches.
        steps: Training steps.
        batch_size: Images per step.
        lr: Highest learning rate of Adam.
        log_every: Steps between two reports.

    Attributes:
        logits_nN: The classifier's logits for the auxiliary images.
    """

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        auxiliary: Callable[[], Tensor],
        *,
        seed: int,
        steps: int,
        batch_size: int,
        lr: float,
        log_every: int,
    ) -> None:
        super().__init__(
            conditioning, classifier, Objective({"ce": {"weight": 1.0}}),
            steps=steps, lr=lr, init_std=0.0, log_every=log_every,
        )  # fmt: skip
        self.columns = [names.LOSS_TOTAL, names.INVERSION_ACCURACY_TRAIN]
        self.auxiliary, self.batch_size, self.seed = auxiliary, batch_size, seed

    def prepare(self) -> None:
        """Query the classifier once with each auxiliary image."""
        self.images_nCHW = self.auxiliary().to(self.device)
        if not len(self.images_nCHW):
            raise InputError("method.auxiliary: contains no images")
        logits_nN = extract_logits(self.classifier, self.images_nCHW, SCORED)
        self.logits_nN = logits_nN.to(self.device)

    def auxiliary_images(self, index_B: Tensor) -> Tensor:
        """Return some of the auxiliary images, [B, C, H, W] in [0, 1]."""
        return to_unit_range(self.images_nCHW[index_B])

    def accuracy(self, made_BCHW: Tensor, label_B: Tensor) -> Tensor:
        """Return the share of the first `CHECKED` images that the classifier gives their label."""
        seen_BN = self.classifier(made_BCHW[:CHECKED].detach())
        return (seen_BN.argmax(dim=1) == label_B[:CHECKED]).float().mean()
