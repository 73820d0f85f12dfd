"""`method=gradient_leakage`: a training batch from its gradient (Geiping et al. 2020).

    g = gradient of the mean cross-entropy of a batch with respect to the weights     (a file)
    g -> labels of the batch;     one image and a first linear layer: g -> image, in closed form
    pixels -> gradient of the weights -> 1 - cosine(gradient, g) + tv * variation -> pixels

Whoever sees the update of a client in federated learning has g. This is more than access to the
weights, and another thing than gradients of the outputs with respect to the input: the access level
`training_gradient`. Make the file with `save_gradients`, or, in any code, with safetensors: the
gradient of each parameter of the network, in evaluation mode, by the parameter's name.

With `method.self_test` no file is needed: the run computes the gradient of training images of
`data`, reconstructs them, and compares (`SelfTest`).

The objective is that of Geiping et al. ("Inverting gradients", arXiv 2003.14053): cosine distance,
total variation, Adam on the signs of the gradient. The labels follow from the gradient of the last
bias, which is negative only for classes in the batch (see `infer_labels`). For one image, the rows
of the gradient of a first linear layer are multiples of the input, so that the division by the
gradient of its bias gives the image exactly (`closed_form`). Wang, Lee and Lei ("Reconstructing
training data from model gradient, provably", arXiv 2212.03714) recover a whole batch by a tensor
decomposition. It is not used here: their result is for a gradient at randomly chosen weights, and
the classifiers of this package are trained.

Shape suffixes: B images of the leaked batch, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.rules import NOT_NEGATIVE, POSITIVE, STEPS, Count, FileName, Flag
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.losses import variation
from netinv_lightning.inversion.methods.descent import DescentInversion
from netinv_lightning.inversion.methods.leakage_self_test import SelfTest
from netinv_lightning.inversion.methods.leaked_gradients import (
    batch_gradients,
    closed_form,
    distance,
    infer_labels,
    read_gradients,
)
from netinv_lightning.inversion.objective import named_loss
from netinv_lightning.inversion.stationarity import check_twice_differentiable

log = logging.getLogger(__name__)


class GradientLeakage(DescentInversion):
    """Reconstructs the images of a training batch from the gradient that they caused.

    All images of the batch are optimised together; drawing then selects by inferred labels.

    Args:
        conditioning: Draws the conditions of each batch. Only their labels are used.
        classifier: The network whose gradient has leaked; it is never changed.
        seed: Seed of the first pixels, and of the batch of a self-test.
        log_every: Steps between two reports.
        training_split: Returns training images of `data`, uint8 [n, C, H, W], and labels [n].
        gradients: Safetensors file with the gradient of each parameter of the network.
        self_test: Compute the gradient of real training images instead, and compare.
        images: Images in the leaked batch.
        steps: Steps of Adam.
        lr: Highest learning rate of the pixels; it falls along a cosine. Pixels are clamped to
            [0, 1].
        tv: Weight of the squared differences of neighbouring pixels, per pixel.
        init_std: Standard deviation of the first pixels about the mean training pixel.

    Raises:
        InputError: if the file is missing or belongs to another network, the network is
            multi-label or has no second derivative, or a self-test has no images.
    """

    final_lr = 0.01

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        seed: int,
        log_every: int,
        training_split: Callable[[], tuple[Tensor, Tensor]],
        *,
        gradients: Annotated[str | None, FileName()] = None,
        self_test: Annotated[bool, Flag()] = False,
        images: Annotated[int, Count(1, 1024)] = 1,
        steps: Annotated[int, STEPS] = 500,
        lr: Annotated[float, POSITIVE] = 0.05,
        tv: Annotated[float, NOT_NEGATIVE] = 0.01,
        init_std: Annotated[float, NOT_NEGATIVE] = 0.1,
    ) -> None:
        if classifier.multi_label:
            raise InputError(
                "method=gradient_leakage: needs one label per image, but this network is "
                "multi-label. Set method=gradient"
            )
        if (gradients is None) is not self_test:
            raise InputError(
                "method.gradients: is missing; method=gradient_leakage needs the gradient of a "
                "training batch: a safetensors file with the gradient of each parameter by name. "
                "To try it on real images set method.self_test=true"
                if gradients is None
                else f"method.gradients={gradients}: is not used with method.self_test=true. "
                "Leave one out"
            )
        check_twice_differentiable(classifier, "method=gradient_leakage")
        objective = named_loss("leakage")
        super().__init__(
            conditioning, classifier, objective,
            steps=steps, lr=lr, init_std=init_std, log_every=log_every,
        )  # fmt: skip
        self.self_test = SelfTest.of(*training_split(), images, seed) if self_test else None
        if self.self_test is None:
            self.leaked = read_gradients(Path(str(gradients)), classifier)
        else:
            self.leaked = batch_gradients(
                classifier, self.self_test.batch_BCHW, self.self_test.label_B
            )
        self.tv, self.seed, self.max_images = tv, seed, images
        self.label_B = infer_labels(classifier, self.leaked, images)
        found = sorted(set(self.label_B.tolist()))
        if missing := sorted(set(conditioning.chosen) - set(found)):
            log.warning(
                "method=gradient_leakage: the leaked batch has no image of the classes %s; images "
                "of other classes are drawn for them. To draw no others, set "
                "application.classes=%s",
                missing,
                str(found).replace(" ", ""),
            )
        self._images_BCHW: Tensor | None = None

    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        torch.randint(2**62, ())  # the random state advances as in other methods
        x_BCHW, label_B = self.reconstruct(), self.label_B.tolist()
        drawn: dict[int, int] = {}
        chosen = []
        for label in condition.label_B.tolist():
            places = [i for i, found in enumerate(label_B) if found == label]
            places = places or list(range(len(label_B)))
            chosen.append(places[drawn.get(label, 0) % len(places)])
            drawn[label] = drawn.get(label, 0) + 1
        return x_BCHW[torch.tensor(chosen, device=x_BCHW.device)]

    def metrics(self) -> dict[str, float]:
        test = self.self_test
        return {} if test is None else test.metrics(self.reconstruct(), self.label_B)

    def reconstruct(self) -> Tensor:
        """Return the images [B, C, H, W] of the batch in the order of `label_B`."""
        if self._images_BCHW is None:
            self.leaked = {name: g.to(self.device) for name, g in self.leaked.items()}
            self.label_B = self.label_B.to(self.device)
            meter = CostMeter(self.classifier.forward_count)
            exact = closed_form(self.classifier, self.leaked) if len(self.label_B) == 1 else None
            self._images_BCHW = self._optimise(meter) if exact is None else exact
            self._add_cost(len(self.label_B), meter)
        return self._images_BCHW

    @torch.enable_grad()
    def _optimise(self, meter: CostMeter) -> Tensor:
        B, classifier = len(self.label_B), self.classifier
        start_BCHW = self._near_mean(B, self.seed)
        x_BCHW = start_BCHW.detach().requires_grad_()
        pixels = start_BCHW[0].numel()

        def score(step: int) -> tuple[Tensor, Tensor]:
            away = distance(batch_gradients(classifier, x_BCHW, self.label_B), self.leaked)
            loss = away + self.tv * variation(x_BCHW) / pixels
            values = torch.stack([away, loss, 1 - away])
            return loss, values

        descent = self._start_batch([{"params": [x_BCHW], "lr": self.lr}], meter)
        descent.run(
            score,
            report=lambda step, recent_KV: self._report(step, recent_KV, B),
            project=lambda: x_BCHW.clamp_(0, 1),
        )
        return x_BCHW.detach()

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return SignedAdam(groups, betas=self.betas, eps=self.eps)


class SignedAdam(torch.optim.Adam):
    """Adam that sees the sign of each gradient only (Geiping et al. 2020)."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for x in group["params"]:
                x.grad.sign_()
        return super().step(closure)
