"""Generators that make images for a student in rounds, and begin anew in each: many kinds of pictures, not many of one.

A finished generator shows nearly one picture a class, and training it on moves that little. So at the start of each round it forgets
its first stage, which lays out the picture, and keeps the second, which paints it; a dozen steps then fit it to one batch of
labels and latents, and the latents with it. That is Fang et al. 2022 ("Up to 100x faster data-free knowledge distillation") without
their learnt start. Images on which the student does not yet answer as its teacher does are worth more (Fang et al. 2019; Choi et al.
2020; Yin et al. 2020). What comes out goes into a memory, of which the student learns.

Shape suffixes: B batch, n images, N classes, Z latent, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import Classifier
from netinv_lightning.downstream.distillation import divergence
from netinv_lightning.downstream.replay import SEEDS_APART, Memory
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.module import InversionModule, own_randomness, sampling_mode
from netinv_lightning.inversion.objective import Objective, Step
from netinv_lightning.training.distributed import Stream

TERMS = {"ce": {"weight": 1.0}, "batch_norm": {"weight": 10.0}, "class_spread": {"weight": 1.0}}
"""Of images for a student: sure of their label, like the training data to the teacher's BatchNorm layers, and unlike one another.
The inversion's own objective is not asked: these were measured (experiments/inverted_data)."""
IMAGES = 128  # of the batch that a round makes
STEPS = 12  # of a round
BEGUN = 4  # steps after which a round's images are kept: before, they are no images of anything
LR, LATENT_LR = 5e-3, 3e-2
BETAS = (0.5, 0.9)
LEAST_DIVERGENCE = 1e-3  # below it disagreement is no longer worth more


class Adversary:
    """Makes images in rounds: every so many steps of the student one generator, each in turn, fills the memory with a round's.

    The disagreement's logarithm is what counts, so that it has the same weight however well the student has learnt.

    Args:
        module: The inversion, with trained generators; they change in place.
        memory: Takes the images.
        views: Random views of the images, which teacher and student see.
        weight: Of the disagreement, 0 or more.
        temperature: Of the answers that are compared.
        every: Steps of the student between two rounds.
        seed: Of first stages, latents and views.
        images: Of a round's batch; each step but the first ones leaves so many.
        folder: Where the images of the memory are written when the state is kept.
    """

    def __init__(
        self,
        module: InversionModule,
        memory: Memory,
        views: Augmentation,
        weight: float,
        temperature: float,
        every: int,
        seed: int = 0,
        images: int = IMAGES,
        folder: Path | None = None,
    ) -> None:
        self.module, self.memory, self.views, self.weight = module, memory, views, weight
        self.temperature, self.every, self.seed, self.images = temperature, every, seed, images
        self.stream = Stream(seed, module.device)
        self.objective = Objective(TERMS)
        self.rounds = 0
        self.folder = folder

    def state_dict(self) -> dict[str, Any]:
        assert self.folder is not None
        generators = self.module.generators.state_dict()
        return {
            "rounds": self.rounds,
            "generators": generators,
            "stream": self.stream.state,
            "images": self.memory.keep(self.folder),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.folder is not None
        self.rounds, self.stream.state = state_dict["rounds"], state_dict["stream"]
        self.module.generators.load_state_dict(state_dict["generators"])
        self.memory.restore(self.folder, state_dict["images"])

    def __call__(self, step: int, student: Classifier) -> None:
        """Makes a round's images where one is due; the student is left as it is."""
        if step % self.every == 0:
            self.memory.add(self.fresh(student))

    def fresh(self, student: Classifier) -> Tensor:
        """Images [n, C, H, W] of one more round; it is for the caller to keep them."""
        module, device = self.module, self.module.device
        generator = module.generators[self.rounds % len(module.generators)]
        assert isinstance(generator, Generator)
        with own_randomness(SEEDS_APART * (self.seed + 1) + self.rounds, device):
            forget_first_stage(generator)
            z_BZ = generator.sample_latent(self.images, device).requires_grad_()
        first = self.rounds * self.images  # so that each class has its turn, however many there are
        self.rounds += 1
        condition = module.conditioning.of_labels(
            torch.arange(first, first + self.images, device=device)
            % module.conditioning.num_classes
        )
        groups: list[dict[str, Any]] = [
            {"params": generator.parameters()},
            {"params": [z_BZ], "lr": LATENT_LR},
        ]
        optimizer = torch.optim.Adam(groups, LR, BETAS)
        was_training = student.training
        student.eval().requires_grad_(False)
        kept: list[Tensor] = []
        with sampling_mode(generator, dropout=False, batch_norm="batch"):
            for step in range(STEPS):
                x_BCHW = generator(z_BZ, condition)
                if step >= BEGUN:
                    kept.append(x_BCHW.detach())
                view_BCHW = self.views(x_BCHW, self.stream)
                answer_BN, features, normed = module.classifier.trace(view_BCHW)
                terms = self.objective(
                    Step(
                        x_BCHW,
                        condition,
                        answer_BN,
                        features,
                        module.classifier,
                        generator,
                        normed=normed,
                    )
                )
                loss = self.objective.total(terms)
                if self.weight:
                    disagreement = divergence(
                        student(view_BCHW), answer_BN, self.temperature
                    ).mean()
                    loss = loss - self.weight * torch.log(disagreement + LEAST_DIVERGENCE)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        student.train(was_training).requires_grad_(True)
        return torch.cat(kept)


def forget_first_stage(generator: Generator) -> None:
    """Gives the layers that lay out the picture new initial weights, by torch's global randomness; those that paint it stay."""
    first = (
        [generator.stage1]
        if generator.embedding is None
        else [generator.stage1, generator.embedding]
    )
    for part in first:
        for layer in part.modules():
            if isinstance(
                layer, (nn.ConvTranspose2d, nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.Embedding)
            ):
                layer.reset_parameters()
