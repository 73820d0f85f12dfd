"""User-defined terms of an objective, and invalid configurations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from netinv_lightning.errors import InputError
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.inversion.terms import Step
from tests.inversion.small_objective import made_step, value_of


def darkness(step: Step, level: float = 0.0) -> Tensor:
    return (step.x_BCHW - level).square().mean()


def anything(step: Step, **options: float) -> Tensor:
    return step.x_BCHW.mean() * options["scale"]


def test_a_user_defined_term_is_found_by_its_target() -> None:
    step = made_step()
    value = value_of(step, "mine", _target_=f"{__name__}.darkness", level=0.25)
    torch.testing.assert_close(value, (step.x_BCHW - 0.25).square().mean())
    torch.testing.assert_close(
        value_of(step, "other", _target_=f"{__name__}.anything", scale=3.0), 3 * step.x_BCHW.mean()
    )


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (
            {"cosin": {"weight": 1}},
            r"loss\.cosin: .*did you mean 'cosine'\?.*loss\.cosin\._target_",
        ),
        (
            {"ce": {"weight": 1, "label_smothing": 0.1}},
            r"loss\.ce\.label_smothing: .*did you mean 'label_smoothing'\?",
        ),
        ({"kl": {"wieght": 1, "weight": 1}}, r"loss\.kl\.wieght: .*did you mean 'weight'\?"),
        ({"kl": {"step": 1, "weight": 1}}, r"loss\.kl\.step: the term has no such option"),
        (
            {"mine": {"weight": 1, "_target_": f"{__name__}.darknes"}},
            r"loss\.mine\._target_=.*darknes: cannot be imported",
        ),
        (
            {"mine": {"weight": 1, "_target_": "no_such_package.term"}},
            r"loss\.mine\._target_=no_such_package\.term: cannot be imported",
        ),
        (
            {"mine": {"weight": 1, "_target_": "term"}},
            r"loss\.mine\._target_=term: cannot be imported",
        ),
    ],
)
def test_mistakes_are_refused_with_a_suggestion(
    terms: dict[str, dict[str, Any]], message: str
) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        Objective(terms)


def test_an_unknown_layer_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"penultimat: .*did you mean 'penultimate'"):
        Objective({"cosine": {"weight": 1, "layers": ["penultimat"]}}, ["penultimate"])


def test_the_floor_of_orthogonality_is_summed_over_its_layers() -> None:
    """The floor is 1/D - 1/B with more images than features. Raw features have no such floor."""
    dims = {"penultimate": 8, "wide": 64}
    objective = Objective({"orthogonality": {"weight": 1}, "kl": {"weight": 1}})
    assert objective.floors(32, dims) == {"orthogonality": pytest.approx(1 / 8 - 1 / 32)}
    assert Objective({"orthogonality": {"weight": 1, "layers": ["wide"]}}).floors(32, dims) == {
        "orthogonality": 0.0
    }
    assert Objective({"orthogonality": {"weight": 1, "normalize": False}}).floors(32, dims) == {}
    assert Objective({"kl": {"weight": 1}}).floors(32, dims) == {}
