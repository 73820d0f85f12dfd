"""Kills runs at random moments, resumes them, and compares with the same runs left alone.

    python experiments/survival/kill_and_resume.py             # 10 runs, 5 kills each: some 15 minutes
    python experiments/survival/kill_and_resume.py --runs 1    # the first of them

Each run is started as a user starts it, killed by SIGKILL five times at moments drawn over its whole length (imports,
training, checkpoints, evaluation, pictures), and resumed after each. What it leaves is then compared bit by bit with
the uninterrupted run: weights, optimiser, schedule, random streams, metrics, samples. Writes survival.csv beside it.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
NETINV = [sys.executable, "-W", "ignore", "-m", "netinv_lightning.run"]
SHORT = [
    "application.steps=300", "application.batch_size=16", "application.eval_samples=2000", "application.checkpoint_every=10",
    "application.grid_every=40", "application.log_every=7", "generator=tiny",
]  # fmt: skip
RUNS = {
    "label": ["conditioning=label"],
    "vector": ["conditioning=vector", "+experiment=cifar_invert"],
    "matrix": ["conditioning=matrix", "+experiment=fmnist_invert"],
    "vector_matrix": ["+experiment=svhn_invert"],
    "three generators": ["n_generators=3"],
    "natural": ["loss=natural"],
    "nine terms": ["loss=reconstruction", "conditioning.vectors=hot", "application.steps=40"],
    "adversarial perturbation": ["+loss.kl_perturbed={weight: 1}", "perturbation.direction=adversarial", "perturbation.norm=l2"],
    "W&B offline": ["logger=wandb", "logger.mode=offline"],
    "another seed, much dropout": ["seed=11", "generator.dropout=0.5", "application.sampling_batch_norm=batch"],
}
"""Ten runs of different make: what the command is given after the short recipe."""
KILLS = 5


def result(run_dir: Path) -> dict[str, Any]:
    """All that a run leaves but its times."""
    checkpoint = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    del checkpoint["step_seconds"]
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = [_timeless(row) for row in csv.DictReader(file)]
    summary = _timeless(json.loads((run_dir / "summary.json").read_text()))
    samples = (run_dir / "samples" / "inverted.safetensors").read_bytes()
    return {"checkpoint": checkpoint, "metrics": rows, "summary": summary, "samples": samples}


def _timeless(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if not name.startswith("cost/") and "seconds" not in name}


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two results differ, in any bit; nothing if they are the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            yield from differences(one.get(key), other.get(key), f"{where}/{key}")
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}/{index}")
    elif not (torch.equal(one, other) if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) else one == other):
        yield where


def start(run_dir: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    """The run's command, or resume= once there is something to resume."""
    begun = (run_dir / "config.yaml").is_file()
    command = [f"resume={run_dir}"] if begun else [*SHORT, *arguments, f"hydra.run.dir={run_dir}"]
    return subprocess.Popen([*NETINV, *command], cwd=run_dir.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(run_dir: Path, arguments: list[str]) -> float:
    """Lets it run to its end; gives the seconds."""
    begin = time.monotonic()
    if is_done(run_dir):  # it was killed on its way out
        return 0.0
    process = start(run_dir, arguments)
    _, error = process.communicate()
    if process.returncode:
        raise SystemExit(f"{run_dir.name}: exit status {process.returncode}: {error.decode()[-500:]}")
    return time.monotonic() - begin


def is_done(run_dir: Path) -> bool:
    status = run_dir / "status.json"
    return status.is_file() and json.loads(status.read_text())["state"] == "done"


def where_it_stood(run_dir: Path) -> str:
    checkpoint = run_dir / "checkpoints" / "last.ckpt"
    if (run_dir / "summary.json").exists():
        return "after the summary"
    if checkpoint.exists():
        return f"checkpoint of step {torch.load(checkpoint, weights_only=True)['global_step']}"
    return "before the first checkpoint" if run_dir.exists() else "before the run directory"


def kill_at_random(run_dir: Path, arguments: list[str], length: float, most: int, moments: random.Random) -> Iterator[dict[str, object]]:
    """Starts and kills the run until it has ended by itself, or was killed `most` times; then it is left to end."""
    for _ in range(most):
        process = start(run_dir, arguments)
        after = moments.uniform(0, length)
        try:
            process.communicate(timeout=after)
            return  # it ended before its moment came
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        yield {"seconds_after_start": round(after, 2), "stood_at": where_it_stood(run_dir)}
        if is_done(run_dir):
            return
    finish(run_dir, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=len(RUNS), help="how many of the ten runs")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    moments, rows, differing = random.Random(options.seed), [], 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, arguments) in enumerate(list(RUNS.items())[: options.runs]):
            whole = Path(folder) / f"{number}_whole"
            length = finish(whole, arguments)
            kills, tries = 0, 0
            while kills < KILLS:
                tries += 1
                broken = Path(folder) / f"{number}_broken{tries}"
                of_this = list(kill_at_random(broken, arguments, length, KILLS - kills, moments))
                kills += len(of_this)
                found = list(differences(result(whole), result(broken)))
                if "logger=wandb" in arguments:
                    ids = {json.loads((broken / "status.json").read_text())["wandb_run_id"]}
                    ids |= {path.name.rpartition("-")[2] for path in (broken / "wandb").glob("offline-run-*")}
                    found += [f"W&B run ids {sorted(ids)}"] if len(ids) > 1 else []
                differing += len(found)
                rows += [{"run": name, **row, "differences": len(found)} for row in of_this]
                print(f"{name}: {len(of_this)} kills, {len(found)} differences {found[:3] or ''}", flush=True)
    print(f"{len(rows)} kills, {len(rows)} resumes, {differing} differences")
    if options.runs == len(RUNS):
        with (HERE / "survival.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["run", "seconds_after_start", "stood_at", "differences"])
            writer.writeheader()
            writer.writerows(rows)
    raise SystemExit(differing > 0)


if __name__ == "__main__":
    main()
