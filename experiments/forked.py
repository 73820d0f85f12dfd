"""The `netinv` command in processes forked from one that has already imported the libraries.

This saves most of the start time of the command. Experiments and tests use it to start many
commands. The forked processes are ordinary processes, with their own signals, exit status and open
files.
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
"""Function that makes the context in which a command runs; the function is pickled."""
APPLICATIONS = ("audit", "benchmark", "detect_ood", "distill", "finetune")
PRELOADED = ["netinv_lightning.run", *map("netinv_lightning.applications.{}".format, APPLICATIONS)]
"""Modules that the server imports. Those that are added before the first command count."""


@cache
def fork_server() -> ForkServerContext:
    """Return the context of processes that start with the libraries imported and use one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # torch reads the variable on import
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class Command:
    """A running `netinv` command. Its methods are those of `subprocess.Popen`.

    Args:
        arguments: Command-line arguments of `netinv`.
        cwd: Working directory.
        stdout, stderr: Files to which the output is appended.
        environment: Environment variables; None for those of this process.
        within: Function that makes the context in which the command runs; None for
            `Command.within`.
    """

    within: Context = nullcontext

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        stdout: Path,
        stderr: Path,
        environment: Mapping[str, str] | None = None,
        within: Context | None = None,
    ) -> None:
        self.arguments = ["netinv", *arguments]
        for path in (stdout, stderr):
            path.touch()
        outputs, variables = (str(stdout), str(stderr)), dict(environment or os.environ)
        self._process = fork_server().Process(
            target=_netinv,
            args=(self.arguments, str(cwd), outputs, variables, within or Command.within),
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
            subprocess.TimeoutExpired: If the process still runs after `timeout` seconds.
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
    within: Context | None = None,
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
    site.addsitedir(cwd)  # modules in the working directory can be imported, as with `python -m`
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.simplefilter("ignore")
    sys.argv = arguments
    status = 1
    try:
        with within():
            main()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        # Exit handlers of libraries would wait for threads that do not exist in a fork.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
