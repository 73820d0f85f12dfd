"""Nearest training images, compared with nearest held-out images."""

from __future__ import annotations

import pytest
import torch

from netinv_lightning import metric_names as names
from netinv_lightning.metrics.memorisation import memorisation


def _random(n: int, seed: int) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_copies_of_training_images_are_nearer_to_them() -> None:
    training, held_out = _random(200, 0), _random(200, 1)
    copies = (training[:100] * 0.5 + 0.2).clamp(0, 1)  # correlation ignores contrast and brightness
    found = memorisation(copies, training, held_out)
    assert found[names.MEMORISATION_NEAREST_TRAINING] == pytest.approx(1.0, abs=1e-5)
    assert found[names.MEMORISATION_NEAREST_HELD_OUT] < 0.6
    assert found[names.MEMORISATION_GAP] == pytest.approx(
        found[names.MEMORISATION_NEAREST_TRAINING] - found[names.MEMORISATION_NEAREST_HELD_OUT],
        abs=1e-6,
    )
    assert (
        found[names.MEMORISATION_GAP_LOW]
        < found[names.MEMORISATION_GAP]
        < found[names.MEMORISATION_GAP_HIGH]
    )
    assert found[names.MEMORISATION_GAP_LOW] > 0.3
    assert found[names.MEMORISATION_GAP_P_VALUE] == pytest.approx(1 / 200)


def test_images_of_the_same_source_are_equally_close_to_both() -> None:
    found = memorisation(_random(300, 2), _random(200, 0), _random(500, 1))
    assert abs(found[names.MEMORISATION_GAP]) < 0.02
    assert found[names.MEMORISATION_GAP_P_VALUE] > 0.01


def test_one_repeated_image_is_not_significant() -> None:
    """The bootstrap alone would call it significant; random splits of the references do not."""
    training, held_out = _random(200, 0), _random(200, 1)
    one = next(
        x
        for x in _random(50, 3).split(1)
        if memorisation(x, training, held_out)[names.MEMORISATION_GAP] > 0.02
    )
    found = memorisation(one.repeat(100, 1, 1, 1), training, held_out)
    assert found[names.MEMORISATION_GAP_LOW] > 0.02
    assert found[names.MEMORISATION_GAP_P_VALUE] > 0.1


def test_held_out_images_are_not_their_own_neighbours() -> None:
    training, held_out = _random(200, 0), _random(200, 1)
    found = memorisation(held_out[:100], training, held_out)
    assert found[names.MEMORISATION_NEAREST_HELD_OUT] < 0.6
    assert abs(found[names.MEMORISATION_GAP]) < 0.03


def test_similarity_of_the_nearest_image_by_hand() -> None:
    """The correlation is 1 with the same pattern and 0 with the other, whatever the contrast."""
    a, b = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    found = memorisation(0.2 * a + 0.1, a, b)
    assert found[names.MEMORISATION_NEAREST_TRAINING] == pytest.approx(1.0)
    assert found[names.MEMORISATION_NEAREST_HELD_OUT] == pytest.approx(0.0, abs=1e-6)
