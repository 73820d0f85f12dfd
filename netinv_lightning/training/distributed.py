"""Distribute one batch over several processes: sums over the batch, and random numbers.

Both are independent of the number of processes.

Every process (rank) has an equal share of the batch. Without torch.distributed there is one rank,
and the functions return their input.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if world_size() > 1 else 0


class _Sum(torch.autograd.Function):
    """All-reduce by sum, also of the gradient, because each rank's loss depends on all shares."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: torch.autograd.function.FunctionCtx, grad: Tensor
    ) -> Tensor:
        return _Sum.apply(grad)  # differentiable once more, for the gradient-norm term


def sum_over_ranks(x: Tensor) -> Tensor:
    """Return the sum of `x` over all ranks, on each of them; differentiable.

    A loss of such sums has the same value on each rank. The gradient on a rank is the gradient of
    its share times the number of ranks. DistributedDataParallel averages over the ranks, which
    gives the gradient of the loss of the whole batch.
    """
    if world_size() == 1:
        return x
    total: Tensor = _Sum.apply(x)
    return total


def rows_of_all_ranks(x_BD: Tensor) -> Tensor:
    """Return the rows of the whole batch, [ranks * B, D], on each rank; differentiable."""
    if world_size() == 1:
        return x_BD
    B = len(x_BD)
    rows = x_BD.new_zeros(world_size() * B, *x_BD.shape[1:])
    rows[rank() * B : (rank() + 1) * B] = x_BD
    return sum_over_ranks(rows)


class Stream:
    """The random numbers of one generator: latents, conditions, dropout and perturbations.

    The numbers of a generator do not depend on other generators that are trained with it. Each rank
    draws for the whole batch and uses its share, so that the numbers do not depend on the number of
    processes.

    Args:
        seed: Seed of the stream.
        device: Device of the stream; the same seed gives different numbers on a GPU and on the CPU.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.source = torch.Generator(device).manual_seed(seed)

    def to(self, device: torch.device) -> Stream:
        """Restart the stream on `device`, unless it is already on this device."""
        if self.source.device != device:
            self.source = torch.Generator(device).manual_seed(self.seed)
        return self

    def normal(self, batch: int, *shape: int) -> Tensor:
        """Draw from N(0, 1), [batch, *shape]."""
        return self._share(
            torch.randn(
                batch * self._ranks(), *shape, generator=self.source, device=self.source.device
            )
        )

    def uniform(self, batch: int, *shape: int) -> Tensor:
        """Draw from U[0, 1), [batch, *shape]."""
        return self._share(
            torch.rand(
                batch * self._ranks(), *shape, generator=self.source, device=self.source.device
            )
        )

    def shared_uniform(self) -> float:
        """Draw one number from U[0, 1), the same on every rank."""
        return torch.rand((), generator=self.source, device=self.source.device).item()

    @property
    def state(self) -> Tensor:
        return self.source.get_state()

    @state.setter
    def state(self, state: Tensor) -> None:
        self.source.set_state(state.cpu())

    def state_dict(self) -> dict[str, Tensor]:
        return {"state": self.state}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        self.state = state_dict["state"]

    def __getstate__(self) -> tuple[int, str, bytes]:
        # torch.Generator pickles its state in shared memory, which is freed before a spawned
        # process opens it.
        return self.seed, str(self.source.device), self.state.numpy().tobytes()

    def __setstate__(self, pickled: tuple[int, str, bytes]) -> None:
        self.seed, device, state = pickled
        self.source = torch.Generator(device)
        self.source.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))

    def _ranks(self) -> int:
        """Number of processes that share a draw."""
        return world_size()

    def _share(self, draw: Tensor) -> Tensor:
        return draw.chunk(self._ranks())[rank()] if self._ranks() > 1 else draw


class LocalStream(Stream):
    """Random numbers of one process, which do not depend on the number of processes."""

    def _ranks(self) -> int:
        return 1
