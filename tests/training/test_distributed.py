"""One batch shared by several processes (gloo, on the CPU) equals the batch in one process."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.forked import fork_server
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion import losses
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.layers import BatchNorm, ChannelDropout
from netinv_lightning.inversion.micro_batches import trace_in_parts
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.terms import Step
from netinv_lightning.metrics.accuracy import InversionAccuracy
from netinv_lightning.metrics.diversity import ClassCosine
from netinv_lightning.training.distributed import Stream, sum_over_ranks, world_size

B, N = 12, 4
SPEC = DataSpec("made_up", N, 1, 28, (0.0,), (1.0,), tuple("abcd"))


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(18, N)
        with torch.no_grad():
            self.linear.weight.copy_(seeded(N, 18, seed=5))
            self.linear.bias.zero_()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.linear(x_BCHW.flatten(1)).tanh() * 2


def statistics_in_parts(f_BD: Tensor, label_B: Tensor) -> Tensor:
    """Return a term of BatchNorm statistics and one of features, computed for 2 rows at once."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm1d(18), nn.Linear(18, N))
    spec = DataSpec("table", N, 18, (), (0.0,) * 18, (1.0,) * 18, tuple("abcd"))
    _, features, normed = trace_in_parts(FrozenClassifier(network, spec), f_BD, 2)
    distance = losses.statistics_distance(normed["0"], torch.zeros(18), torch.ones(18))
    return 0.1 * distance + losses.cosine_similarity(features["penultimate"])


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine, d < B": lambda f, y: losses.cosine_similarity(f[:, :5]),
    "cosine, d > B": lambda f, y: losses.cosine_similarity(f),
    "cosine, absolute": lambda f, y: losses.cosine_similarity(f, absolute=True),
    "orthogonality, d < B": lambda f, y: losses.orthogonality(f[:, :5]),
    "orthogonality, d > B": lambda f, y: losses.orthogonality(f),
    "orthogonality, raw": lambda f, y: losses.orthogonality(f / 4, normalize=False),
    "kl": lambda f, y: losses.kl_divergence(F.one_hot(y, N).float(), f[:, :N]),
    "ce": lambda f, y: losses.cross_entropy(f[:, :N], y),
    "variation": lambda f, y: losses.variation(f.view(-1, 2, 3, 3)),
    "pixel": lambda f, y: losses.pixel_range(f.view(-1, 2, 3, 3)),
    "spectrum": lambda f, y: losses.power_law_distance(f.view(-1, 1, 3, 6).repeat(1, 1, 2, 1)),
    "patch similarity": lambda f, y: losses.similarity_divergence(f.view(-1, 6, 3)),
    "gradient of each image": lambda f, y: losses.gradient_norm(Network(), f.view(-1, 2, 3, 3), y),
    "gradient of the batch": lambda f, y: losses.gradient_norm(
        Network(), f.view(-1, 2, 3, 3), y, per_image=False
    ),
    "gradient of the batch, in parts": lambda f, y: losses.gradient_norm(
        Network(), f.view(-1, 2, 3, 3), y, per_image=False, micro_batch=2
    ),
    "statistics, in parts": statistics_in_parts,
}
"""Terms by name, of 18 numbers per image and the label; as large as those of a training."""


def values_and_gradients(share: slice) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each term for part of a batch, and its gradient with respect to shared weights."""
    results = {}
    for name, term in TERMS.items():
        weights = (torch.eye(18) + 0.1 * seeded(18, 18, seed=1)).requires_grad_()
        value = term(seeded(B, 18)[share] @ weights, torch.arange(B)[share] % N)
        (gradient,) = torch.autograd.grad(value, weights)
        results[name] = (value.detach(), gradient)
    return results


def batch_norm(share: slice, half: bool = False) -> dict[str, Tensor]:
    norm = BatchNorm(3)
    x = seeded(B, 3, 2, 2).mul(2).add(1)[share].requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = norm(x.bfloat16() if half else x)
    (gradient,) = torch.autograd.grad((y * seeded(B, 3, 2, 2, seed=2)[share]).sum(), x)
    return {
        "y": y.detach(),
        "gradient": gradient,
        "mean": norm.running_mean,
        "var": norm.running_var,
    }


def training_step(share: slice) -> dict[str, Tensor]:
    """Return total loss, gradient and running statistics of a generator's step in bfloat16."""
    torch.manual_seed(0)
    conditioning, classifier = (
        Conditioning(N, 28),
        FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.Linear(8, N)), SPEC),
    )
    generator = Generator(conditioning, 1, 28, 4, 8, [8], [8, 8], dropout=0.2)
    objective = Objective(
        {name: {"weight": 1.0} for name in ("kl", "ce", "cosine", "orthogonality", "class_spread")}
    )
    stream, share_size = Stream(7), share.stop - share.start
    generator.draw_dropout_from(stream)
    condition, z_BZ = (
        conditioning.sample(share_size, "cpu", stream),
        generator.sample_latent(share_size, "cpu", stream),
    )
    with torch.autocast("cpu", torch.bfloat16):
        x_BCHW = generator(z_BZ, condition)
        logits_BN, features, _ = classifier.trace(x_BCHW)
        step = Step(x_BCHW, condition, logits_BN, features, classifier, generator)
        total = objective.total(objective(step))
    total.backward()
    gradient = torch.cat(
        [weight.grad.flatten() for weight in generator.parameters() if weight.grad is not None]
    )
    means = {
        "total": total.detach(),
        "gradient": gradient,
    }  # averaged as by DistributedDataParallel
    running = torch.cat([buffer for name, buffer in generator.named_buffers() if "running" in name])
    return {
        "images": x_BCHW.detach(),
        "running": running,
        **{name: sum_over_ranks(value) / world_size() for name, value in means.items()},
    }


def metrics(share: slice) -> dict[str, Tensor]:
    accuracy, cosine = InversionAccuracy(N), ClassCosine(N, 18)
    labels = torch.arange(B)[share] % N
    accuracy.update(seeded(B, N, seed=3)[share], labels, F.one_hot(labels, N).float())
    cosine.update(seeded(B, 18)[share], labels)
    return {**accuracy.compute(), **cosine.compute()}


def draws() -> Tensor:
    stream = Stream(7)
    share = B // (dist.get_world_size() if dist.is_initialized() else 1)
    dropout = ChannelDropout(0.5)
    dropout.stream = stream
    return torch.cat(
        [
            stream.normal(share, 3),
            stream.uniform(share, 3),
            dropout(torch.ones(share, 3, 1, 1)).flatten(1),
        ],
        dim=1,
    )


def worker(rank: int, world: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world
    )
    share = slice(rank * B // world, (rank + 1) * B // world)
    averaged = {
        name: (sum_over_ranks(value) / world, sum_over_ranks(gradient) / world)
        for name, (value, gradient) in values_and_gradients(share).items()
    }  # averaged as by DistributedDataParallel
    found = {
        "terms": averaged,
        "norm": batch_norm(share),
        "norm_in_half": batch_norm(share, half=True),
        "metrics": metrics(share),
        "draws": draws(),
        "step": training_step(share),
    }
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4])
def ranks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    fork_server()  # has already imported the libraries
    arguments, processes = (request.param, str(folder)), request.param
    mp.start_processes(worker, arguments, processes, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


@pytest.fixture(scope="module")
def whole_batch() -> dict[str, tuple[Tensor, Tensor]]:
    return values_and_gradients(slice(0, B))


@pytest.mark.parametrize("term", TERMS)
def test_terms_and_gradients_equal_those_of_the_whole_batch(
    ranks: list[dict[str, Any]], whole_batch: dict[str, tuple[Tensor, Tensor]], term: str
) -> None:
    value, gradient = whole_batch[term]
    largest = gradient.abs().max()
    assert largest > 1e-3  # the gradient is not negligible
    for rank in ranks:
        found, of_found = rank["terms"][term]
        torch.testing.assert_close(found, value, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(of_found / largest, gradient / largest, rtol=0, atol=3e-6)


def test_separate_shares_give_another_value() -> None:
    """Otherwise the test above could not fail."""
    value, _ = values_and_gradients(slice(0, B))["orthogonality, d > B"]
    shares = [
        values_and_gradients(slice(first, first + B // 2))["orthogonality, d > B"][0]
        for first in (0, B // 2)
    ]
    assert abs(sum(shares) / 2 - value) > 1e-4  # a hundred times the tolerance


def test_batch_norm_uses_the_whole_batch(ranks: list[dict[str, Any]]) -> None:
    whole = batch_norm(slice(0, B))
    for name in ("y", "gradient"):
        torch.testing.assert_close(
            torch.cat([rank["norm"][name] for rank in ranks]), whole[name], rtol=1e-5, atol=1e-6
        )
    for name in ("mean", "var"):
        for rank in ranks:
            torch.testing.assert_close(rank["norm"][name], whole[name], rtol=1e-6, atol=1e-6)
    reference = nn.BatchNorm2d(3)
    assert torch.equal(whole["y"], reference(seeded(B, 3, 2, 2).mul(2).add(1)).detach())


def test_batch_norm_in_bfloat16_has_float32_statistics(ranks: list[dict[str, Any]]) -> None:
    whole = batch_norm(slice(0, B), half=True)
    assert whole["y"].dtype == torch.bfloat16
    y, gradient = (
        torch.cat([rank["norm_in_half"][name] for rank in ranks]) for name in ("y", "gradient")
    )
    torch.testing.assert_close(y, whole["y"], rtol=2**-7, atol=2**-8)  # one unit in the last place
    torch.testing.assert_close(gradient, whole["gradient"], rtol=2**-6, atol=2**-6)
    for name in ("mean", "var"):
        for rank in ranks:
            torch.testing.assert_close(
                rank["norm_in_half"][name], whole[name], rtol=1e-6, atol=1e-6
            )


def test_a_bfloat16_training_step_equals_that_of_one_process(ranks: list[dict[str, Any]]) -> None:
    """Results agree up to the rounding of bfloat16, 2^-8 per operation."""
    whole = training_step(slice(0, B))
    images = torch.cat([rank["step"]["images"] for rank in ranks])
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, whole["images"], rtol=0, atol=0.02)
    for rank in ranks:
        torch.testing.assert_close(rank["step"]["running"], whole["running"], rtol=0.01, atol=0.01)
        torch.testing.assert_close(rank["step"]["total"], whole["total"], rtol=0.01, atol=0)
        assert torch.cosine_similarity(rank["step"]["gradient"], whole["gradient"], dim=0) > 0.99


def test_metrics_are_exact(ranks: list[dict[str, Any]]) -> None:
    whole = metrics(slice(0, B))
    for rank in ranks:
        assert torch.equal(rank["metrics"]["confusion_NN"], whole["confusion_NN"])
        assert rank["metrics"]["accuracy"] == whole["accuracy"]
        for name in ("confidence", "kl", "intra", "inter"):
            torch.testing.assert_close(rank["metrics"][name], whole[name], rtol=1e-12, atol=1e-12)


def test_draws_do_not_depend_on_the_number_of_processes(ranks: list[dict[str, Any]]) -> None:
    assert torch.equal(torch.cat([rank["draws"] for rank in ranks]), draws())


def test_a_pickled_stream_continues() -> None:
    stream = Stream(3)
    stream.normal(5, 2)
    again = pickle.loads(pickle.dumps(stream))
    assert torch.equal(again.uniform(4, 3), stream.uniform(4, 3))
