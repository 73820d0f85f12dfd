"""Derived seeds and random numbers that leave the global generator unchanged."""

from __future__ import annotations

from itertools import product

import torch

from netinv_lightning.training.seeds import epoch_seed, own_randomness, random_order, stream_seed


def test_streams_of_different_runs_and_batches_are_distinct() -> None:
    seeds = [stream_seed(seed, number) for seed, number in product(range(50), range(200))]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) == stream_seed(0, 0) == 1_000_003
    assert len({epoch_seed(s, e) for s, e in product(range(50), range(1009))}) == 50 * 1009


def test_own_randomness_leaves_the_global_generator_unchanged() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with own_randomness(9, torch.device("cpu")):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with own_randomness(9, torch.device("cpu")):
        assert torch.equal(torch.rand(2), inside)


def test_random_orders_are_permutations_that_depend_on_the_seed() -> None:
    order_n = random_order(50, 3)
    assert sorted(order_n.tolist()) == list(range(50))
    assert torch.equal(order_n, random_order(50, 3))
    assert not torch.equal(order_n, random_order(50, 4))
