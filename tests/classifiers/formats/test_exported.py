"""Programs of torch.export: the same logits, recorded layers, and no code of the file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

import netinv_lightning
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.classifiers.formats.described import read_described
from netinv_lightning.errors import InputError

BATCH = torch.export.Dim("batch")


class Awkward(nn.Module):
    """Tied convolution with two strides, unused output, constants, arithmetic on the batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(8, 7)
        self.scale = nn.Parameter(torch.tensor([2.0, 3.0, 4.0, 5.0]))
        self.norm.running_mean = torch.tensor([0.1, 0.2, 0.3, 0.4])

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        h = self.norm(self.first(x_BCHW)).relu() * self.scale[:, None, None]
        half, other = h.chunk(2, dim=1)
        h = torch.cat([half, other, torch.ones_like(h)], dim=1)
        f = h.mean(dim=(2, 3)).reshape(x_BCHW.shape[0], -1)
        return f, self.head(f)


def exported(network: nn.Module, path: Path, shape: tuple[int, ...], dynamic: bool = True) -> Path:
    sizes = ({0: BATCH},) if dynamic else None
    program = torch.export.export(network.eval(), (torch.zeros(shape),), dynamic_shapes=sizes)
    torch.export.save(program, path)
    return path


def small_mobile_net() -> nn.Module:
    """Return a MobileNetV3 of two blocks: squeeze and excitation, hard swish, depthwise layers."""
    blocks = [
        InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
        InvertedResidualConfig(16, 5, 64, 24, True, "HS", 2, 1, 1.0),
    ]
    return MobileNetV3(blocks, 32, num_classes=4)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (Awkward, (2, 1, 28, 28)),
        (lambda: torchvision.models.resnet18(num_classes=5), (2, 3, 32, 32)),
        (
            lambda: torchvision.models.VisionTransformer(32, 16, 1, 2, 16, 32, num_classes=6),
            (2, 3, 32, 32),
        ),
        (small_mobile_net, (2, 3, 32, 32)),
    ],
)
def test_an_exported_program_returns_the_same_numbers(
    make: Callable[[], nn.Module], shape: tuple[int, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = make().eval()
    found = read_described(exported(network, tmp_path / "net.pt2", shape))
    x_BCHW = torch.rand(3, *shape[1:])
    expected, given = network(x_BCHW), found.network(x_BCHW)
    pairs = (
        zip(expected, given, strict=True) if isinstance(expected, tuple) else [(expected, given)]
    )
    assert all(torch.equal(one, other) for one, other in pairs)
    assert (found.facts["channels"], found.facts["image_size"]) == (shape[1], shape[2])


def test_layers_and_statistics_of_a_program_are_recorded(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(507, 10)
    )
    network[1].running_mean = torch.tensor([1.0, 2.0, 3.0])
    path = exported(network, tmp_path / "net.pt2", (2, 1, 28, 28))
    frozen = load_classifier(
        netinv_lightning.compose(["data=mnist", "classifier=checkpoint", f"classifier.path={path}"])
    )
    x_BCHW = torch.rand(4, 1, 28, 28)
    logits_BN, features, normed = frozen.trace(x_BCHW)
    x_BCHW = (x_BCHW - 0.1307) / 0.3081
    assert torch.allclose(logits_BN, network(x_BCHW), atol=1e-6)  # mean and std of the data
    assert torch.allclose(features["penultimate"], network[:4](x_BCHW), atol=1e-6)
    assert torch.allclose(normed["layers.1"], network[0](x_BCHW), atol=1e-6)
    assert torch.equal(frozen.batch_norms["layers.1"].running_mean, network[1].running_mean)
    assert frozen.spec.name == "mnist"


def test_a_program_says_its_classes_and_shape(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 7))
    path = exported(network, tmp_path / "net.pt2", (2, 3, 32, 32))
    frozen = load_classifier(
        netinv_lightning.compose(["classifier=checkpoint", f"classifier.path={path}"])
    )
    assert (frozen.spec.name, frozen.spec.num_classes, frozen.spec.shape) == (
        "own",
        7,
        (3, 32, 32),
    )


class FixedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(784, 10)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(x_BCHW.reshape(2, 784))


def test_a_fixed_batch_works_or_is_refused(tmp_path: Path) -> None:
    any_batch = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
    path = exported(any_batch, tmp_path / "any.pt2", (2, 1, 28, 28), dynamic=False)
    x_BCHW = torch.rand(5, 1, 28, 28)
    assert torch.equal(read_described(path).network(x_BCHW), any_batch(x_BCHW))
    path = exported(FixedBatch(), tmp_path / "fixed.pt2", (2, 1, 28, 28), dynamic=False)
    with pytest.raises(InputError, match="takes batches of exactly 2 images; export it with"):
        read_described(path)


def rewritten(source: Path, target: Path, change: Callable[[str, Any], Any]) -> Path:
    """Copy an archive with its JSON changed by `change(name, content)`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith(".json"):
                content = json.loads(data)
                change(name.rpartition("/")[2], content)
                data = json.dumps(content).encode()
            new.writestr(name, data)
    return target


def _pickled(name: str, content: Any) -> None:
    if name == "model_weights_config.json":
        content["config"]["1.weight"]["use_pickle"] = True


def _target(target: str) -> Callable[[str, Any], None]:
    def change(name: str, content: Any) -> None:
        if name == "model.json":
            content["graph_module"]["graph"]["nodes"][-1]["target"] = target

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_pickled, "1.weight is pickled, and unpickling could run code"),
        (_target("os.system"), "the operation os.system is not an ATen operation"),
        (_target("_operator.attrgetter"), "is not an ATen operation"),
        (_target("torch.ops.aten.from_file.default"), "is not supported: it may not be safe"),
        (_target("torch.ops.aten._cdist_backward.default"), "is not supported: it may not"),
        (lambda name, content: content.clear(), "is not a complete program of torch.export"),
    ],
)
def test_a_program_that_does_more_than_compute_is_refused(
    change: Callable[[str, Any], Any], said: str, tmp_path: Path
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    path = exported(network, tmp_path / "net.pt2", (2, 1, 28, 28))
    with pytest.raises(InputError, match=said):
        read_described(rewritten(path, tmp_path / "changed.pt2", change))


def test_a_damaged_program_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(InputError, match=r"contains 0 programs of torch\.export"):
        read_described(path)
