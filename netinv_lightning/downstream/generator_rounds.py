"""Generation of images for a student in rounds, each of which restarts the layout of the images.

A trained generator makes nearly the same image for every sample of a class, and further training
changes this little. Therefore its first stage, which determines the layout, is re-initialised at
the start of each round; its second stage, which renders the layout, is kept. Then the generator and
the latents are trained on one batch of labels for 12 steps. This is the method of Fang et al. 2022
(arXiv 2112.06253) without their learned initialisation. The objective is `loss`; with `loss=cmi`
the features of earlier images are stored, so that rounds differ from one another. Images on which
student and teacher disagree have a higher weight (Fang et al. 2019, arXiv 1912.11006; Choi et al.
2020, arXiv 2005.04136; Yin et al. 2020, arXiv 1912.08795). The images are added to a replay buffer,
on which the student is trained.

Shape suffixes: B batch, n images, N classes, Z latent, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netinv_lightning.classifiers.wrapper import Classifier
from netinv_lightning.downstream.distillation import softened_kl
from netinv_lightning.downstream.replay_buffer import ReplayBuffer
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.generator import Generator
from netinv_lightning.inversion.micro_batches import in_parts
from netinv_lightning.inversion.module import InversionModule
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.sampling import sampling_mode
from netinv_lightning.inversion.terms import Step
from netinv_lightning.training.distributed import Stream
from netinv_lightning.training.gradient_steps import descend
from netinv_lightning.training.seeds import own_randomness, stream_seed

IMAGES = 128
"""Batch size of a round."""
STEPS = 12
"""Steps per round."""
WARM_UP_STEPS = 4
"""Steps before the images of a round are stored; earlier images are not recognisable yet."""
LR, LATENT_LR = 5e-3, 3e-2
BETAS = (0.5, 0.9)
LEAST_DIVERGENCE = 1e-3
"""Added to the divergence before the logarithm."""
EARLIER_IMAGES = 1024
"""Number of earlier images whose features the term `contrast` compares with new ones."""


class GeneratorRounds:
    """Generates images in rounds; the generators are used in turn, one per round.

    The loss contains the logarithm of the disagreement, so that the weight of this term does not
    depend on how well the student is trained.

    Args:
        module: The inversion with trained generators, which are changed in place.
        objective: The terms of the images.
        buffer: Receives the images.
        augmentation: Random views of the images for teacher and student.
        weight: Weight of the disagreement, 0 or more.
        temperature: Temperature of the compared logits.
        every: Steps of the student between two rounds.
        seed: Seed of first stages, latents and views.
        images: Batch size of a round; each step after `WARM_UP_STEPS` stores one batch.
        folder: Folder in which the images of the buffer are saved with the state.
        micro_batch: Images that teacher and student process at once; None for all.
    """

    def __init__(
        self,
        module: InversionModule,
        objective: Objective,
        buffer: ReplayBuffer,
        augmentation: Augmentation,
        weight: float,
        temperature: float,
        every: int,
        seed: int = 0,
        images: int = IMAGES,
        folder: Path | None = None,
        micro_batch: int | None = None,
    ) -> None:
        self.module, self.objective, self.buffer, self.weight = module, objective, buffer, weight
        self.augmentation = augmentation
        self.temperature, self.every, self.seed, self.images = temperature, every, seed, images
        self.stream = Stream(seed, module.device)
        self.rounds = 0
        self.earlier: dict[str, Tensor] = {}  # features [K, D] of earlier images, by layer
        self.folder, self.micro_batch = folder, micro_batch

    def state_dict(self) -> dict[str, Any]:
        assert self.folder is not None
        generators = self.module.generators.state_dict()
        return {
            "rounds": self.rounds,
            "generators": generators,
            "stream": self.stream.state,
            "earlier": self.earlier,
            "images": self.buffer.save(self.folder),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self.folder is not None
        self.rounds, self.stream.state = state_dict["rounds"], state_dict["stream"]
        self.earlier = {
            layer: f_KD.to(self.module.device) for layer, f_KD in state_dict["earlier"].items()
        }
        self.module.generators.load_state_dict(state_dict["generators"])
        self.buffer.load(self.folder, state_dict["images"], self.module.classifier.spec.shape)

    def __call__(self, step: int, student: Classifier) -> None:
        """Add the images of a round to the buffer if one is due; the student is not changed."""
        if step % self.every == 0:
            self.buffer.add(self.new_round(student))

    def new_round(self, student: Classifier) -> Tensor:
        """Return the images [n, C, H, W] of one more round, without adding them to the buffer."""
        module, device = self.module, self.module.device
        generator = module.generators[self.rounds % len(module.generators)]
        assert isinstance(generator, Generator)
        with own_randomness(stream_seed(self.seed, self.rounds), device):
            reset_first_stage(generator)
            z_BZ = generator.sample_latent(self.images, device).requires_grad_()
        first = self.rounds * self.images  # all classes are used in turn, also over several rounds
        self.rounds += 1
        class_K = torch.tensor(module.conditioning.chosen, device=device)
        turn_n = torch.arange(first, first + self.images, device=device) % len(class_K)
        condition = module.conditioning.of_labels(class_K[turn_n])
        groups: list[dict[str, Any]] = [
            {"params": generator.parameters()},
            {"params": [z_BZ], "lr": LATENT_LR},
        ]
        optimizer = torch.optim.Adam(groups, LR, BETAS)
        was_training = student.training
        student.eval().requires_grad_(False)
        generated: list[Tensor] = []
        with sampling_mode(generator, dropout=False, batch_norm="batch"):
            for step in range(STEPS):
                x_BCHW = generator(z_BZ, condition)
                if step >= WARM_UP_STEPS:
                    generated.append(x_BCHW.detach())
                view_BCHW = self.augmentation(x_BCHW, self.stream)
                seen = Step.of_views(
                    x_BCHW,
                    view_BCHW,
                    condition,
                    module.classifier,
                    micro_batch=self.micro_batch,
                    generator=generator,
                    stream=self.stream,
                    earlier=self.earlier,
                )
                loss = self.objective.total(self.objective(seen))
                if self.weight:
                    (student_BN,) = in_parts(
                        lambda x_bCHW: (student(x_bCHW),), self.micro_batch, view_BCHW
                    )
                    disagreement = softened_kl(student_BN, seen.logits_BN, self.temperature).mean()
                    loss = loss - self.weight * torch.log(disagreement + LEAST_DIVERGENCE)
                descend(loss, optimizer)
        student.train(was_training).requires_grad_(True)
        if "contrast" in self.objective.names:
            self._remember(seen.features)
        return torch.cat(generated)

    def _remember(self, features: Mapping[str, Tensor]) -> None:
        """Add the features [B, D] of the last images of a round to those of earlier images."""
        for layer, f_BD in features.items():
            earlier_KD = self.earlier.get(layer, f_BD.new_empty(0, f_BD.shape[1]))
            self.earlier[layer] = torch.cat([f_BD.detach(), earlier_KD])[:EARLIER_IMAGES]


def reset_first_stage(generator: Generator) -> None:
    """Re-initialise the layers of the first stage, using torch's global random state."""
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
