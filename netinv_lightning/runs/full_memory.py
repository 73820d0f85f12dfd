"""Recognise out-of-memory errors, and list settings that need less memory."""

from __future__ import annotations

import re

from omegaconf import DictConfig

MESSAGES = ("can't allocate memory", "cannot allocate memory", "out of memory", "not enough memory")
"""Parts of the messages of torch for a CPU and for a GPU; only the GPU error has its own class."""


def full_memory(error: BaseException) -> str | None:
    """Return a clause about the full memory; None if the error has another cause."""
    message = str(error)
    if not (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(words in message.lower() for words in MESSAGES))
    ):
        return None
    place = "the GPU's memory" if "CUDA" in message else "the memory"
    size = re.search(r"(?:[Tt]ried|Unable) to allocate ([\d.]+ \w+)", message)
    return f"{place} is full{f' ({size[1]} more were needed)' if size else ''}"


def remedies(cfg: DictConfig) -> tuple[list[str], list[str]]:
    """Return settings that need less memory: those of a resumed run, and those of a new run."""
    app, resumed, new = cfg.application, [], []
    keys = list(app)  # `key in app` would be false for a key whose value is null
    if "micro_batch" in keys:
        batch = app.batch_size if cfg.method.name == "generator" else app.eval_batch_size
        if (part := app.micro_batch or batch) > 1:
            resumed.append(f"application.micro_batch={part // 2} (with the same result)")
    if "eval_batch_size" in keys and app.eval_batch_size > 1:
        resumed.append(f"application.eval_batch_size below {app.eval_batch_size}")
    if str(cfg.trainer.get("precision")) in ("32-true", "32", "64-true", "64"):
        resumed.append("trainer.precision=bf16-mixed")
    if "batch_size" in keys:
        new.append(f"application.batch_size below {app.batch_size}")
    elif app.name in ("train_classifier", "finetune"):
        new.append(f"data.batch_size below {cfg.data.batch_size}")
    return resumed, new
