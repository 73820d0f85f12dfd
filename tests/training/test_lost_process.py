"""If a process of a distributed run dies, the run ends with advice to resume it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from omegaconf import DictConfig

from netinv_lightning.runs import peers
from netinv_lightning.runs.peers import PeerLost, peer_is_gone
from netinv_lightning.runs.run_directory import RunDir

CLOSED = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] "
    "Connection closed by peer [127.0.1.1]:4242"
)
ADVICE = "another process of the run has died; continue with resume="


class Dead:
    """A child process that was killed."""

    pid, returncode = 4242, -9
    was_killed = False

    def poll(self) -> int:
        return self.returncode

    def kill(self) -> None:
        self.was_killed = True


def status(run_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_dir / "status.json").read_text())
    return content


def test_a_broken_connection_is_reported_with_advice(
    compose: Callable[..., DictConfig], job_dir: Path
) -> None:
    with pytest.raises(PeerLost, match=f"^{ADVICE}{job_dir}$"), RunDir(job_dir).open(compose()):
        raise RuntimeError(CLOSED)
    assert status(job_dir)["state"] == "failed"
    assert status(job_dir)["error"] == f"PeerLost: {ADVICE}{job_dir}"


def test_other_errors_keep_their_messages() -> None:
    # A real message
    assert peer_is_gone(
        RuntimeError(
            "[gloo/transport/tcp/pair.cc:545] Read error [::1]:3: Connection reset by peer."
        )
    )
    assert peer_is_gone(
        RuntimeError("NCCL error: remote process exited or there was a network error")
    )
    assert not peer_is_gone(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    # for example of a download
    assert not peer_is_gone(ConnectionResetError("Connection reset by peer"))


def test_a_dead_process_is_noticed_and_reported(
    compose: Callable[..., DictConfig],
    job_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(peers, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr(os, "_exit", ended.append)
    child = Dead()
    with RunDir(job_dir).open(compose()):
        assert _ChildProcessObserver(
            main_pid=os.getpid(),
            child_processes=[child],  # type: ignore[list-item]
        )._run()
        assert status(job_dir)["error"] == f"PeerLost: {ADVICE}{job_dir}"
    assert ended == [1]
    assert child.was_killed
    assert capsys.readouterr().err == f"failed: PeerLost: {ADVICE}{job_dir}\n"
