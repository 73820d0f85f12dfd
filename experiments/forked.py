"""The `netinv` command in processes forked from one that has imported the libraries.

This saves most of the time that the command needs to start.

Used where a command is started many times: by experiments and by tests. The forked
processes are real ones, with signals, exit status and open files of their own.
"""

from __future__ import annotations

import os
import signal
import site
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

Context = Callable[[], AbstractContextManager[object]]
"""Makes the context in which a command runs; it is pickled."""
APPLICATIONS = ("audit", "benchmark", "detect_ood", "distill", "finetune")


@cache
def fork_server() -> ForkServerContext:
    """Return the context of processes that start with the libraries imported and use one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is imported
    context = get_context("forkserver")
    applications = [f"netinv_lightning.applications.{name}" for name in APPLICATIONS]
    context.set_forkserver_preload(["netinv_lightning.run", *applications])
    return context


class Command:
    """A running `netinv` command. Its methods are those of `subprocess.Popen`.

    Args:
        arguments: what follows `netinv` on the command line.
        cwd: the folder it runs in.
        stdout, stderr: files that its output is appended to.
        environment: its environment; None leaves that of this process.
        within: makes the context in which it runs.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        stdout: Path,
        stderr: Path,
        environment: Mapping[str, str] | None = None,
        within: Context = nullcontext,
    ) -> None:
        self.arguments = ["netinv", *arguments]
        for path in (stdout, stderr):
            path.touch()
        outputs, variables = (str(stdout), str(stderr)), dict(environment or os.environ)
        self._process = fork_server().Process(
            target=_netinv, args=(self.arguments, str(cwd), outputs, variables, within)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status.

        Raises:
            subprocess.TimeoutExpired: if it still runs after `timeout` seconds.
        """
        self._process.join(timeout)
        if timeout is not None and self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.arguments, timeout)
        assert self._process.exitcode is not None
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def run_command(
    arguments: Sequence[str],
    *,
    cwd: Path,
    timeout: float | None = None,
    within: Context = nullcontext,
) -> subprocess.CompletedProcess[str]:
    """Run a `netinv` command to its end and return its exit status and output, as text.

    Args:
        arguments: See `Command`.
        cwd: See `Command`.
        timeout: Seconds after which `subprocess.TimeoutExpired` is raised; None for no limit.
        within: See `Command`.
    """
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder) / "stdout", Path(folder) / "stderr"
        command = Command(arguments, cwd=cwd, stdout=stdout, stderr=stderr, within=within)
        status = command.wait(timeout)
        return subprocess.CompletedProcess(
            list(arguments), status, stdout.read_text(), stderr.read_text()
        )


def _netinv(
    arguments: list[str],
    cwd: str,
    outputs: tuple[str, str],
    environment: dict[str, str],
    within: Context,
) -> None:
    from netinv_lightning.run import main

    for descriptor, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    site.addsitedir(cwd)  # modules beside the user are found, as with `python -m`
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.simplefilter("ignore")
    sys.argv = arguments
    status = 1
    try:
        with within():
            main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:  # what libraries registered for the end waits for threads that a fork does not have
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
