"""Selection and averages of images by class.

Shape suffixes: n images, k classes that have images, N classes.
"""

from __future__ import annotations

import torch

from netinv_lightning.data.splits import choose_per_class, class_means, class_sums

LABEL_n = torch.tensor([3, 1, 3, 1, 1, 3, 3])


def test_class_means_by_hand() -> None:
    images_n = torch.tensor([[0], [255], [200], [255], [0], [100], [101]], dtype=torch.uint8)
    means_k, present_k = class_means(images_n, LABEL_n)
    assert present_k.tolist() == [1, 3]
    torch.testing.assert_close(means_k, torch.tensor([[170.0], [100.25]]))


def test_class_sums_by_hand() -> None:
    sums_N = class_sums(torch.arange(7.0), LABEL_n, num_classes=5)
    assert sums_N.tolist() == [0, 1 + 3 + 4, 0, 0 + 2 + 5 + 6, 0]


def test_choice_has_the_requested_number_of_each_class() -> None:
    counts = [4, 2, 0, 3]
    chosen = choose_per_class(LABEL_n, counts, torch.Generator().manual_seed(0))
    assert LABEL_n[chosen].tolist() == [1, 1, 3, 3, 3]  # class 0 has no images
    assert len(chosen.unique()) == 5
    every = choose_per_class(LABEL_n, [9, 9, 9, 9], torch.Generator().manual_seed(0))
    assert sorted(every.tolist()) == list(range(7))
