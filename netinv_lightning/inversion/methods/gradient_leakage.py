"""`method=gradient_leakage`: a training batch from its gradient (Geiping et al. 2020).

    g = gradient of the mean cross-entropy of a batch with respect to the weights     (a file)
    g -> labels of the batch;     one image and a first linear layer: g -> image, in closed form
    pixels -> gradient of the weights -> 1 - cosine(gradient, g) + tv * variation -> pixels

Whoever sees the update of a client in federated learning has g. This is more than access to the
weights, and another thing than gradients of the outputs with respect to the input: the access level
`training_gradient`. Make the file with `save_gradients`, or, in any code, with safetensors: the
gradient of each parameter of the network, in evaluation mode, by the parameter's name.

The objective is that of Geiping et al. ("Inverting gradients", arXiv 2003.14053): cosine distance,
total variation, Adam on the signs of the gradient. The labels follow from the gradient of the last
bias, which is negative only for classes in the batch (see `infer_labels`). For one image, the rows
of the gradient of a first linear layer are multiples of the input, so that the division by the
gradient of its bias gives the image exactly (`closed_form`). Wang, Lee and Lei ("Reconstructing
training data from model gradient, provably", arXiv 2212.03714) prove that two-layer networks reveal
a whole batch, by a tensor decomposition, which is not used here.

Shape suffixes: B images of the leaked batch, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call

from netinv_lightning.classifiers.frozen import BATCH_NORMS, FrozenClassifier
from netinv_lightning.config.layer_names import PENULTIMATE
from netinv_lightning.config.ranges import NOT_NEGATIVE, POSITIVE, STEPS, Count, FileName
from netinv_lightning.data.tensor_files import read_tensors
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.losses import variation
from netinv_lightning.inversion.methods.descent import DescentInversion
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.stationarity import check_twice_differentiable

log = logging.getLogger(__name__)
Gradients = Mapping[str, Tensor]
"""The gradient of each parameter of the network, by its name in the network."""


def batch_gradients(
    classifier: FrozenClassifier, x_BCHW: Tensor, label_B: Tensor
) -> dict[str, Tensor]:
    """Return the gradient of the mean cross-entropy; differentiable if the images are."""
    with torch.enable_grad():
        weights = {
            name: weight.detach().requires_grad_()
            for name, weight in classifier.network.named_parameters()
            if weight.is_floating_point()
        }
        named = {f"network.{name}": weight for name, weight in weights.items()}
        loss = F.cross_entropy(functional_call(classifier, named, (x_BCHW,)), label_B)
        gradients = torch.autograd.grad(
            loss, list(weights.values()), create_graph=x_BCHW.requires_grad, materialize_grads=True
        )
    return dict(zip(weights, gradients, strict=True))


def save_gradients(
    classifier: FrozenClassifier, x_BCHW: Tensor, label_B: Tensor, path: Path
) -> None:
    """Write the gradient of a batch, as a client would send it, to a safetensors file."""
    gradients = batch_gradients(classifier, x_BCHW.detach(), label_B)
    save_file({name: g.detach().contiguous() for name, g in gradients.items()}, path)


def infer_labels(classifier: FrozenClassifier, gradients: Gradients, images: int) -> Tensor:
    """Return the labels [B] of a batch, sorted, from the gradient of the last layer.

    The gradient of the bias of class n is mean_i p_in - count_n / B, where p_in is the softmax
    probability of image i. It is negative only for classes in the batch, so that these get one
    image each, starting with the most negative. The further images go, one by one, to the class
    with the most negative rest; an image accounts for the mean of the negative entries. Without a
    bias, the sum of the weights' gradients over the features is used, which has the same sign for
    features of 0 or more. For one image this is exact (iDLG, Zhao et al. 2020, arXiv 2001.02610).
    In a larger batch the sign can be hidden by the probabilities that the other images give to the
    class, above all if the batch has most of the classes and the network is not trained.
    """
    head = classifier.find_layer(PENULTIMATE)
    names = {id(weight): name for name, weight in classifier.network.named_parameters()}
    bias = getattr(head, "bias", None)
    if bias is not None:
        rest_N = gradients[names[id(bias)]].clone()
    else:
        rest_N = gradients[names[id(head.weight)]].flatten(1).sum(dim=1)
    share = rest_N.clamp_max(0).sum() / images
    labels = rest_N.argsort()[: min(images, max(1, int((rest_N < 0).sum())))].tolist()
    rest_N[labels] -= share
    while len(labels) < images:
        labels.append(int(rest_N.argmin()))
        rest_N[labels[-1]] -= share
    return torch.tensor(sorted(labels), device=rest_N.device)


def closed_form(classifier: FrozenClassifier, gradients: Gradients) -> Tensor | None:
    """Return the only image [1, C, H, W] of a batch from the first linear layer, or None.

    With z = W x + b the gradients are g_W = g_z x^T and g_b = g_z, so x is any row of g_W divided
    by its entry of g_b. If BatchNorm in evaluation mode follows instead of a bias, g_z is the
    gradient of its shift times its scale over the running standard deviation.
    """
    layers = [
        (name, module)
        for name, module in classifier.network.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    (name, first), after = layers[0], layers[1][1] if len(layers) > 1 else None
    if not isinstance(first, nn.Linear) or first.in_features != math.prod(classifier.spec.shape):
        return None
    if first.bias is not None:
        g_z = gradients[_joined(name, "bias")]
    elif isinstance(after, BATCH_NORMS) and after.affine and after.running_var is not None:
        scale = after.weight / (after.running_var + after.eps).sqrt()
        g_z = gradients[_joined(layers[1][0], "bias")] * scale
    else:
        return None
    row = int(g_z.abs().argmax())
    if not g_z[row]:
        return None
    normalised = gradients[_joined(name, "weight")][row] / g_z[row]
    x_1CHW = normalised.view(1, *classifier.spec.shape) * classifier.std_C11 + classifier.mean_C11
    return x_1CHW.clamp(0, 1)


def _joined(name: str, parameter: str) -> str:
    return f"{name}.{parameter}" if name else parameter


def distance(computed: Gradients, leaked: Gradients) -> Tensor:
    """Return 1 - the cosine of two gradients, over all parameters together: 0 to 2."""
    along = torch.stack([(computed[name] * g).sum() for name, g in leaked.items()]).sum()
    lengths = [
        torch.stack([g.square().sum() for g in of.values()]).sum() for of in (computed, leaked)
    ]
    return 1 - along / (lengths[0] * lengths[1]).clamp_min(1e-30).sqrt()


class GradientLeakage(DescentInversion):
    """Reconstructs the images of a training batch from the gradient that they caused.

    All images of the batch are optimised together; drawing then selects by inferred labels.

    Args:
        conditioning: Draws the conditions of each batch. Only their labels are used.
        classifier: The network whose gradient has leaked; it is never changed.
        seed: Seed of the first pixels.
        log_every: Steps between two reports.
        gradients: Safetensors file with the gradient of each parameter of the network.
        images: Images in the leaked batch.
        steps: Steps of Adam.
        lr: Highest learning rate of the pixels; it falls along a cosine. Pixels are clamped to
            [0, 1].
        tv: Weight of the squared differences of neighbouring pixels, per pixel.
        init_std: Standard deviation of the first pixels about the mean training pixel.

    Raises:
        InputError: if the file is missing or belongs to another network, or the network is
            multi-label or has no second derivative.
    """

    final_lr = 0.01

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        seed: int,
        log_every: int,
        *,
        gradients: Annotated[str | None, FileName()] = None,
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
        if gradients is None:
            raise InputError(
                "method.gradients: is missing; method=gradient_leakage needs the gradient of a "
                "training batch: a safetensors file with the gradient of each parameter by name"
            )
        check_twice_differentiable(classifier, "method=gradient_leakage")
        # This objective only provides the names for logging.
        objective = Objective({"leakage": {"weight": 1.0, "_target_": _no_term}})
        super().__init__(
            conditioning, classifier, objective,
            steps=steps, lr=lr, init_std=init_std, log_every=log_every,
        )  # fmt: skip
        self.leaked = _read(Path(gradients), classifier)
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


def _read(path: Path, classifier: FrozenClassifier) -> dict[str, Tensor]:
    """Read the gradients, and check that they are those of the network's parameters."""
    gradients = read_tensors(path, f"method.gradients={path}")
    shapes = {name: weight.shape for name, weight in classifier.network.named_parameters()}
    for name, shape in shapes.items():
        if name not in gradients or gradients[name].shape != shape:
            given = gradients.get(name)
            has = "is missing" if given is None else f"has the shape {list(given.shape)}"
            raise InputError(
                f"method.gradients={path}: the gradient of {name} {has}, but the network has a "
                f"parameter of the shape {list(shape)}. Give the gradients of this network"
            )
    if not all(gradients[name].isfinite().all() for name in shapes):
        raise InputError(f"method.gradients={path}: contains values that are not finite")
    return {name: gradients[name].float() for name in shapes}


def _no_term(step: object) -> Tensor:
    raise NotImplementedError("the loss is a distance of gradients")
