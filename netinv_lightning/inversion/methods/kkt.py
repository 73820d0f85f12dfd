"""`method=kkt`: training images from the weights alone (Haim et al. 2022, Buzaglo et al. 2023).

    pixels in [0, 1], multipliers lambda > 0 -> sum_i lambda_i d margin_i / d theta
        -> distance to theta -> pixels, multipliers

Candidates, equally many of each class, are optimised together until their gradients add up to the
weights. `netinv_lightning/inversion/stationarity.py` explains why training images do this. Drawing
then selects candidates by their labels. The attack works where there are more equations (weights)
than unknowns (pixels of all candidates): wide fully connected networks that were trained on few
images.

Shape suffixes: B batch, M candidates, C channels, H height, W width, V values of a step.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.rules import NOT_NEGATIVE, POSITIVE, STEPS, AtLeast, Count
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.base import FitContext
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.methods.descent import Descent, DescentInversion
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.stationarity import (
    best_scale,
    check_twice_differentiable,
    margin_gradients,
    stationarity,
)
from netinv_lightning.training.gradient_steps import decayed_weights
from netinv_lightning.training.snapshots import Snapshots

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconstruction:
    """Candidates whose gradients add up to the weights.

    Attributes:
        images_MCHW: In [0, 1].
        label_M: Their classes, 0 to N - 1 in turn.
        multiplier_M: lambda, above 0: the share of each in the weights.
    """

    images_MCHW: Tensor
    label_M: Tensor
    multiplier_M: Tensor


class KktInversion(DescentInversion):
    """Optimises candidates and multipliers until the gradients add up to the classifier's weights.

    All candidates are optimised together when the first images are drawn. Only the labels of the
    conditions are used.

    Args:
        conditioning: Draws the conditions of each batch.
        classifier: The network to attack; it is never changed. Its weights are read at the first
            draw.
        seed: Seed of the first images.
        log_every: Steps between two reports.
        micro_batch: Candidates that the classifier processes at once; None for all.
        candidates: Number of candidates M; one to two per training image work best.
        steps: Steps of Adam.
        lr: Highest learning rate of the pixels; it falls along a cosine. Pixels are clamped to [0,
            1].
        multiplier_lr: Highest learning rate of the logarithms of the multipliers.
        sharpness: Sharpness of the gates' smooth derivative at the start (`SmoothGates`), in units
            of one over a pre-activation.
        final_sharpness: The sharpness at the end, where the derivative should be close to the true
            step. It grows geometrically.
        init_std: Standard deviation of the first pixels about the mean training pixel.

    Raises:
        InputError: if the network is multi-label, or has no second derivative.
        ValueError: if a value is out of range. The message starts with `<argument>=<value>:`.
    """

    final_lr = 0.02
    eps = 1e-12
    # Images of a class have similar gradients; they separate only with much momentum.
    betas = (0.98, 0.99)

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        seed: int = 0,
        log_every: int = 10,
        micro_batch: int | None = None,
        *,
        candidates: Annotated[int, Count(1, 1_000_000)] = 1000,
        steps: Annotated[int, STEPS] = 1000,
        lr: Annotated[float, POSITIVE] = 0.1,
        multiplier_lr: Annotated[float, POSITIVE] = 0.1,
        sharpness: Annotated[float, POSITIVE] = 10.0,
        final_sharpness: Annotated[float, POSITIVE, AtLeast("sharpness")] = 300.0,
        init_std: Annotated[float, NOT_NEGATIVE] = 0.1,
    ) -> None:
        if classifier.multi_label:
            raise InputError(
                "method=kkt: needs one label per image, but this network is multi-label; choose "
                "method=generator"
            )
        check_twice_differentiable(classifier, "method=kkt")
        # This objective only provides the names for logging; the loss itself has multipliers.
        objective = Objective({"stationarity": {"weight": 1.0}})
        super().__init__(
            conditioning, classifier, objective,
            steps=steps, lr=lr, init_std=init_std, log_every=log_every,
        )  # fmt: skip
        if candidates < (N := classifier.spec.num_classes):
            raise ValueError(f"candidates={candidates}: must be {N} or more, one per class")
        if not 0 < multiplier_lr < math.inf:
            raise ValueError(f"multiplier_lr={multiplier_lr}: must be above 0")
        if not 0 < sharpness < math.inf:
            raise ValueError(f"sharpness={sharpness}: must be above 0")
        if not sharpness <= final_sharpness < math.inf:
            raise ValueError(
                f"final_sharpness={final_sharpness}: must be method.sharpness={sharpness} or more"
            )
        if classifier.batch_norms:
            log.warning(
                "method=kkt: the network has BatchNorm, for which the theory does not hold; its "
                "running statistics are used. To train a network without BatchNorm, set "
                "+classifier.network.batch_norm=false"
            )
        self.candidates, self.multiplier_lr, self.seed = candidates, multiplier_lr, seed
        self.micro_batch = micro_batch
        self.sharpness, self.final_sharpness = sharpness, final_sharpness
        self.max_images = candidates
        self.snapshots = Snapshots()  # writes nothing until `fit` names a file
        self._reconstruction: Reconstruction | None = None

    def fit(self, run: FitContext) -> None:
        super().fit(run)
        self.snapshots = Snapshots(
            run.run_dir.checkpoints / "candidates.ckpt", run.run_dir.resuming, run.checkpoint_every
        )

    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        """Draw candidates [B, C, H, W] with the labels of the conditions.

        Within a batch a candidate is repeated only after all candidates of its class were drawn.
        """
        source = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        reconstruction = self.reconstruct()
        label_B, label_M = condition.label_B.cpu(), reconstruction.label_M.cpu()
        index_B = torch.empty_like(label_B)
        for label in label_B.unique():
            requested = (label_B == label).nonzero().flatten()
            of_class = (label_M == label).nonzero().flatten()
            order = of_class[torch.randperm(len(of_class), generator=source)]
            index_B[requested] = order.repeat(-(-len(requested) // len(order)))[: len(requested)]
        return reconstruction.images_MCHW[index_B.to(self.device)]

    def reconstruct(self) -> Reconstruction:
        """Return all candidates; they are optimised once."""
        if self._reconstruction is None:
            self._reconstruction = self._optimise()
        return self._reconstruction

    @torch.enable_grad()
    def _optimise(self) -> Reconstruction:
        classifier, M, K = self.classifier, self.candidates, self.steps
        meter, weights = CostMeter(classifier.forward_count), decayed_weights(classifier)
        label_M = torch.arange(M, device=self.device) % classifier.spec.num_classes
        x_MCHW = self._near_mean(M, self.seed).requires_grad_()
        log_M = self._first_log_multipliers(x_MCHW, label_M)

        def score(step: int) -> tuple[Tensor, Tensor]:
            growth = (self.final_sharpness / self.sharpness) ** ((step - 1) / K)
            gradients, logits_MN = margin_gradients(
                classifier,
                x_MCHW,
                label_M,
                log_M.exp(),
                sharpness=self.sharpness * growth,
                micro_batch=self.micro_batch,
            )
            loss = stationarity(weights, gradients)
            accuracy = (logits_MN.argmax(dim=1) == label_M).float().mean()
            return loss, torch.stack([loss, loss, accuracy])

        descent = self._start_batch(
            [{"params": [x_MCHW], "lr": self.lr}, {"params": [log_M], "lr": self.multiplier_lr}],
            meter,
        )
        state = _CandidateState(descent, x_MCHW, log_M)
        with self.snapshots.kept(K, candidates=state, optimizer=descent.optimizer) as (first, done):
            descent.run(
                score,
                report=lambda step, recent_KV: self._report(step, recent_KV, M),
                project=lambda: x_MCHW.clamp_(0, 1),
                first=first,
                done=done,
            )
        self._add_cost(M, meter)
        return Reconstruction(x_MCHW.detach(), label_M, log_M.detach().exp())

    @torch.no_grad()
    def _first_log_multipliers(self, x_MCHW: Tensor, label_M: Tensor) -> Tensor:
        """Return the logarithms [M] of equal multipliers that fit the weights best."""
        ones_M = torch.ones(len(label_M), device=self.device)
        gradients, _ = margin_gradients(
            self.classifier, x_MCHW, label_M, ones_M, micro_batch=self.micro_batch
        )
        scale = best_scale(decayed_weights(self.classifier), gradients).clamp_min(1e-6)
        return scale.log().expand(len(label_M)).clone().requires_grad_()


class _CandidateState:
    """The state of the candidates in a checkpoint, beside the optimiser's.

    Args:
        descent: The optimisation, whose recent values and cost are stored.
        x_MCHW: Pixels.
        log_M: Logarithms of the multipliers.
    """

    def __init__(self, descent: Descent, x_MCHW: Tensor, log_M: Tensor) -> None:
        self.descent, self.x_MCHW, self.log_M = descent, x_MCHW, log_M

    def state_dict(self) -> dict[str, Any]:
        return {
            "pixels": self.x_MCHW.detach(),
            "log_multipliers": self.log_M.detach(),
            **self.descent.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.x_MCHW.copy_(state_dict["pixels"])
        self.log_M.copy_(state_dict["log_multipliers"])
        self.descent.load_state_dict(state_dict)
