"""Choose how to make inverted MNIST images diverse: variants on seed 0, with their own judges.

    python -m experiments.meaning.choice        # minutes per variant on one core; writes choice.csv

The judges are the `mnist_vit` of the zoo and a ResNet with another seed; what the images teach is
evaluated on training images. `run.py` reports with other networks, other seeds and test images. The
variants are prototypes: what won is part of the package (`application.round_steps`,
`application.sampling_views`, `loss.networks`).

Shape suffixes: B batch, n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from experiments.jobs import Row, run_missing
from experiments.meaning.verifiers import CHOOSING, trained
from netinv_lightning import compose
from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.build import load_carded, load_zoo
from netinv_lightning.classifiers.features import extract_features, extract_logits
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import CNN
from netinv_lightning.config.plain import plain_dict
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.pixels import to_unit_range
from netinv_lightning.downstream.generator_rounds import reset_first_stage
from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.conditioning import Conditioning
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.sampling import sampling_mode
from netinv_lightning.inversion.terms import Step
from netinv_lightning.metrics.cas import ClassificationAccuracyScore
from netinv_lightning.metrics.diversity import Vendi
from netinv_lightning.metrics.manifold import Manifold
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.schedules import cosine_share
from netinv_lightning.training.seeds import own_randomness

HERE = Path(__file__).parent
LR, BATCH, FINAL = 6e-3, 48, 0.1
IMAGES, FEW, JUDGED = 2000, 1000, 2000
OTHERS = ("mnist_mlp", "mnist_resnet")
OTHER_TERMS = {name: {"weight": 1.0} for name in ("kl", "ce", "batch_norm")}
CPU = torch.device("cpu")


def module_of(seed: int) -> InversionModule:
    return make_module(compose(["+experiment=mnist_invert", "loss=natural", f"seed={seed}"]))


def descend(
    module: InversionModule,
    steps: int,
    others: Sequence[FrozenClassifier],
    restart: bool = False,
) -> None:
    """Train the generator of a module against its classifier and others, with a cosine schedule."""
    generator, stream = module.generator, module.generators.streams[0]
    if restart:
        reset_first_stage(generator)
    terms = Objective(OTHER_TERMS)
    optimizer = torch.optim.Adam(generator.parameters(), LR, (0.5, 0.99))
    generator.train()
    for number in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * cosine_share(math.pi * number / steps, FINAL)
        z_BZ = generator.sample_latent(BATCH, CPU, stream)
        condition = module.conditioning.sample(BATCH, CPU, stream)
        x_BCHW = generator(z_BZ, condition)
        view_BCHW = module.augmentation(x_BCHW, stream)
        loss = torch.zeros(())
        for network in (module.classifier, *others):
            objective = module.objective if network is module.classifier else terms
            step = Step.of_views(
                x_BCHW, view_BCHW, condition, network, None, generator=generator, stream=stream
            )
            loss = loss + objective.total(objective(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def separately(count: int, steps: int, others: Sequence[FrozenClassifier]) -> list[Generator]:
    """Return independent generators, each trained for some steps."""
    generators = []
    for seed in range(count):
        module = module_of(seed)
        module.generator.draw_dropout_from(module.generators.streams[0])
        descend(module, steps, others)
        generators.append(module.generator)
    return generators


def in_rounds(
    first: int, rounds: int, steps: int, others: Sequence[FrozenClassifier]
) -> list[Generator]:
    """Return copies of one generator after each round, which restarts its first stage."""
    module, generators = module_of(0), []
    for number in range(rounds + 1):
        torch.manual_seed(number)
        descend(module, steps if number else first, others, restart=bool(number))
        generators.append(copy.deepcopy(module.generator))
    return generators


def draw(
    generators: Sequence[Generator], conditioning: Conditioning, n: int, hot: bool
) -> tuple[Tensor, Tensor]:
    """Return n images and labels, equally many of each generator."""
    images, labels = [], []
    for number, generator in enumerate(generators):
        with own_randomness(999 + number, CPU), sampling_mode(generator, True, "running"):
            condition = conditioning.sample(math.ceil(n / len(generators)), hot=hot)
            with torch.no_grad():
                images.append(generator(generator.sample_latent(len(condition.label_B)), condition))
            labels.append(condition.label_B)
    order_n = torch.randperm(sum(map(len, labels)), generator=torch.Generator().manual_seed(0))[:n]
    return torch.cat(images)[order_n], torch.cat(labels)[order_n]


def judge(draw_images: Callable[[int, bool], tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Return transfer as a share of the ceiling, worst class, recall, Vendi, and CAS."""
    data = ImageDataModule(**plain_dict(compose().data))
    train_nCHW, train_n = to_unit_range(data.train[0][:10_000]), data.train[1][:10_000]
    test_nCHW, test_n = to_unit_range(data.test[0][:JUDGED]), data.test[1][:JUDGED]
    judges = {"mnist_vit": load_zoo("mnist_vit")} | {
        path.stem: load_carded(path, str(path)) for path in trained(CHOOSING)
    }
    x_nCHW, label_n = draw_images(IMAGES, True)
    found: dict[str, float] = {}
    for name, network in judges.items():
        ceiling = _accuracy(extract_logits(network, test_nCHW), test_n)
        count = FEW if name == "mnist_vit" else IMAGES
        seen = extract_features(network, x_nCHW[:count])
        right_n = (seen.predicted_n == label_n[:count]).double()
        found[f"hot/{name}"] = float(right_n.mean()) / ceiling
        found[f"worst class/{name}"] = min(
            float(right_n[label_n[:count] == label].mean()) for label in range(10)
        )
    real_nD = extract_features(network, train_nCHW[:JUDGED]).features_nD
    manifold, scores = Manifold(real_nD), []
    manifold.update(seen.features_nD)
    for f_nD, of_n in ((seen.features_nD, label_n), (real_nD, train_n[:JUDGED])):
        vendi = Vendi(10, f_nD.shape[1])
        vendi.update(f_nD, of_n)
        scores.append(float(vendi.compute()["class_mean"]))
    make = partial(CNN, 10, 1, 28, stages=((16,), (32,), (64,)), hidden=64)
    cas = ClassificationAccuracyScore(make, train_nCHW[8000:], train_n[8000:], 0)
    cas.update(x_nCHW, label_n)
    return found | {
        "recall": float(manifold.compute()["recall"]),
        "Vendi as a share of real images": scores[0] / scores[1],
        names.CAS: float(cas.compute()),
    }


def _accuracy(logits_nN: Tensor, label_n: Tensor) -> float:
    return float((logits_nN.argmax(dim=1) == label_n).double().mean())


def variants(others: Sequence[FrozenClassifier]) -> Iterator[tuple[str, Callable[[], list], bool]]:
    """Yield name, generators, and whether views of the samples are drawn."""
    yield "one generator, 300 steps", partial(separately, 1, 300, ()), False
    yield "three networks, 300 steps", partial(separately, 1, 300, others), False
    yield "three networks, 5 generators x 60 steps", partial(separately, 5, 60, others), False
    rounds = partial(in_rounds, 120, 9, 40, others)
    yield "three networks, 10 rounds", rounds, False
    yield "three networks, 10 rounds, views", rounds, True
    yield "10 rounds, views", partial(in_rounds, 120, 9, 40, ()), True


def one(variant: str) -> list[Row]:
    """Make the images of one variant and judge them."""
    others = [load_zoo(name) for name in OTHERS]
    make, views = next((make, views) for name, make, views in variants(others) if name == variant)
    start = time.process_time()
    generators = make()
    seconds = time.process_time() - start
    module = module_of(0)

    def images(n: int, hot: bool) -> tuple[Tensor, Tensor]:
        x_nCHW, label_n = draw(generators, module.conditioning, n, hot)
        return module.augmentation.without_noise()(x_nCHW, Stream(5)) if views else x_nCHW, label_n

    numbers = {name: round(value, 3) for name, value in judge(images).items()}
    return [{"variant": variant, **numbers, "seconds of one core": round(seconds)}]


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    torch.set_num_threads(1)
    jobs = [(name,) for name, _, _ in variants(())]
    run_missing(HERE / "choice.csv", ("variant",), jobs, one, at_once=1)


if __name__ == "__main__":
    main()
