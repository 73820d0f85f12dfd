"""Progress: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

import netinv_lightning
from netinv_lightning.training import progress
from netinv_lightning.training.trainer import make_trainer
from tests.training.scripted_training import METRIC, ScriptedModule, train


def test_live_bar_is_one_line_with_whole_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BAR_SECONDS", 0.0)
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, color_system=None)
    train(ScriptedModule([0.25, 0.5, 0.75]), [progress.LiveBar((METRIC,), "training it", console)])
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    shown = [line.rstrip() for line in re.split(r"[\r\n]", text) if line.strip()]
    assert {line[:11] for line in shown} == {"training it"}
    assert max(map(len, shown)) <= 100
    second = re.compile(rf"2/3  [\d.]+/s  \d+ s left  {METRIC} 0\.5000$")
    assert any(second.search(line) for line in shown)
    assert shown[-1].endswith(f"{METRIC} 0.7500")
    assert "3/3  " in shown[-1]
    assert file.getvalue().count("\n") == 1


def test_progress_is_chosen_by_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    (bar,) = progress.progress((METRIC,), "training it")
    assert isinstance(bar, progress.LiveBar)
    monkeypatch.setattr(progress, "on_terminal", lambda: False)
    (plain,) = progress.progress((METRIC,))
    assert isinstance(plain, progress.PlainProgress)
    shown = {}
    for word in ("trainer.accelerator=cpu", "+trainer.enable_progress_bar=false"):
        cfg = netinv_lightning.compose([word, "trainer.precision=32-true"])
        trainer = make_trainer(cfg, callbacks=[bar, plain], loggers=[], enable_checkpointing=False)
        assert trainer.progress_bar_callback is None
        shown[word] = bar in trainer.callbacks
    assert list(shown.values()) == [True, False]


def test_stages_say_how_much_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([0.0, 0.0, 90.0, 180.0])
    clock = SimpleNamespace(monotonic=lambda: next(seconds))
    monkeypatch.setattr(progress, "time", clock)
    assert list(progress.stages("attack", ["a", "b", "c"])) == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines() == [
        "attack 1 of 3: a",
        "attack 2 of 3: b  (about 3 min 0 s left)",
        "attack 3 of 3: c  (about 1 min 30 s left)",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (61, "1 min 1 s"), (3599.6, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_durations_are_in_words(seconds: float, words: str) -> None:
    assert progress.in_words(seconds) == words
