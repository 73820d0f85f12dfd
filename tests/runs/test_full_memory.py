"""A full memory becomes one line that names the keys to change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from netinv_lightning.run import run
from netinv_lightning.runs.full_memory import full_memory, remedies
from netinv_lightning.runs.run_directory import read_status
from netinv_lightning.runs.run_failure import OutOfMemory

Compose = Callable[..., DictConfig]


def test_a_run_continues_with_less_memory(
    compose: Compose, job_dir: Path, interrupted: Callable[..., None]
) -> None:
    interrupted(6, lambda: torch.empty(2**61, dtype=torch.uint8))
    line = (
        r"^the memory is full \(2305843009213693952 bytes more were needed\); continue with "
        r"resume=\S+ and application\.micro_batch=4 \(with the same result\), "
        r"application\.eval_batch_size below 32, trainer\.precision=bf16-mixed; or start again "
        r"with application\.batch_size below 8$"
    )
    with pytest.raises(OutOfMemory, match=line):
        run(compose("trainer.precision=32-true"), job_dir)
    assert str(read_status(job_dir)["error"]).startswith("OutOfMemory: the memory is full")
    run(compose("application.micro_batch=4"), job_dir, resuming=True)
    assert read_status(job_dir)["state"] == "done"


@pytest.mark.parametrize(
    ("error", "clause"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a"),
            "the GPU's memory is full (2.00 GiB more were needed)",
        ),
        (
            MemoryError("Unable to allocate 7.28 TiB for an array with shape (1000000000000,)"),
            "the memory is full (7.28 TiB more were needed)",
        ),
        (MemoryError(), "the memory is full"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (OSError("Cannot allocate memory"), None),
    ],
)
def test_only_errors_of_the_memory_are_recognised(error: BaseException, clause: str | None) -> None:
    assert full_memory(error) == clause


def test_remedies_fit_the_application(compose: Compose) -> None:
    assert remedies(compose("method=gradient", "application.micro_batch=8")) == (
        [
            "application.micro_batch=4 (with the same result)",
            "application.eval_batch_size below 32",
        ],
        ["application.batch_size below 8"],
    )
    one = compose("application.micro_batch=1", "application.eval_batch_size=1")
    assert remedies(one)[0] == []
