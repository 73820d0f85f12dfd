"""Perturbations of images inside an L1, L2 or Linf ball, random or adversarial.

Radii are in units of the pixel range [0, 1]: Linf 0.1 changes each pixel by at most 0.1; L2 and L1
bound the norm over the whole image.

Shape suffixes: B batch, C channels, H height, W width, P = C H W.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.float32 import in_float32

NORMS = ("l1", "l2", "linf")
DIRECTIONS = ("random", "sign", "adversarial")


def norm(delta_BP: Tensor, kind: str) -> Tensor:
    """Return the norm of each row, [B]."""
    return {
        "l1": lambda: delta_BP.abs().sum(dim=1),
        "l2": lambda: delta_BP.square().sum(dim=1).sqrt(),
        "linf": lambda: delta_BP.abs().amax(dim=1),
    }[kind]()


def project(delta_BP: Tensor, radius: float, kind: str) -> Tensor:
    """Return the nearest point of the ball for each row, [B, P]."""
    if kind == "linf":
        return delta_BP.clamp(-radius, radius)
    if kind == "l2":
        norm_B = norm(delta_BP, "l2")
        shrink_B = radius / norm_B.clamp_min(max(radius, 1e-12))
        # Rows inside are kept as they are: radius / radius need not round to 1.
        return delta_BP * torch.where(norm_B > radius, shrink_B, 1.0)[:, None]
    # L1: soft-threshold where the sorted magnitudes sum to the radius (Duchi et al. 2008, ICML).
    magnitudes_BP = delta_BP.abs().sort(dim=1, descending=True).values
    ranks_P = torch.arange(1, delta_BP.shape[1] + 1, device=delta_BP.device)
    levels_BP = (magnitudes_BP.cumsum(dim=1) - radius) / ranks_P
    # With radius 0, or due to rounding, no magnitude may remain; then the largest one is kept.
    last_B = ((magnitudes_BP > levels_BP).sum(dim=1) - 1).clamp_min(0)
    level_B = levels_BP.gather(1, last_B[:, None]).clamp_min(0)
    return delta_BP.sign() * F.relu(delta_BP.abs() - level_B)


class Perturbation:
    """Adds to each image a perturbation of bounded norm.

    Args:
        norm: `l1`, `l2` or `linf`.
        radius: Bound of the norm, in units of the pixel range.
        direction: `random` (uniform in the Linf ball; a random direction on the L2 or L1 sphere),
            `sign` (each pixel by plus or minus the radius, Linf only, as in the public notebooks),
            or `adversarial` (projected gradient ascent on the classifier's cross-entropy).
        steps: Steps of the adversarial direction.
        clamp: Keep the perturbed image in [0, 1].

    Raises:
        ValueError: if a value is out of range. The message starts with `<argument>=<value>:`.
    """

    def __init__(
        self,
        norm: str = "linf",
        radius: float = 0.1,
        direction: str = "random",
        steps: int = 5,
        clamp: bool = True,
    ) -> None:
        if norm not in NORMS:
            raise ValueError(f"norm={norm}: choose from {', '.join(NORMS)}")
        if direction not in DIRECTIONS:
            raise ValueError(f"direction={direction}: choose from {', '.join(DIRECTIONS)}")
        if direction == "sign" and norm != "linf":
            raise ValueError(f"direction=sign: requires norm=linf, not {norm}")
        if not radius >= 0:
            raise ValueError(f"radius={radius}: must be 0 or more")
        if steps < 1:
            raise ValueError(f"steps={steps}: must be 1 or more")
        self.norm, self.radius, self.direction, self.steps, self.clamp = (
            norm,
            radius,
            direction,
            steps,
            clamp,
        )

    def __call__(
        self,
        x_BCHW: Tensor,
        label_B: Tensor,
        classifier: Callable[[Tensor], Tensor],
        stream: Stream | None = None,
    ) -> Tensor:
        """Return perturbed images; gradients flow through the images, not through the perturbation.

        Args:
            x_BCHW: Images.
            label_B: The classes that the adversarial direction leads away from.
            classifier: From images to logits.
            stream: Random numbers; None for torch's global random state.
        """
        delta_BP = self._random(x_BCHW.detach().flatten(1), stream)
        if self.direction == "adversarial":
            delta_BP = self._adversarial(x_BCHW.detach(), delta_BP, label_B, classifier)
        perturbed_BCHW = x_BCHW + delta_BP.view(x_BCHW.shape)
        return perturbed_BCHW.clamp(0, 1) if self.clamp else perturbed_BCHW

    def _random(self, like_BP: Tensor, stream: Stream | None) -> Tensor:
        B, P = like_BP.shape
        if self.direction != "sign" and self.norm == "linf":
            draw_BP = torch.rand_like(like_BP) if stream is None else stream.uniform(B, P)
            return self.radius * (2 * draw_BP - 1)
        draw_BP = torch.randn_like(like_BP) if stream is None else stream.normal(B, P)
        if self.direction == "sign":
            return self.radius * draw_BP.sign()
        if self.norm == "l1":  # a Laplace draw: direction uniform on the L1 sphere
            magnitude_BP = torch.rand_like(like_BP) if stream is None else stream.uniform(B, P)
            draw_BP = -draw_BP.sign() * torch.log1p(-magnitude_BP)
        return draw_BP * (self.radius / norm(draw_BP, self.norm))[:, None]

    @in_float32  # in half precision the gradients of confidently classified images vanish
    @torch.enable_grad()
    def _adversarial(
        self,
        x_BCHW: Tensor,
        start_BP: Tensor,
        label_B: Tensor,
        classifier: Callable[[Tensor], Tensor],
    ) -> Tensor:
        delta_BP = project(start_BP, self.radius, self.norm)
        for _ in range(self.steps):
            delta_BP.requires_grad_()
            at_BCHW = x_BCHW + delta_BP.view(x_BCHW.shape)
            loss = F.cross_entropy(classifier(at_BCHW), label_B, reduction="sum")
            (ascent_BP,) = torch.autograd.grad(loss, delta_BP)
            step_BP = self._steepest(
                ascent_BP, at_BCHW.detach().flatten(1), 2.5 * self.radius / self.steps
            )
            delta_BP = project(delta_BP.detach() + step_BP, self.radius, self.norm)
        return delta_BP

    def _steepest(self, gradient_BP: Tensor, at_BP: Tensor, size: float) -> Tensor:
        """Return the step of norm `size` that increases the loss most, [B, P].

        For L1 it changes only the pixel with the steepest slope. If images are kept in [0, 1], that
        pixel changes as far as it can, and then the next one; otherwise clamping would remove most
        of the step (Tramer and Boneh 2019, arXiv 1904.13000; Croce and Hein 2021,
        arXiv 2103.01208).
        """
        if self.norm == "linf":
            return size * gradient_BP.sign()
        if self.norm == "l2":
            return size * gradient_BP / norm(gradient_BP, "l2").clamp_min(1e-12)[:, None]
        range_BP = (
            torch.where(gradient_BP > 0, 1 - at_BP, at_BP).clamp(0, size)
            if self.clamp
            else torch.full_like(at_BP, size)
        )
        steepest_BP = gradient_BP.abs().argsort(dim=1, descending=True)
        range_BP = range_BP.gather(1, steepest_BP)
        moved_BP = torch.minimum(
            range_BP, (size - (range_BP.cumsum(dim=1) - range_BP)).clamp_min(0)
        )
        return torch.zeros_like(at_BP).scatter(1, steepest_BP, moved_BP) * gradient_BP.sign()
