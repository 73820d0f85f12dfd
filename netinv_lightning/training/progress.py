"""Show the progress of a run: as a live bar on a terminal, otherwise as plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from netinv_lightning.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

EVERY_SECONDS = 10.0
BAR_SECONDS = 0.25
"""Between two updates of a live bar. Metrics are read from the device at each of them."""
LOG_EVERY = 10


class Clock:
    """Limits progress to one line every ten seconds."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last >= EVERY_SECONDS


class StepReport:
    """Reports a training loop: logs its metrics, and prints a line at most every ten seconds.

    The last step is always printed.

    Args:
        label: Start of each line.
        steps: Steps of the whole loop.
        shown: Metrics in a line, by name; missing ones are left out.
        loggers: Loggers of all metrics.
        log_every: Steps between two logged rows.
        clock: Clock that limits the lines, possibly shared with other reports; None for a new one.
    """

    def __init__(
        self,
        label: str,
        steps: int,
        shown: Sequence[str],
        loggers: Sequence[Logger] = (),
        log_every: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self.label, self.steps, self.shown = label, steps, shown
        self.loggers, self.log_every, self.clock = loggers, log_every, clock or Clock()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics after a step; steps are counted from 1."""
        if step % self.log_every == 0:
            for logger in self.loggers:
                logger.log_metrics(dict(metrics), step=step)
        if step == self.steps or self.clock.due:
            self.print(step, metrics)

    def print(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Print a line."""
        self.clock.restart()
        values = "  ".join(_values(self.shown, metrics))
        print_progress(f"{self.label}step {step}/{self.steps}  {values}")


def log_progress(
    label: str, steps: int, loggers: Sequence[Logger], metric: str
) -> Callable[[int, float], None]:
    """Return a function that reports step and loss; the loss is logged as `metric`."""
    report = StepReport(f"{label}  ", steps, (metric,), loggers, LOG_EVERY)
    return lambda step, loss: report(step, {metric: loss})


class PlainProgress(Callback):
    """Prints a line at most every ten seconds, for logs and batch jobs.

    Args:
        metrics: Names of the metrics in a line.
        label: Start of each line.
        steps: Steps of the whole training; None for the Trainer's estimate.
    """

    def __init__(self, metrics: tuple[str, ...], label: str = "", steps: int | None = None) -> None:
        self.steps = steps
        self._report = StepReport(label, steps or 0, metrics)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._report.steps = self.steps or int(trainer.estimated_stepping_batches)
        self._report.clock.restart()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if self._report.clock.due:
            self._print(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._print(trainer)

    def _print(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            self._report.print(trainer.global_step, trainer.callback_metrics)


class LiveBar(Callback):
    """Shows a training in one line of the terminal: steps, rate, time left and metrics.

    Args:
        metrics: Names of the metrics in the line.
        label: Start of the line.
        console: Where the line is shown; None for the standard error.
    """

    def __init__(
        self, metrics: Sequence[str], label: str = "training", console: Console | None = None
    ) -> None:
        self.metrics, self.label, self.console = metrics, label, console
        self._bar: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[facts]}", markup=False),
            console=self.console or Console(stderr=True),
            auto_refresh=False,
            expand=True,
            redirect_stdout=False,  # results stay on the standard output
        )
        self._task = self._bar.add_task(self.label, total=None, facts="")
        self._first, self._start = trainer.global_step, time.monotonic()
        self._show(trainer)
        self._bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if self._bar is not None and time.monotonic() - self._shown >= BAR_SECONDS:
            self._show(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._bar is not None:
            self._show(trainer)
            self._close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, trainer: L.Trainer) -> None:
        assert self._bar is not None
        step, steps = trainer.global_step, int(trainer.estimated_stepping_batches)
        facts = [f"{step}/{steps}"]
        self._shown = time.monotonic()
        if (done := step - self._first) and (seconds := self._shown - self._start):
            facts += [
                f"{done / seconds:.1f}/s",
                f"{in_words(seconds / done * (steps - step))} left",
            ]
        facts += _values(self.metrics, trainer.callback_metrics)
        self._bar.update(
            self._task, total=steps, completed=step, facts="  ".join(facts), refresh=True
        )


def _values(shown: Sequence[str], metrics: Mapping[str, Any]) -> list[str]:
    return [f"{name} {float(metrics[name]):.4f}" for name in shown if name in metrics]


def in_words(seconds: float) -> str:
    """Return a duration, such as `1 min 20 s`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def stages(doing: str, names: Iterable[str]) -> Iterator[str]:
    """Yield the names of the parts of a long computation; print a line before each part.

    Args:
        doing: What is done with each part.
        names: The names.
    """
    parts, start = list(names), time.monotonic()
    for done, name in enumerate(parts):
        seconds = time.monotonic() - start
        left = f"  (about {in_words(seconds / done * (len(parts) - done))} left)" if done else ""
        print_progress(f"{doing} {done + 1} of {len(parts)}: {name}{left}")
        yield name


def print_progress(line: str) -> None:
    """Print a line of progress to standard error; results are printed to standard output."""
    print(printable(line), file=sys.stderr, flush=True)


def progress(metrics: tuple[str, ...], label: str = "training") -> list[Callback]:
    """Return the callbacks that show the progress of a training with these metrics."""
    return [LiveBar(metrics, label) if on_terminal() else PlainProgress(metrics)]


def on_terminal() -> bool:
    """Return whether standard error is a terminal, which shows a live bar."""
    return sys.stderr.isatty()
