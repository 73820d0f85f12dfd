"""Black-box classifiers: a function or a command, without weights, layers or gradients.

The gradient is estimated from outputs, by finite differences along random directions:

    J'g  ~  1/n sum_k [ (f(x + s u_k) - f(x - s u_k)) . g / (2 s) ] u_k,   u_k ~ N(0, I)

f are the logits, g is the gradient of the objective with respect to the logits, and J'g is its
gradient with respect to the pixels. The expectation is the gradient of f smoothed by noise of
standard deviation s. The estimate uses the antithetic samples of natural evolution strategies
(Ilyas et al. 2018, arXiv:1804.08598). They are applied to the logits instead of the loss, so that
terms that compare images need no further queries. The gradient for a generator follows by the chain
rule, as in data-free model extraction (Truong et al. 2021, arXiv:2011.14779).

Shape suffixes: B batch, N classes, C channels, H height, W width, P pixels of an image,
K directions, S the two sides of a difference.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.probing import PROBED, random_images
from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.config.layer_names import LOGITS, PENULTIMATE
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.training.float32 import widened

Answer = Callable[[NDArray[np.float32]], Any]
"""Function that takes images [B, C, H, W] in [0, 1] and returns an array or a tensor: logits or
probabilities [B, N], or integer labels [B]."""
QUERY_IMAGES, QUERY_BYTES = 4096, 1 << 26
"""Largest number of images, and of bytes, in one call."""
LEAST_LOGIT = -14.0
"""Bound of logits computed from probabilities; those below about 1e-6 are inexact by rounding."""


class BlackBoxError(RuntimeError):
    """A black box failed, or returned something that is not one score per class and image."""


class BlackBox(nn.Module):
    """A network whose outputs come from a function of NumPy arrays.

    Args:
        answer: The function. It gets normalised images; without mean and standard deviation these
            are in [0, 1].
        name: The key and the value that name it, for messages.
        num_classes: N, if the function returns labels, which are converted to one-hot rows.
    """

    def __init__(self, answer: Answer, name: str, num_classes: int | None = None) -> None:
        super().__init__()
        self.answer, self.name, self.num_classes = answer, name, num_classes

    def forward(self, x_BCHW: Tensor) -> Tensor:
        array_BCHW = np.ascontiguousarray(x_BCHW.detach().cpu().float().numpy())
        rows = images_of_a_call(array_BCHW[0].nbytes)
        parts = range(0, len(array_BCHW), rows)
        answers = [self._ask(array_BCHW[first : first + rows]) for first in parts]
        return torch.from_numpy(np.concatenate(answers)).to(x_BCHW.device)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: a function of arrays cannot be compiled."""

    def _ask(self, array_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        B = len(array_BCHW)
        try:
            given = self.answer(array_BCHW)
            found = np.asarray(
                widened(given.detach().cpu()) if isinstance(given, Tensor) else given
            )
        except BlackBoxError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {one_line(error)[:200]}"
            raise BlackBoxError(
                f"{self.name}: fails for images of shape {list(array_BCHW.shape)} ({reason})"
            ) from error
        if found.dtype.kind not in "fiub" or found.ndim not in (1, 2) or len(found) != B:
            raise BlackBoxError(
                f"{self.name}: returns {found.dtype} of shape {list(found.shape)} for {B} images; "
                f"must return floating-point numbers of shape [{B}, classes], or {B} labels"
            )
        if found.ndim == 1 and found.dtype.kind in "iu":
            found = self._one_hot(found)
        return found.astype(np.float32)

    def _one_hot(self, label_B: NDArray[Any]) -> NDArray[np.float32]:
        N = self.num_classes
        if N is None or label_B.min() < 0 or label_B.max() >= N:
            raise BlackBoxError(
                f"{self.name}: returns labels from {label_B.min()} to {label_B.max()}; must return "
                f"labels from 0 to classes - 1{f' = {N - 1}' if N is not None else ''}"
            )
        return np.eye(N, dtype=np.float32)[label_B]


def images_of_a_call(image_bytes: int) -> int:
    """Return the largest number of images in one call, for images of `image_bytes` bytes each."""
    return max(1, min(QUERY_IMAGES, QUERY_BYTES // image_bytes))


class BlackBoxClassifier(FrozenClassifier):
    """A frozen black-box classifier. Each image of a query counts as one forward pass.

    Args:
        network: The black box.
        spec: Properties of its images.
        output: As for `FrozenClassifier`.
        output_kind: As for `FrozenClassifier`.
        directions: n, the number of directions of a gradient estimate; each costs two queries per
            image. 0 for no gradient.
        sigma: s, the standard deviation of the differences, in units of the pixel range. Queried
            images are clamped to [0, 1].

    Raises:
        InputError: if the black box fails for random images, or returns something else.
    """

    def __init__(
        self,
        network: BlackBox,
        spec: DataSpec,
        output: str | None = None,
        output_kind: str = "auto",
        directions: int = 50,
        sigma: float = 0.1,
    ) -> None:
        network.num_classes = spec.num_classes
        self.access = _access(network, random_images(spec, PROBED))
        self.directions = directions if self.access == "scores" else 0
        self.sigma = sigma
        super().__init__(network, spec, (LOGITS,), output, output_kind)

    def record(self) -> dict[str, Any]:
        estimate = {"query_directions": self.directions, "query_sigma": self.sigma}
        return {**super().record(), "access": self.access, **estimate}

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.whole is not self:
            return super().forward(x_BCHW)
        if self.directions and torch.is_grad_enabled() and x_BCHW.requires_grad:
            logits_BN: Tensor = _Estimated.apply(x_BCHW, self)
            return logits_BN
        return self.query(x_BCHW)

    @torch.no_grad()
    def query(self, x_BCHW: Tensor) -> Tensor:
        """Return the logits [B, N] of images, without a gradient."""
        self.forward_count.forwards += len(x_BCHW)
        logits_BN = Classifier.forward(self, x_BCHW)
        if self.output.kind in ("probabilities", "sigmoid"):
            return logits_BN.clamp(LEAST_LOGIT, -LEAST_LOGIT)
        return logits_BN

    @torch.no_grad()
    def estimate(self, x_BCHW: Tensor, gradient_BN: Tensor) -> Tensor:
        """Return an estimate of J'g, [B, C, H, W], from 2 n queries per image.

        The directions depend only on the images, so that a resumed run draws the same ones.

        Args:
            x_BCHW: x.
            gradient_BN: g.
        """
        x_BCHW = x_BCHW.float()
        seed = zlib.crc32(x_BCHW.cpu().contiguous().numpy().tobytes())
        source = torch.Generator().manual_seed(seed)
        estimate_BP, sigma = torch.zeros_like(x_BCHW.flatten(1)), self.sigma
        B, image_bytes = len(x_BCHW), x_BCHW[0].numel() * x_BCHW.element_size()
        at_once = max(1, images_of_a_call(image_bytes) // (2 * B))
        for first in range(0, self.directions, at_once):
            K = min(at_once, self.directions - first)
            u_KBCHW = torch.randn((K, *x_BCHW.shape), generator=source).to(x_BCHW.device)
            both_SKBCHW = torch.stack([x_BCHW + sigma * u_KBCHW, x_BCHW - sigma * u_KBCHW])
            logits_SKBN = self.query(both_SKBCHW.clamp(0, 1).flatten(0, 2)).view(2, K, B, -1)
            slope_KB = ((logits_SKBN[0] - logits_SKBN[1]) * gradient_BN).sum(dim=2) / (2 * sigma)
            estimate_BP += torch.einsum("kb,kbp->bp", slope_KB, u_KBCHW.flatten(2))
        return (estimate_BP / self.directions).view_as(x_BCHW)

    def check_gradient(self) -> None:
        """Check that this classifier can estimate a gradient.

        Raises:
            InputError: naming the key.
        """
        if self.access == "labels":
            assert isinstance(self.network, BlackBox)
            raise InputError(
                f"{self.network.name}: returns labels, from which no gradient can be estimated, "
                "but this method needs one. Return logits or probabilities"
            )
        if not self.directions:
            raise InputError(
                "classifier.query_directions=0: a black box has no gradient, but this method needs "
                "one. Set the number of directions of its estimate, such as "
                "classifier.query_directions=50"
            )


class _Estimated(torch.autograd.Function):
    """The logits of a black box, with an estimated gradient."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, classifier: BlackBoxClassifier) -> Tensor:
        ctx.classifier = classifier
        ctx.save_for_backward(x_BCHW)
        return classifier.query(x_BCHW)

    @staticmethod
    def backward(ctx: Any, gradient_BN: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        if torch.is_grad_enabled():
            raise RuntimeError("a black box has no second derivative")
        (x_BCHW,) = ctx.saved_tensors
        return ctx.classifier.estimate(x_BCHW, gradient_BN).to(x_BCHW.dtype), None


def _access(network: BlackBox, x_BCHW: Tensor) -> str:
    """Return `labels` if a black box returns only zeros and ones, else `scores`.

    Raises:
        InputError: if the black box fails.
    """
    try:
        answer = network(x_BCHW)
    except BlackBoxError as error:
        raise InputError(str(error)) from error
    return "labels" if bool(((answer == 0) | (answer == 1)).all()) else "scores"


def module_of(network: nn.Module | Answer) -> nn.Module:
    """Return a network as it is, and a function as a `BlackBox`.

    Raises:
        InputError: if it is neither.
    """
    if isinstance(network, nn.Module):
        return network
    if not callable(network):
        raise InputError(
            f"network: is a {type(network).__name__}; must be a torch.nn.Module, or a function of "
            "an array of inputs"
        )
    return BlackBox(network, f"network={getattr(network, '__name__', type(network).__name__)}")


def frozen(
    network: nn.Module,
    spec: DataSpec,
    *,
    feature_layers: Sequence[str],
    output: str | None,
    output_kind: str,
    directions: int,
    sigma: float,
) -> FrozenClassifier:
    """Return the frozen classifier of a network or of a black box.

    Only a black box uses `directions` and `sigma`; for the arguments see the two classes.

    Raises:
        InputError: if layers of a black box are named, or the network does not fit `spec`.
    """
    reading: dict[str, Any] = {"output": output, "output_kind": output_kind}
    if not isinstance(network, BlackBox):
        return FrozenClassifier(network, spec, feature_layers, **reading)
    if tuple(feature_layers) not in ((PENULTIMATE,), (LOGITS,)):
        raise InputError(
            f"feature_layers={list(feature_layers)}: a black box has no layers. Leave it out"
        )
    return BlackBoxClassifier(network, spec, **reading, directions=directions, sigma=sigma)
