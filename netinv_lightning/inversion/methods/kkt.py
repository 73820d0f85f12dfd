"""`method=kkt`: training images out of the weights alone (Haim et al. 2022, Buzaglo et al. 2023).

    pixels in [0, 1], multipliers lambda > 0 -> sum_i lambda_i d margin_i / d theta -> distance to theta -> pixels, multipliers

Candidates, equally many of each class, are optimised together until their gradients add up to the weights; see
netinv_lightning/inversion/stationarity.py for why training images do. Drawing then deals candidates out by their labels. It finds images
where there are more equations (weights) than unknowns (pixels of all candidates): wide fully connected networks trained on few images.

Shape suffixes: B batch, M candidates, C channels, H height, W width, N classes, V values of a step.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.methods.gradient import PixelInversion
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.stationarity import (
    best_scale,
    decayed_weights,
    margin_gradients,
    stationarity,
)
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.snapshots import Snapshots


@dataclass(frozen=True)
class Reconstruction:
    """What explains the weights.

    Attributes:
        images_MCHW: In [0, 1].
        label_M: Their classes, 0 to N - 1 in turn.
        multiplier_M: lambda, above 0: how much of the weights each explains.
    """

    images_MCHW: Tensor
    label_M: Tensor
    multiplier_M: Tensor


class KktInversion(PixelInversion):
    """Optimises candidates for training images and their multipliers, all together, so that they give the classifier's weights.

    It stands where a trained generator does: `draw` gives images for conditions, of which the labels count alone.

    Args:
        conditioning: Draws what each batch is conditioned on.
        classifier: What is attacked; never changed. Its weights are read at the first draw.
        candidates: M, best one to two for each training image.
        steps: Steps of Adam.
        lr: Its learning rate for pixels, at the start; it falls along a cosine. Pixels are kept in [0, 1] by clamping.
        multiplier_lr: The same for the multipliers' logarithms.
        sharpness: Of the gates' smooth derivative at the start (`SmoothGates`), in units of one over a pre-activation.
        final_sharpness: The same at the end, where it is to be close to the true step; it grows geometrically.
        init_std: Standard deviation of the first pixels about the mean training pixel.
        seed: Of the first images. All images are of one optimisation, so it does not depend on who draws.
        log_every: Steps between two reports.

    Raises:
        ValueError: if a value is out of range; it starts with `<argument>=<value>:`.
    """

    final_lr = 0.02
    betas = (
        0.98,
        0.99,
    )  # images of a class pull at the same weights, and only much momentum tells them apart

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        candidates: int = 1000,
        steps: int = 1000,
        lr: float = 0.1,
        multiplier_lr: float = 0.1,
        sharpness: float = 10.0,
        final_sharpness: float = 300.0,
        init_std: float = 0.1,
        seed: int = 0,
        log_every: int = 10,
    ) -> None:
        objective = Objective(
            {"stationarity": {"weight": 1.0}}
        )  # which names what is logged; here with multipliers
        super().__init__(
            conditioning,
            classifier,
            objective,
            steps=steps,
            lr=lr,
            init_std=init_std,
            log_every=log_every,
        )
        if candidates < (N := classifier.spec.num_classes):
            raise ValueError(f"candidates={candidates}: must be {N} or more, one a class")
        if not 0 < multiplier_lr < math.inf:
            raise ValueError(f"multiplier_lr={multiplier_lr}: must be above 0")
        if not 0 < sharpness < math.inf:
            raise ValueError(f"sharpness={sharpness}: must be above 0")
        if not sharpness <= final_sharpness < math.inf:
            raise ValueError(
                f"final_sharpness={final_sharpness}: must be method.sharpness={sharpness} or more"
            )
        self.candidates, self.multiplier_lr, self.seed = candidates, multiplier_lr, seed
        self.sharpness, self.final_sharpness = sharpness, final_sharpness
        self.snapshots = Snapshots()  # nothing is kept unless the caller says where
        self._reconstruction: Reconstruction | None = None

    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        """Images [B, C, H, W] with the conditions' labels; under the same randomness always the same.

        Within a batch no candidate comes twice before all of its class have come once.
        """
        source = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        reconstruction = self.reconstruct()
        label_B, label_M = condition.label_B.cpu(), reconstruction.label_M.cpu()
        index_B = torch.empty_like(label_B)
        for label in label_B.unique():
            wanted, of_class = (
                (label_B == label).nonzero().flatten(),
                (label_M == label).nonzero().flatten(),
            )
            order = of_class[torch.randperm(len(of_class), generator=source)]
            index_B[wanted] = order.repeat(-(-len(wanted) // len(order)))[: len(wanted)]
        return reconstruction.images_MCHW[index_B.to(self.device)]

    def reconstruct(self) -> Reconstruction:
        """All candidates; made once."""
        if self._reconstruction is None:
            self._reconstruction = self._explain()
        return self._reconstruction

    @torch.enable_grad()
    def _explain(self) -> Reconstruction:
        classifier, spec, M, K = self.classifier, self.classifier.spec, self.candidates, self.steps
        begun = (
            time.perf_counter(),
            classifier.forward_count.forwards,
            classifier.forward_count.backwards,
        )
        weights = decayed_weights(classifier)
        label_M = torch.arange(M, device=self.device) % spec.num_classes
        noise_MCHW = Stream(self.seed, self.device).normal(M, *spec.image_shape)
        x_MCHW = (classifier.mean_C11 + self.init_std * noise_MCHW).clamp(0, 1).requires_grad_()
        with torch.no_grad():
            first, _ = margin_gradients(
                classifier, x_MCHW, label_M, torch.ones(M, device=self.device)
            )
            scale = best_scale(weights, first).clamp_min(
                1e-6
            )  # one multiplier for all, to start from
        log_M = scale.log().expand(M).clone().requires_grad_()
        optimizer = torch.optim.Adam(
            [{"params": [x_MCHW], "lr": self.lr}, {"params": [log_M], "lr": self.multiplier_lr}],
            betas=self.betas,
            eps=1e-12,
        )
        highest = [group["lr"] for group in optimizer.param_groups]
        self.batches += 1
        state = _Candidates(self, x_MCHW, log_M, begun)
        with self.snapshots.kept(K, candidates=state, optimizer=optimizer) as (earlier, done):
            for step in range(earlier + 1, K + 1):
                for group, lr in zip(optimizer.param_groups, highest, strict=True):
                    group["lr"] = lr * self._share_of_lr(step)
                sharpness = self.sharpness * (self.final_sharpness / self.sharpness) ** (
                    (step - 1) / K
                )
                gradients, logits_MN = margin_gradients(
                    classifier, x_MCHW, label_M, log_M.exp(), sharpness
                )
                loss = stationarity(weights, gradients)
                x_MCHW.grad, log_M.grad = torch.autograd.grad(loss, [x_MCHW, log_M])
                optimizer.step()
                with torch.no_grad():
                    x_MCHW.clamp_(0, 1)
                    accuracy = (logits_MN.argmax(dim=1) == label_M).float().mean()
                    state.recent.append(torch.stack([loss, loss, accuracy]).detach())
                self.step_seconds.append(state.costs()[0])
                if step % self.log_every == 0 or step == K:
                    self._tell(step, torch.stack(state.recent).cpu(), M)
                    state.recent.clear()
                done(step)
        self.images, (self.seconds, self.forwards, self.backwards) = M, state.costs()
        return Reconstruction(x_MCHW.detach(), label_M, log_M.detach().exp())


class _Candidates:
    """The part of a checkpoint that an optimiser does not hold: pixels, multipliers, what is not logged yet, and costs.

    Args:
        inversion: Whose lists of accuracies and seconds go on.
        x_MCHW: Pixels.
        log_M: Logarithms of the multipliers.
        begun: When the optimisation began, and the forward and backward passes counted until then.
    """

    def __init__(
        self, inversion: KktInversion, x_MCHW: Tensor, log_M: Tensor, begun: tuple[float, int, int]
    ) -> None:
        self.inversion, self.x_MCHW, self.log_M, self.begun = inversion, x_MCHW, log_M, begun
        self.recent: list[Tensor] = []

    def costs(self) -> tuple[float, int, int]:
        """Seconds, forward and backward passes, over all processes of a resumed run."""
        passes, (seconds, forwards, backwards) = self.inversion.classifier.forward_count, self.begun
        return (
            time.perf_counter() - seconds,
            passes.forwards - forwards,
            passes.backwards - backwards,
        )

    def state_dict(self) -> dict[str, Any]:
        lists = {
            "accuracies": self.inversion.accuracies,
            "step_seconds": self.inversion.step_seconds,
            "recent": self.recent,
        }
        return {
            "pixels": self.x_MCHW.detach(),
            "log_multipliers": self.log_M.detach(),
            "costs": list(self.costs()),
            **lists,
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.x_MCHW.copy_(state_dict["pixels"])
        self.log_M.copy_(state_dict["log_multipliers"])
        self.recent[:] = [values_V.to(self.log_M.device) for values_V in state_dict["recent"]]
        self.inversion.accuracies, self.inversion.step_seconds = (
            state_dict["accuracies"],
            state_dict["step_seconds"],
        )
        (seconds, forwards, backwards), passes = (
            state_dict["costs"],
            self.inversion.classifier.forward_count,
        )
        self.begun = (
            time.perf_counter() - seconds,
            passes.forwards - forwards,
            passes.backwards - backwards,
        )
