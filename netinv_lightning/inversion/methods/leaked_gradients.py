"""The gradient of a training batch: compute, store and read it, and what it reveals at once.

Shape suffixes: B images of the batch, C channels, H height, W width, N classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call

from netinv_lightning.classifiers.frozen import BATCH_NORMS, FrozenClassifier
from netinv_lightning.config.layer_names import PENULTIMATE
from netinv_lightning.data.tensor_files import read_tensors
from netinv_lightning.errors import InputError

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

    The gradient of the bias of class n is g_n = p_n - count_n / B, where p_n is the mean softmax
    probability of class n. It is negative only for classes in the batch. For one image, this gives
    the label (iDLG, Zhao et al. 2020, arXiv 2001.02610). For a batch, Geng et al. (2021, arXiv
    2110.09074) solve for the counts with p_n from other images, which fails for trained networks:
    they are confident of images of noise. Here the images are assumed to have their own label with
    probability 1 - r, and the rest r spread over N classes:

        p_n = (1 - r) count_n / B + r / N     ->     count_n = B (1 / N - g_n / r)

    r = N max_n g_n is the smallest value that makes no count negative: the class with the largest
    gradient has no image. Classes with a negative gradient get an image each; the further images
    go, one by one, to the class that lacks most of its count. Without a bias, the sum of the
    weights' gradients over the features is used, which has the same sign for features of 0 or more.

    Labels of small batches, and of networks that are not trained, are nearly always right. In
    batches of 8 to 32 digits and two trained networks of the zoo, 80 to 90 % were right.
    """
    head = classifier.find_layer(PENULTIMATE)
    by_id = {id(weight): name for name, weight in classifier.network.named_parameters()}
    bias = getattr(head, "bias", None)
    if bias is not None:
        g_N = gradients[by_id[id(bias)]]
    else:
        g_N = gradients[by_id[id(head.weight)]].flatten(1).sum(dim=1)
    N = len(g_N)
    r = (N * g_N.max()).clamp_min(torch.finfo(g_N.dtype).tiny)
    lacking_N = images * (1 / N - g_N / r)
    labels = g_N.argsort()[: min(images, max(1, int((g_N < 0).sum())))].tolist()
    lacking_N[labels] -= 1
    while len(labels) < images:
        labels.append(int(lacking_N.argmax()))
        lacking_N[labels[-1]] -= 1
    return torch.tensor(sorted(labels), device=g_N.device)


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


def read_gradients(path: Path, classifier: FrozenClassifier) -> dict[str, Tensor]:
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
