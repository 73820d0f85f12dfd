"""Generators that are trained one after the other, each with a new layout (`round_steps`).

A trained generator makes nearly one picture per class, and further training changes it little. Its
first stage determines the layout of the images, its second stage renders it. Each generator after
the first therefore starts with a new first stage and the second stage of its predecessor, so that
it needs only a short training, as in Fang et al. 2022 (arXiv 2112.06253, without their learned
initialisation). Samples are drawn from all generators.
"""

from __future__ import annotations

from dataclasses import dataclass

from netinv_lightning.inversion.generator import Generator

FIRST = 3
"""Length of the first round, in rounds: its generator has to learn to render as well."""


@dataclass(frozen=True)
class Rounds:
    """Which generator is trained at which step.

    Attributes:
        generators: Number of generators, one per round.
        round_steps: Steps per round. The first round has three times as many; the last one ends
            with the training.
        steps: Steps of the whole training.

    Raises:
        ValueError: if the steps do not suffice for all rounds.
    """

    generators: int
    round_steps: int
    steps: int

    def __post_init__(self) -> None:
        needed = self.start(self.generators - 1) + self.round_steps
        if self.generators > 1 and self.steps < needed:
            raise ValueError(
                f"steps={self.steps}: {self.generators} generators with round_steps="
                f"{self.round_steps} need {needed} steps or more"
            )

    def start(self, g: int) -> int:
        """Return the first step of the round of generator `g`."""
        return (FIRST - 1 + g) * self.round_steps if g else 0

    def generator_at(self, step: int) -> int:
        """Return the generator that is trained at a step."""
        return min(max(step // self.round_steps - FIRST + 1, 0), self.generators - 1)

    def share_at(self, step: int) -> float:
        """Return which part of its round has passed at a step, 0 to 1."""
        g = self.generator_at(step)
        end = self.steps if g == self.generators - 1 else self.start(g + 1)
        return min((step - self.start(g)) / (end - self.start(g)), 1.0)


def inherit_second_stage(predecessor: Generator, generator: Generator) -> None:
    """Copy the layers that render a layout; those that determine it stay as they are."""
    for name in ("stage2", "to_image"):
        generator.get_submodule(name).load_state_dict(predecessor.get_submodule(name).state_dict())
