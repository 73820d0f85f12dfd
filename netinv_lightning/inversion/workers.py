"""Threads for several generators on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from netinv_lightning.classifiers.classifier import FrozenClassifier

T = TypeVar("T")


class Workers:
    """Threads that share the generators out; always the same generator in the same thread, so that runs repeat bit by bit.

    Operations of these sizes use several cores badly; a generator a core uses them well.

    Args:
        generators: How many there are.
        classifier: Copied for each thread, since a forward pass under functional_call changes a module for a while.
    """

    def __init__(self, generators: int, classifier: FrozenClassifier) -> None:
        cores = torch.get_num_threads()
        count = min(generators, cores)
        self._shares = [range(worker, generators, count) for worker in range(count)]
        self._classifiers = [copy.deepcopy(classifier) for _ in self._shares]
        self._pools = [ThreadPoolExecutor(1, f"generators-{worker}") for worker in range(count)]
        for pool in self._pools:
            pool.submit(torch.set_num_threads, max(1, cores // count)).result()
        torch.set_num_threads(cores)  # what the calling thread has is as it was

    def __call__(self, work: Callable[[int, FrozenClassifier], T]) -> list[T]:
        """`work(g, classifier)` for each generator; results in the order of the generators."""

        def share(worker: int) -> list[T]:
            return [work(g, self._classifiers[worker]) for g in self._shares[worker]]

        futures = [pool.submit(share, worker) for worker, pool in enumerate(self._pools)]
        results = [future.result() for future in futures]
        return [results[g % len(results)][g // len(results)] for g in range(sum(map(len, results)))]

    def close(self) -> None:
        for pool in self._pools:
            pool.shutdown()
