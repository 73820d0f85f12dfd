"""Generators that go on training against a student: towards images on which it does not yet answer as its teacher does.

Without that a generator shows the same few pictures of each class over and over, and a student soon learns nothing more from them. The
game is that of data-free adversarial distillation (Fang et al. 2019; Choi et al. 2020); what keeps the images images of a class here is
the whole objective of the inversion.

Shape suffixes: B batch, N classes, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import nn

from netinv_lightning.classifiers.classifier import Classifier
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.objective import Step
from netinv_lightning.inversion.ranks import Stream
from netinv_lightning.inverted_data.distillation import divergence

LR = 1e-3
BETAS = (0.5, 0.99)
LARGEST_GRADIENT = 5.0  # in norm
LEAST_DIVERGENCE = 1e-3  # below it disagreement is no longer worth more


class Adversary:
    """Trains the generators of an inversion: its objective, less `weight` times the logarithm of the disagreement.

    The logarithm gives disagreement the same weight however well the student has learnt.

    Args:
        module: The inversion, with trained generators; they are trained on, in place.
        weight: Of the disagreement, above 0.
        temperature: Of the answers that are compared.
        every: Steps of the student between two steps here.
        seed: Of latents, conditions and views.
    """

    def __init__(self, module: InversionModule, weight: float, temperature: float, every: int = 2, seed: int = 0) -> None:
        self.module, self.weight, self.temperature, self.every = module, weight, temperature, every
        self.stream = Stream(seed, module.device)
        self.optimizer = torch.optim.Adam(module.generators.parameters(), LR, BETAS)

    def __call__(self, step: int, student: Classifier) -> None:
        """Takes a step of one generator, each in turn; the student is left as it is."""
        if step % self.every:
            return
        module, stream, device, B = self.module, self.stream, self.module.device, self.module.batch_size
        generator = module.generators[step // self.every % len(module.generators)]
        assert isinstance(generator, Generator)
        generator.train()
        student.eval().requires_grad_(False)
        condition = module.conditioning.sample(B, device, stream)
        x_BCHW = generator(generator.sample_latent(B, device, stream), condition)
        view_BCHW = module.augmentation(x_BCHW, stream)
        answer_BN, features, normed = module.classifier.trace(view_BCHW)
        terms = module.objective(
            Step(x_BCHW, condition, answer_BN, features, module.classifier, generator, module.perturbation, stream, normed)
        )
        disagreement = divergence(student(view_BCHW), answer_BN, self.temperature).mean()
        loss = module.objective.total(terms) - self.weight * torch.log(disagreement + LEAST_DIVERGENCE)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(generator.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        generator.eval()
        student.train().requires_grad_(True)
