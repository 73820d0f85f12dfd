"""Sources of garbage: inversion of the classifier, and as baselines noise and real outliers.

Shape suffixes: n images, k images per draw, C channels, H height, W width, N classes without
garbage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning import Trainer
from torch import Tensor, nn

from netinv_lightning import metric_names as names
from netinv_lightning.config.rules import LARGEST_SEED
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.data.noise import gaussian_noise
from netinv_lightning.data.outliers import outliers
from netinv_lightning.data.pixels import to_uint8, to_unit_range
from netinv_lightning.data.specs import DataSpec
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.training import Steps
from netinv_lightning.training.checkpoints import fit_from
from netinv_lightning.training.progress import PlainProgress
from netinv_lightning.training.seeds import epoch_seed, own_randomness, random_order

DRAW_SIZE = 250
"""Number of images that a generator draws at a time."""


class GarbageSource(ABC):
    """Provides the garbage that an epoch adds.

    Attributes:
        generators: State of the generators, the only state kept between epochs; None without
            generators.
    """

    generators: dict[str, Tensor] | None = None

    @abstractmethod
    def __call__(self, network: nn.Module, epoch: int) -> Tensor:
        """Return images [n, C, H, W] in [0, 1].

        Args:
            network: Network of the classifier after the epoch, from normalised images to logits [n,
                N + 1].
            epoch: Number of the epoch, from 0.
        """


class NoiseSource(GarbageSource):
    """New Gaussian noise for each epoch: the baseline that shows whether inversion adds anything.

    Args:
        spec: Spec of the data.
        count: Images per epoch.
        seed: Seed of the noise.
    """

    def __init__(self, spec: DataSpec, count: int, seed: int) -> None:
        self.spec, self.count, self.seed = spec, count, seed

    def __call__(self, network: nn.Module, epoch: int) -> Tensor:
        return gaussian_noise(self.spec.shape, self.count, noise_seed(self.seed, epoch + 1))


class RealOutlierSource(GarbageSource):
    """Real OOD images: outlier exposure (Hendrycks et al. 2019, arXiv 1812.04606), an upper bound.

    Args:
        sets: Names of OOD data sets; their training images are used, in equal shares.
        spec: Spec of the data.
        count: Images per epoch; each epoch uses other images as long as there are enough.
        seed: Seed of the choice.
        real: The in-distribution data.
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
        self.images = [
            to_uint8(outliers(name, spec, 10 * count, seed, root, train=True, real=real))
            for name in sets
        ]
        self.count, self.seed = count, seed

    def __call__(self, network: nn.Module, epoch: int) -> Tensor:
        share, chosen = -(-self.count // len(self.images)), []
        for images_nCHW in self.images:
            order_n = random_order(len(images_nCHW), self.seed)
            chosen.append(images_nCHW[order_n.roll(-epoch * share)[:share]])
        return to_unit_range(torch.cat(chosen)[: self.count])


class InversionSource(GarbageSource):
    """Images that a generator inverts from the current classifier, equally many of each class.

    Args:
        name: Name of the garbage classifier, for the progress lines.
        make_inversion: From the network of the classifier and a seed to an inversion of a frozen
            copy.
        make_trainer: Makes a `Trainer` from keyword arguments.
        per_class: Images per class.
        classes: Number of classes that are inverted.
        steps: Training steps of new generators.
        warm_steps: Training steps of generators that continue from the previous epoch; None to
            start with new generators in each epoch.
        seed: Seed of generators and draws.
    """

    def __init__(
        self,
        name: str,
        make_inversion: Callable[[nn.Module, int], InversionModule],
        make_trainer: Callable[..., Trainer],
        *,
        per_class: int,
        classes: int,
        steps: int,
        warm_steps: int | None,
        seed: int,
    ) -> None:
        self.name, self.make_inversion, self.make_trainer = name, make_inversion, make_trainer
        self.per_class, self.classes, self.seed = per_class, classes, seed
        self.steps, self.warm_steps = steps, warm_steps

    def __call__(self, network: nn.Module, epoch: int) -> Tensor:
        seed = (self.seed + 1000 * (epoch + 1)) % (LARGEST_SEED + 1)
        module, steps = self.make_inversion(network, seed), self.steps
        if self.generators is not None and self.warm_steps is not None:
            module.generators.load_state_dict(self.generators)
            steps = self.warm_steps
        label = f"garbage {self.name}  epoch {epoch + 1}  inversion "
        trainer = self.make_trainer(
            callbacks=[PlainProgress((names.INVERSION_ACCURACY_TRAIN,), label=label)],
            loggers=[],
            max_steps=steps,
            enable_checkpointing=False,
        )
        fit_from(None, trainer, module, train_dataloaders=Steps(steps))
        self.generators = {
            name: value.cpu() for name, value in module.generators.state_dict().items()
        }
        return self._draw(module, seed)

    def _draw(self, module: InversionModule, seed: int) -> Tensor:
        label_n = torch.arange(self.classes, device=module.device).repeat(self.per_class)
        drawn, G = [], len(module.generators)
        with own_randomness(seed, module.device):
            for number, label_k in enumerate(label_n.split(DRAW_SIZE)):
                drawn.append(module.draw(module.conditioning.of_labels(label_k), number % G).cpu())
        return torch.cat(drawn)


def random_zoom(images_nCHW: Tensor, largest: float, seed: int) -> Tensor:
    """Return a random square crop of each image [n, C, H, W], enlarged 1 to `largest` times."""
    generator = torch.Generator().manual_seed(seed)
    # The side of the crop, as a share of the image.
    scale_n = 1 / (1 + (largest - 1) * torch.rand(len(images_nCHW), generator=generator))
    shift_n2 = (2 * torch.rand(len(images_nCHW), 2, generator=generator) - 1) * (1 - scale_n)[
        :, None
    ]
    crop_n23 = torch.cat(
        [torch.diag_embed(scale_n[:, None].expand(-1, 2)), shift_n2[:, :, None]], dim=2
    )
    grid_nHW2 = F.affine_grid(crop_n23, list(images_nCHW.shape), align_corners=False)
    return F.grid_sample(images_nCHW, grid_nHW2, padding_mode="border", align_corners=False)


def noise_seed(seed: int, epoch: int) -> int:
    """Return the seed of noise for training; no noise for evaluation has it."""
    return 7_000_003 + epoch_seed(seed, epoch)
