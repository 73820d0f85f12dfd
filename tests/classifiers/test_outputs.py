"""Find the logits among the outputs of a network, and convert other outputs to logits.

Each network here has one unusual property.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.errors import InputError
from tests.classifiers.network_outputs import N, Network, refusal, spec

X = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(1))
Pair = namedtuple("Pair", "features scores")


class Answer:
    def __init__(self, logits: Tensor) -> None:
        self.logits, self.attention = logits, None


def plain_logits(classes: int = N) -> Tensor:
    return Network(classes=classes).eval()((X - 0.2) / 0.4).detach()


@pytest.mark.parametrize(
    ("finish", "path"),
    [
        (lambda f, z: (f, z), "1"),
        (lambda f, z: [z, f, None], "0"),
        (lambda f, z: Pair(f, z), "scores"),
        (lambda f, z: {"logits": z}, "logits"),
        (lambda f, z: {"aux": z + 1, "logits": z}, "logits"),
        (lambda f, z: Answer(z), "logits"),
        (lambda f, z: (f, {"out": Answer(z)}), "1.out.logits"),
        (lambda f, z: (z.argmax(1), z), "1"),
        (lambda f, z: z[:, :, None, None], ""),
    ],
)
def test_logits_are_found_in_the_output_of_a_network(finish: Callable[..., Any], path: str) -> None:
    frozen = FrozenClassifier(Network(finish), spec())
    assert (frozen.output.name, frozen.output.kind) == (path, "logits")
    logits_BN, features = frozen.logits_and_features(X)
    torch.testing.assert_close(logits_BN, plain_logits())
    torch.testing.assert_close(frozen.logits_from(features["penultimate"]), plain_logits())
    assert (
        f" {path} is used" in frozen.output.describe("Network")
        if path
        else frozen.output.describe("Network") == ""
    )


def test_several_candidates_must_be_named() -> None:
    both = Network(lambda f, z: {"a": z, "b": {"c": 2 * z}})
    assert "a [B, 4], b.c [B, 4], several of shape [B, 4]" in refusal(both)
    assert (
        "classifier.output=b.d: Network has no such output; it returns a [B, 4], b.c [B, 4]"
        in refusal(both, output="b.d")
    )
    torch.testing.assert_close(FrozenClassifier(both, spec(), output="b.c")(X), 2 * plain_logits())
    assert "none of shape [B, 5]" in refusal(both, classes=5)
    assert "no floating-point tensor" in refusal(Network(lambda f, z: z.argmax(1)))


@pytest.mark.parametrize(
    ("finish", "kind"),
    [
        (lambda f, z: z.softmax(1), "probabilities"),
        (lambda f, z: z.double().softmax(1).half(), "probabilities"),
        (lambda f, z: z.exp() / z.exp().sum(1, keepdim=True), "probabilities"),
        (lambda f, z: z.log_softmax(1), "log_probabilities"),
        (lambda f, z: z.sigmoid(), "sigmoid"),
        (lambda f, z: z.exp(), "logits"),  # positive, but not probabilities
        (lambda f, z: z / 1000 + 0.5, "logits"),  # in [0, 1], but not probabilities
        (lambda f, z: -z.exp(), "logits"),
    ],
)
def test_probabilities_are_recognised_and_converted_to_logits(
    finish: Callable[..., Any], kind: str
) -> None:
    network = Network(finish)
    with torch.no_grad():
        network.linear.weight.div_(8)
        expected = network((X - 0.2) / 0.4).float()
    frozen = FrozenClassifier(network, spec())
    assert frozen.output.kind == kind
    found, tolerance = frozen(X), 5e-3 if expected.dtype != network(X).dtype else 1e-5
    if kind.endswith("probabilities"):
        p = expected if kind == "probabilities" else expected.exp()
        torch.testing.assert_close(found.softmax(1), p, rtol=tolerance, atol=tolerance)
    else:
        torch.testing.assert_close(
            found.sigmoid() if kind == "sigmoid" else found, expected, rtol=1e-4, atol=1e-5
        )
    assert (kind == "logits") == (frozen.output.describe("Network") == "")


def test_the_logarithm_has_a_gradient_if_softmax_is_saturated() -> None:
    frozen = FrozenClassifier(Network(lambda f, z: (3 * z).softmax(1)), spec())
    x_BCHW = X.clone().requires_grad_()
    (frozen(x_BCHW).softmax(1)[:, 0] + 1e-30).log().sum().backward()
    assert frozen.output.kind == "probabilities"
    assert bool((x_BCHW.grad.flatten(1).abs().amax(1) > 1e-3).all())


def test_the_kind_of_output_can_be_set() -> None:
    softmax = Network(lambda f, z: z.softmax(1))
    torch.testing.assert_close(
        FrozenClassifier(softmax, spec(), output_kind="logits")(X), plain_logits().softmax(1)
    )
    plain = Network(lambda f, z: z)
    assert "which cannot be probabilities. Leave the key out" in refusal(
        plain, output_kind="probabilities"
    )
    assert "which cannot be log_probabilities" in refusal(plain, output_kind="log_probabilities")
    assert "classifier.output_kind=odds: must be one of auto, logits" in refusal(
        softmax, output_kind="odds"
    )


@pytest.mark.parametrize(
    "finish", [lambda f, z: z, lambda f, z: z.squeeze(1), lambda f, z: (f, z.squeeze())]
)
def test_a_single_number_is_the_logit_of_the_positive_class(finish: Callable[..., Any]) -> None:
    z_B1 = plain_logits(1)
    for last, kind in ((finish, "logits"), (lambda f, z: finish(f, z.sigmoid()), "sigmoid")):
        frozen = FrozenClassifier(Network(last, 1), spec(2))
        assert (frozen.output.single, frozen.output.kind) == (True, kind)
        torch.testing.assert_close(
            frozen(X).softmax(1)[:, 1], z_B1[:, 0].sigmoid(), rtol=1e-4, atol=1e-6
        )
        assert frozen(X[:1]).shape == (1, 2)
        assert "class 1 is the positive class" in frozen.output.describe("Network")
    torch.testing.assert_close(
        FrozenClassifier(Network(finish, 1), spec(2))(X), torch.cat([0 * z_B1, z_B1], 1)
    )


def test_penultimate_features_of_convolutions_are_pooled() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, N, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    frozen = FrozenClassifier(network, spec())
    logits_BN, features = frozen.logits_and_features(X)
    torch.testing.assert_close(features["penultimate"], network[:2]((X - 0.2) / 0.4).mean((2, 3)))
    torch.testing.assert_close(frozen.logits_from(features["penultimate"]), logits_BN)
    frozen.check_cut("penultimate")
    network[2] = nn.Conv2d(
        6, N, 3
    )  # sees neighbours, so the pooled features do not determine the logits
    with pytest.raises(InputError, match="do not come from this layer alone"):
        FrozenClassifier(network, spec()).check_cut("penultimate")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_of_another_precision_give_float32_logits(dtype: torch.dtype) -> None:
    logits_BN = FrozenClassifier(Network().to(dtype), spec())(X)
    assert logits_BN.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(logits_BN.float(), plain_logits(), rtol=0.1, atol=0.5)


def test_wrapped_and_lazy_networks_are_unwrapped() -> None:
    compiled = nn.Module()  # wraps the network like torch.compile, but cheaply
    compiled._orig_mod = Network()
    for network in (nn.DataParallel(Network()), compiled):
        frozen = FrozenClassifier(network, spec(), ["linear"])
        torch.testing.assert_close(frozen(X), plain_logits())
    lazy = FrozenClassifier(
        nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(N)), spec()
    )
    assert lazy.feature_dims == {"penultimate": 8}
    scripted = torch.jit.trace(Network().eval(), X)
    torch.testing.assert_close(FrozenClassifier(scripted, spec(), ())(X), plain_logits())
    assert "features cannot be recorded inside a TorchScript network" in refusal(scripted)
