"""Compare the results of the working tree with those of an earlier commit, bit by bit.

    python -m experiments.same_bytes main          # every application, against the commit `main`
    python -m experiments.same_bytes main --runs label,measure  # only these runs
    python -m experiments.same_bytes main --keep FOLDER    # keep the commit's results there

Both versions of the code execute each run of `experiments/killed_runs.py` in one thread. The
numbers of `summary.json` (without times), the samples and the tensors of the checkpoints must be
equal. Texts, table headings and figures may differ. The exit status is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from experiments.killed_runs import INVERSIONS, RESTARTED, SHORT, SOURCE, TRAINING
from experiments.options import add_runs
from experiments.run_results import TIMES, differences

ROOT = Path(__file__).resolve().parents[1]
RUNS = {name: [*SHORT, *command] for name, command in INVERSIONS.items()} | TRAINING | RESTARTED
FORKED = """
import json, os, sys, warnings
from netinv_lightning.run import main
warnings.simplefilter("ignore")
for directory, command in json.loads(sys.argv[1]):
    if os.path.exists(f"{directory}/summary.json"):
        continue
    if not (child := os.fork()):
        log = os.open(f"{directory}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        sys.argv = ["netinv", *command, f"hydra.run.dir={directory}"]
        main()
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(f"failed: {' '.join(command)}; see {directory}.log")
"""
"""Run the commands one after another in processes forked from one that has imported the package."""


def place_of(name: str) -> str:
    """Return a directory name for a run that needs no quotes on a command line."""
    return re.sub(r"\W+", "_", name)


def run_all(code: Path, folder: Path, names: list[str]) -> None:
    """Execute the named runs with the package of the checkout `code`, below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    directories = {name: folder / place_of(name) for name in ["source", *names]}
    commands = []
    for name, directory in directories.items():
        words = [
            word.replace("{source}", str(directories["source"]))
            for word in (SOURCE if name == "source" else RUNS[name])
        ]
        commands.append((str(directory), [word.replace("{run}", str(directory)) for word in words]))
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-c", FORKED, json.dumps(commands)],
        cwd=folder,
        env=environment,
        check=True,
    )


def computed(directory: Path) -> dict[str, Any]:
    """Return the numbers and tensors of a run directory, by file, without times."""
    found: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        place = str(path.relative_to(directory))
        if path.name == "summary.json":
            summary = json.loads(path.read_text())
            found[place] = {
                name: value
                for name, value in summary.items()
                if not any(time in name for time in TIMES)
            }
        elif path.suffix == ".safetensors":
            found[place] = load_file(path)
        elif path.suffix == ".ckpt":
            found[place] = dict(_tensors(torch.load(path, map_location="cpu", weights_only=True)))
    return found


def _tensors(content: Any, place: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each tensor of a checkpoint with its place; the order of the keys does not matter."""
    if isinstance(content, torch.Tensor):
        yield place, content
    elif isinstance(content, dict | list | tuple):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for name, value in items:
            yield from _tensors(value, f"{place}/{name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit", help="the earlier version")
    add_runs(parser, RUNS)
    parser.add_argument("--keep", type=Path, help="folder for the results of the commit")
    options = parser.parse_args()
    chosen = options.runs
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run(
        [*git, "rev-parse", options.commit], capture_output=True, text=True, check=True
    ).stdout.strip()
    differing = 0
    with tempfile.TemporaryDirectory() as temporary:
        before = (options.keep or Path(temporary)).resolve() / commit
        checkout, after = Path(temporary) / "checkout", Path(temporary) / "after"
        subprocess.run(
            [*git, "worktree", "add", "--quiet", "--detach", str(checkout), commit], check=True
        )
        try:
            run_all(checkout, before, chosen)
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(checkout)], check=True)
        run_all(ROOT, after, chosen)
        for name in ["source", *chosen]:
            place = place_of(name)
            found = list(differences(computed(before / place), computed(after / place)))
            differing += bool(found)
            print(
                f"{name}: {'the same' if not found else f'{len(found)} differences, {found[:5]}'}",
                flush=True,
            )
    raise SystemExit(bool(differing))


if __name__ == "__main__":
    main()
