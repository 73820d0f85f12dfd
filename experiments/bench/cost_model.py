"""Cost model of an inversion: FLOPs, memory and traffic per training step, from a config.

    python -m experiments.bench.cost_model +experiment=cifar_invert application.batch_size=256
    python -m experiments.bench.cost_model --network resnet50 --classes 1000 --pixels 224 \
        --devices 8 application.batch_size=256
    python -m experiments.bench.cost_model --check        # writes cost_model.csv

`--network` is a network of torchvision with random weights instead of the classifier of the config.
The model needs training steps of two and of four images; `--check` compares it with whole steps.

Symbols: B images per step, K generators, R processes; of the generator G and the classifier C: F
FLOPs of one forward pass per image, P parameters; A bytes that one image keeps for the backward
pass, and S bytes for any batch; f and b classifier passes per image, forward and backward.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

import netinv_lightning
from experiments.bench.training_steps import peak_flops
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.layers import BatchNorm
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.training.trainer import keep_freed_memory

FLOAT = 4
"""Bytes of a float32 number."""
PROBE = 2
"""Images of the step that the model is built from."""
STEPS = 15
CHECKS = (
    ("quickstart", ["+experiment=quickstart"]),
    ("cifar_invert", ["+experiment=cifar_invert"]),
    (
        "resnet18 at 224 pixels",
        ["--network", "resnet18", "--classes", "1000", "--pixels", "224",
         "application.batch_size=8", "conditioning=label", "loss=ce_only"],
    ),
)  # fmt: skip
FILE = Path(__file__).with_name("cost_model.csv")
COLUMNS = (
    "size", "batch", "gflop_model", "gflop_counted", "memory_mb_model", "memory_mb_measured",
    "seconds_per_step", "share_of_peak_flops",
)  # fmt: skip


@dataclass(frozen=True)
class CostModel:
    """Costs per image and per generator; see the symbols above."""

    flops_G: float
    flops_C: float
    parameters_G: int
    parameters_C: int
    kept_bytes: float
    fixed_bytes: float
    forwards: float
    backwards: float
    norm_channels: int

    def flops(self, batch: int, generators: int = 1) -> float:
        """K B (3 F_G + (f + b) F_C): the weights of the classifier need no gradient."""
        per_image = 3 * self.flops_G + (self.forwards + self.backwards) * self.flops_C
        return generators * batch * per_image

    def memory(self, batch: int, generators: int = 1, devices: int = 1) -> float:
        """4 (P_C + 4 K P_G) + K (S + A B / R) bytes: weights, gradients, two moments of Adam."""
        weights = FLOAT * (self.parameters_C + 4 * generators * self.parameters_G)
        return weights + generators * (self.fixed_bytes + self.kept_bytes * batch / devices)

    def traffic(self, generators: int = 1, devices: int = 1) -> float:
        """Bytes that a process sends per step: a ring all-reduce of the gradients and of BatchNorm.

        2 (R - 1) / R * 4 K (P_G + 4 channels): two sums per channel, forward and backward.
        """
        numbers = generators * (self.parameters_G + 4 * self.norm_channels)
        return 2 * (devices - 1) / devices * FLOAT * numbers


def build(keys: Sequence[str], network: str | None, classes: int, pixels: int) -> InversionModule:
    """Return the module of a config, ready for training steps on the CPU."""
    torch.manual_seed(0)
    keep_freed_memory()
    cfg = netinv_lightning.compose(["trainer.precision=32-true", *keys])
    classifier = None
    if network is not None:
        names = tuple(map(str, range(classes)))
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        spec = DataSpec("own", classes, 3, pixels, mean, std, names)
        classifier = FrozenClassifier(getattr(models, network)(num_classes=classes), spec)
    module = make_module(cfg, classifier)
    module._record = lambda values_GV: None  # type: ignore[method-assign]
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.generators.start_streams(torch.device("cpu"), None)
    return module


def step(module: InversionModule) -> None:
    module.zero_grad()
    module.training_step(None, 0).backward()


def kept_for_backward(module: InversionModule, batch: int) -> int:
    """Return the bytes that a step of a batch keeps for its backward pass, without parameters."""
    storages: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in module.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    module.batch_size = batch
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step(module)
    return sum(storages.values())


def cost_model(module: InversionModule) -> CostModel:
    """Build the model from steps of two and of four images."""
    whole, counts, K = module.batch_size, module.classifier.forward_count, module.n_generators
    before = counts.forwards, counts.backwards
    few = kept_for_backward(module, PROBE)
    images = PROBE * K
    passes = (counts.forwards - before[0]) / images, (counts.backwards - before[1]) / images
    kept = (kept_for_backward(module, 2 * PROBE) - few) / images
    generator, classifier = module.generator, module.classifier
    with torch.no_grad():
        condition = module.conditioning.sample(PROBE, "cpu", module.generators.streams[0])
        z_BZ = generator.sample_latent(PROBE, "cpu", module.generators.streams[0])
        with FlopCounterMode(display=False) as of_generator:
            x_BCHW = generator(z_BZ, condition)
        with FlopCounterMode(display=False) as of_classifier:
            classifier(x_BCHW)
    module.batch_size = whole
    norms = [norm for norm in generator.modules() if isinstance(norm, BatchNorm)]
    return CostModel(
        of_generator.get_total_flops() / PROBE,
        of_classifier.get_total_flops() / PROBE,
        _size(generator),
        _size(classifier),
        kept,
        few / K - PROBE * kept,
        *passes,
        sum(norm.num_features for norm in norms),
    )


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def measure(module: InversionModule) -> tuple[float, float, float]:
    """Return counted FLOPs, peak bytes above the start, and seconds, of whole steps."""
    before = _peak_bytes()
    step(module)
    used = _peak_bytes() - before
    with FlopCounterMode(display=False) as counter:
        step(module)
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step(module)
        times.append(time.perf_counter() - start)
    return counter.get_total_flops(), used, median(times)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def describe(module: InversionModule, devices: int) -> str:
    model, B, K = cost_model(module), module.batch_size, module.n_generators
    return (
        f"batch {B}, generators {K}, devices {devices}\n"
        f"generator: {model.parameters_G:,} parameters, {model.flops_G / 1e9:.3f} GFLOP and "
        f"{model.kept_bytes / 1e6:.1f} MB per image (with the classifier)\n"
        f"classifier: {model.parameters_C:,} parameters, {model.flops_C / 1e9:.3f} GFLOP, "
        f"{model.forwards:g} forward, {model.backwards:g} backward passes per image\n"
        f"per step: {model.flops(B, K) / 1e9:.1f} GFLOP in all\n"
        f"per device: {model.memory(B, K, devices) / 1e6:.0f} MB, "
        f"sends {model.traffic(K, devices) / 1e6:.2f} MB per step\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("keys", nargs="*", help="keys of the config")
    parser.add_argument("--network", help="a network of torchvision, with random weights")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="compare with steps of three sizes")
    parser.add_argument("--row", help="name of a row of the check, measured in this process")
    options = parser.parse_args()
    if options.check:
        check()
        return
    module = build(options.keys, options.network, options.classes, options.pixels)
    if options.row is None:
        print(describe(module, options.devices), end="")
        return
    flops, used, seconds = measure(module)
    model, B = cost_model(module), module.batch_size
    there = FLOAT * (model.parameters_C + 3 * model.parameters_G)  # before the step, or Adam's
    row = (
        options.row, B, f"{model.flops(B) / 1e9:.2f}", f"{flops / 1e9:.2f}",
        f"{(model.memory(B) - there) / 1e6:.0f}", f"{used / 1e6:.0f}",
        f"{seconds:.3f}", f"{flops / seconds / peak_flops():.2f}",
    )  # fmt: skip
    csv.writer(sys.stdout, lineterminator="\n").writerow(row)


def check() -> None:
    """Measure each size in a process of its own, and write the file."""
    rows = []
    for name, words in CHECKS:
        command = [sys.executable, "-m", "experiments.bench.cost_model", "--row", name, *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(done.stdout.splitlines()[-1] + "\n")
        print(rows[-1], end="", flush=True)
    FILE.write_text(",".join(COLUMNS) + "\n" + "".join(rows))


if __name__ == "__main__":
    main()
