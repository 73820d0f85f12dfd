"""Metrics of two processes (gloo, on the CPU) equal those of one.

Shape suffixes: B batch, N classes, D features, C channels, H height, W width.
"""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from experiments.forked import fork_server
from netinv_lightning.classifiers.networks import MLP
from netinv_lightning.metrics import lpips
from netinv_lightning.metrics.accuracy import InversionAccuracy
from netinv_lightning.metrics.cas import ClassificationAccuracyScore
from netinv_lightning.metrics.diversity import Duplicates, Vendi
from netinv_lightning.metrics.fidelity import frechet_distance, kernel_distance
from netinv_lightning.metrics.lpips import ClassLPIPS
from netinv_lightning.metrics.manifold import Manifold
from netinv_lightning.metrics.stability import Stability
from netinv_lightning.metrics.two_sample import TwoSample

B, N, D = 48, 3, 5
METRICS = (
    "accuracy",
    "stability",
    "vendi",
    "duplicates",
    "manifold",
    "fid",
    "kid",
    "c2st",
    "cas",
    "lpips",
)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def values(share: slice) -> dict[str, Tensor]:
    """Return every metric for part of the images, or for all parts in several processes."""
    f_BD, real_BD = seeded(B, D, seed=1)[share], seeded(B, D, seed=2) + 0.5
    label_B = torch.arange(B) % N
    brightness_B111 = 0.4 + 0.1 * label_B[:, None, None, None]
    x_BCHW, real_BCHW = (
        (seeded(B, 1, 6, 6, seed=seed).mul(0.2) + brightness_B111).clamp(0, 1) for seed in (3, 4)
    )
    x_BCHW[24:30] = x_BCHW[:6]  # duplicates, also across processes
    x_share, label_share = x_BCHW[share], label_B[share]

    def classifier(x_BCHW: Tensor) -> Tensor:
        return x_BCHW.flatten(1)[:, :N]

    accuracy, stability, vendi, duplicates = (
        InversionAccuracy(N),
        Stability(seed=1),
        Vendi(N, D),
        Duplicates(),
    )
    accuracy.update(
        seeded(B, N, seed=5)[share], label_share, torch.full((len(label_share), N), 1 / N)
    )
    stability.update(x_share, label_share, classifier)
    vendi.update(f_BD, label_share)
    duplicates.update(x_share, label_share)
    manifold, c2st = Manifold(real_BD, 3), TwoSample(real_BD)
    fid, kid = (
        frechet_distance(real_BD[share]),
        kernel_distance(real_BD[share], 20),
    )  # as in torchmetrics: both kinds are distributed
    fid.update(f_BD.double(), real=False)
    kid.update(f_BD, real=False)
    cas = ClassificationAccuracyScore(partial(MLP, N, 1, 6, widths=(8,)), real_BCHW, label_B)
    lpips = ClassLPIPS()
    for metric, inputs in ((manifold, (f_BD,)), (c2st, (f_BD,)), (cas, (x_share, label_share))):
        metric.update(*inputs)
    for part in torch.arange(len(x_share)).split(B // 2):  # pairs are formed within a batch
        lpips.update(x_share[part], label_share[part])
    computed: dict[str, Tensor] = {}
    for name, metric in zip(
        METRICS,
        (accuracy, stability, vendi, duplicates, manifold, fid, kid, c2st, cas, lpips),
        strict=True,
    ):
        value = metric.compute()
        named = (
            value.items()
            if isinstance(value, dict)
            else [("", value[0] if isinstance(value, tuple) else value)]
        )
        computed |= {f"{name}.{key}": torch.as_tensor(number).double() for key, number in named}
    return computed


class FewWeights(nn.Module):
    """Distance of two images that replaces the LPIPS network, whose weights are missing."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.net = self

    def forward(self, x_BCHW: Tensor, y_BCHW: Tensor, normalize: bool) -> Tensor:
        return (x_BCHW - y_BCHW).square().mean(dim=(1, 2, 3))


def worker(rank: int, folder: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    lpips.LearnedPerceptualImagePatchSimilarity = FewWeights  # type: ignore[misc, assignment]
    lpips.lpips_missing = lambda: None
    share = slice(rank * B // 2, (rank + 1) * B // 2)
    if rank == 0:
        torch.save({"whole": values(slice(0, B)), "share": values(share)}, f"{folder}/alone.pt")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(values(share), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """Return the results of one process, for all images and for a share, and of two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    fork_server()  # has already imported the libraries
    mp.start_processes(worker, (str(folder),), 2, start_method="forkserver")
    alone, first, second = (
        torch.load(folder / f"{name}.pt", weights_only=True) for name in ("alone", 0, 1)
    )
    return {**alone, "first": first, "second": second}


def of_metric(values: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in values.items() if key.startswith(f"{name}.")}


@pytest.mark.parametrize("name", METRICS)
def test_two_processes_compute_the_same_as_one(
    computed: dict[str, dict[str, Tensor]], name: str
) -> None:
    expected = of_metric(computed["whole"], name)
    assert expected
    for process in ("first", "second"):
        torch.testing.assert_close(
            of_metric(computed[process], name), expected, rtol=1e-5, atol=1e-6
        )
    # A share alone gives other values; otherwise this test could not fail.
    share = of_metric(computed["share"], name)
    assert any(not torch.allclose(share[key], value, rtol=1e-4) for key, value in expected.items())
