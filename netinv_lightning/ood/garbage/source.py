"""Where the images of the garbage class come from: inverted out of the classifier, and the two controls, noise and real outliers.

Shape suffixes: n images, k images a class, C channels, H height, W width, N classes without garbage.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.architecture import reading_keys
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.compose import compose
from netinv_lightning.config.ranges import LARGEST_SEED
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.outliers import gaussian_noise, outliers
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.build import make_module
from netinv_lightning.inversion.module import InversionModule, Steps, own_randomness
from netinv_lightning.training.progress import PlainProgress
from netinv_lightning.training.trainer import expected_warnings, make_trainer

DRAWN = 250
"""Images that a generator draws at a time."""


class Source(ABC):
    """Gives the garbage that an epoch adds.

    Attributes:
        generators: State of the generators, which is all that is carried from epoch to epoch; None where there are none.
    """

    generators: dict[str, Tensor] | None = None

    @abstractmethod
    def __call__(self, network: nn.Module, epoch: int) -> Tensor:
        """Images [n, C, H, W] in [0, 1].

        Args:
            network: The classifier's network as it stands after the epoch, normalised images to logits [n, N + 1].
            epoch: Counted from 0.
        """


class Noise(Source):
    """Gaussian noise, anew for each epoch: the control that tells whether inversion adds anything to the paper's beginning.

    Args:
        spec: Of the classifier's data.
        count: Images an epoch.
        seed: Of the noise.
    """

    def __init__(self, spec: DataSpec, count: int, seed: int) -> None:
        self.spec, self.count, self.seed = spec, count, seed

    def __call__(self, network: nn.Module, epoch: int) -> Tensor:
        return gaussian_noise(self.spec, self.count, noise_seed(self.seed, epoch + 1))


class RealOutliers(Source):
    """Real images that are not of the classifier's data: outlier exposure (Hendrycks et al. 2019), an upper bound.

    Args:
        sets: Names of sets; their training images are taken, in equal shares.
        spec: Of the classifier's data.
        count: Images an epoch, other ones in each as far as there are.
        seed: Of their choice.
        real: The classifier's data.
        root: Folder of the data sets.
    """

    def __init__(
        self,
        sets: Sequence[str],
        spec: DataSpec,
        count: int,
        seed: int,
        real: ImageDataModule,
        root: Path,
    ) -> None:
        self.parts = [
            as_bytes(outliers(name, spec, 10 * count, seed, root, train=True, real=real))
            for name in sets
        ]
        self.count, self.seed = count, seed

    def __call__(self, network: nn.Module, epoch: int) -> Tensor:
        share, chosen = -(-self.count // len(self.parts)), []
        for part_nCHW in self.parts:
            order_n = torch.randperm(
                len(part_nCHW), generator=torch.Generator().manual_seed(self.seed)
            )
            chosen.append(part_nCHW[order_n.roll(-epoch * share)[:share]])
        return torch.cat(chosen)[: self.count].float() / 255


class Inverted(Source):
    """Images that a generator inverts out of the classifier as it stands after the epoch, `per_class` for each class (A4-6).

    Args:
        name: Of the garbage classifier, for what is told.
        options: Its keys (`netinv_lightning.config.schema.Garbage`).
        spec: Of the extended classifier.
        seed: Of generators and draws.
        trainer: Keys of `lightning.Trainer`.

    Raises:
        InputError: if `options.inversion` is no inversion of such a classifier; checked when `check` is called.
    """

    def __init__(
        self, name: str, options: DictConfig, spec: DataSpec, seed: int, trainer: DictConfig
    ) -> None:
        self.name, self.options, self.spec, self.seed = name, options, spec, seed
        self.cfg = compose(options.inversion)
        for key, wanted, why in (
            ("application", "invert", "is no inversion"),
            ("method", "generator", "trains no generator"),
        ):
            if self.cfg[key].name != wanted:
                raise InputError(f"{key}={self.cfg[key].name} {why}; leave it out")
        self.cfg.trainer = {
            key: value for key, value in trainer.items() if key not in ("max_epochs", "max_steps")
        }

    def check(self, network: nn.Module) -> None:
        make_module(self.cfg, self._frozen(network))

    def __call__(self, network: nn.Module, epoch: int) -> Tensor:
        cfg, warm = (
            self.cfg.copy(),
            self.generators is not None and self.options.generator == "warm",
        )
        cfg.seed = (self.seed + 1000 * (epoch + 1)) % (LARGEST_SEED + 1)
        module = make_module(cfg, self._frozen(network))
        if warm:
            assert self.generators is not None
            module.generators.load_state_dict(self.generators)
        steps = self.options.warm_steps if warm else self.options.steps
        label = f"garbage {self.name}  epoch {epoch + 1}  inversion "
        trainer = make_trainer(
            cfg,
            callbacks=[PlainProgress((names.INVERSION_ACCURACY_TRAIN,), label=label)],
            loggers=[],
            max_steps=steps,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        with expected_warnings():
            trainer.fit(module, train_dataloaders=Steps(steps))
        self.generators = {
            name: value.cpu() for name, value in module.generators.state_dict().items()
        }
        return self._draw(module, cfg.seed)

    def _frozen(self, network: nn.Module) -> FrozenClassifier:
        """A copy of the classifier: what is inverted does not train on meanwhile."""
        return FrozenClassifier(copy.deepcopy(network), self.spec, **reading_keys(self.cfg))

    def _draw(self, module: InversionModule, seed: int) -> Tensor:
        classes = self.spec.num_classes - (not self.options.invert_garbage)
        label_n = torch.arange(classes, device=module.device).repeat(self.options.per_class)
        drawn, G = [], len(module.generators)
        with own_randomness(seed, module.device):
            for number, label_k in enumerate(label_n.split(DRAWN)):
                drawn.append(module.draw(module.conditioning.of_labels(label_k), number % G).cpu())
        return torch.cat(drawn)


def zoomed(images_nCHW: Tensor, most: float, seed: int) -> Tensor:
    """A random square crop of each image [n, C, H, W], enlarged to its size, 1 to `most` times."""
    generator = torch.Generator().manual_seed(seed)
    scale_n = 1 / (
        1 + (most - 1) * torch.rand(len(images_nCHW), generator=generator)
    )  # side of the crop, as a share
    shift_n2 = (2 * torch.rand(len(images_nCHW), 2, generator=generator) - 1) * (1 - scale_n)[
        :, None
    ]
    crop_n23 = torch.cat(
        [torch.diag_embed(scale_n[:, None].expand(-1, 2)), shift_n2[:, :, None]], dim=2
    )
    grid_nHW2 = F.affine_grid(crop_n23, list(images_nCHW.shape), align_corners=False)
    return F.grid_sample(images_nCHW, grid_nHW2, padding_mode="border", align_corners=False)


def as_bytes(images_nCHW: Tensor) -> Tensor:
    """Images of [0, 1] as uint8, which is what training images are kept as."""
    return (images_nCHW * 255).round().byte()


def noise_seed(seed: int, epoch: int) -> int:
    """Of noise to train on, which is never the noise that a detector is judged by."""
    return 7_000_003 + 1009 * seed + epoch


SOURCES: dict[str, Callable[..., Source]] = {
    "inverted": Inverted,
    "noise": Noise,
    "outliers": RealOutliers,
}
"""By the name that `garbage.<name>.source` gives."""
