"""Shares of a batch for several processes."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch import Tensor

from netinv_lightning.classifiers.training import check_shares
from netinv_lightning.data.augmentation import shift_and_flip
from netinv_lightning.data.batches import Batches, TrainingBatches
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError

n = 23
SPLIT = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1), torch.arange(n)


def labels(batches: Batches) -> list[list[int]]:
    torch.manual_seed(0)
    return [label_B.tolist() for _, label_B in batches]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_shares_of_a_training_batch_are_equal_and_disjoint(ranks: int) -> None:
    whole = labels(TrainingBatches(SPLIT, 6))
    shares = [labels(TrainingBatches(SPLIT, 6, share=(rank, ranks))) for rank in range(ranks)]
    assert len(whole) == 3
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert [len(part) for part in parts] == [6 // ranks] * ranks
        assert sorted(chain(*parts)) == sorted(batch)


def test_every_image_is_evaluated_by_one_process() -> None:
    shares = [labels(Batches(SPLIT, 11, False, share=(rank, 2))) for rank in range(2)]
    assert [list(map(len, share)) for share in shares] == [[6, 6, 1], [5, 5]]
    assert sorted(chain(*chain(*shares))) == list(range(n))


def test_fewer_images_than_processes_are_evaluated_by_all() -> None:
    few = SPLIT[0][:2], SPLIT[1][:2]
    for rank in range(3):
        assert labels(Batches(few, 11, False, share=(rank, 3))) == [[0, 1]]


def test_augmentation_of_shares_equals_that_of_the_whole_batch() -> None:
    def augmented(x_BCHW: Tensor, share: tuple[int, int]) -> Tensor:
        torch.manual_seed(0)
        return shift_and_flip(x_BCHW, 2, True, share=share)

    x_BCHW = torch.rand(12, 2, 6, 5)
    whole = augmented(x_BCHW, (0, 1))
    for rank in range(3):
        assert torch.equal(augmented(x_BCHW[rank::3], (rank, 3)), whole[rank::3])


def test_batches_that_processes_cannot_share_are_refused() -> None:
    data = ImageDataModule("digits", batch_size=30)
    check_shares(data, 1)
    check_shares(data, 3)
    for processes, size in ((4, 30), (2, 2000)):
        data.batch_size = size
        with pytest.raises(InputError, match=rf"data.batch_size={size}: must be a multiple of the"):
            check_shares(data, processes)
