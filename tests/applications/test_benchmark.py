"""The benchmark: each combination is a run and each failure a row; resuming runs only the rest."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

import pytest
from omegaconf import DictConfig

import netinv_lightning
from experiments.forked import run_command
from netinv_lightning import metric_names as names
from netinv_lightning.applications import nested_runs as parts
from netinv_lightning.errors import InputError, Preempted
from netinv_lightning.evaluation.benchmark_baselines import baseline_groups
from netinv_lightning.run import run
from tests.conftest import FEW_STEPS
from tests.runs.stops import raising

OVERRIDES = [
    *FEW_STEPS,
    "data=mnist5k",
    "classifier.zoo=mnist_cnn",
    "application.verifiers=[mnist_mlp]",
]
SMALL = [
    "application=benchmark",
    "application.methods=[generator]",
    "application.conditionings=[vector_matrix,label]",
    "application.seeds=[0,1]",
    f"application.overrides={json.dumps(OVERRIDES)}",
    "measure.controls=[noise,real]",
    "measure.samples=50",
]


def _rows(path: Path) -> list[dict[str, str]]:
    with (path / "benchmark.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_failed_job_is_a_row_and_resuming_runs_only_this_job(
    job_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[str] = []
    fails = {"mnist_invert-generator-label-seed0"}

    def run_some(cfg: DictConfig, directory: Path, resuming: bool) -> dict[str, float]:
        started.append(directory.name)
        if directory.name in fails:
            raise RuntimeError("on\npurpose")
        return run(cfg, directory, resuming)

    monkeypatch.setattr(parts, "run", run_some)
    cfg = netinv_lightning.compose(SMALL)
    with pytest.raises(
        RuntimeError,
        match=r"1 of 4 jobs failed, the others are done; resume=.* runs them again",
    ):
        run(cfg, job_dir)
    assert len(started) == 4
    assert [row["of"] for row in _rows(job_dir)] == [
        "2/2 seeds",
        "1/2 seeds",
        "50 images",
        "50 images",
    ]
    assert (
        "failed: mnist_invert-generator-label-seed0: RuntimeError: on purpose"
        in (job_dir / "benchmark.md").read_text()
    )
    assert json.loads((job_dir / "status.json").read_text())["state"] == "failed"

    started.clear()
    fails.clear()
    metrics = run(cfg, job_dir, resuming=True)
    assert started == ["mnist_invert-generator-label-seed0"]
    rows = _rows(job_dir)
    assert [row["of"] for row in rows] == ["2/2 seeds", "2/2 seeds", "50 images", "50 images"]
    assert [row["conditioning"] for row in rows] == ["vector_matrix", "label", "", ""]
    assert [row["method"] for row in rows] == [
        "generator",
        "generator",
        "baseline: noise",
        "baseline: real",
    ]
    transfer = []
    for row in rows[:2]:
        jobs = [
            job_dir / f"mnist_invert-generator-{row['conditioning']}-seed{seed}" for seed in (0, 1)
        ]
        values = [
            json.loads((job / "summary.json").read_text())[names.INVERSION_KL] for job in jobs
        ]
        assert values[0] != values[1]
        assert float(row[names.INVERSION_KL]) == pytest.approx(sum(values) / 2)
        assert float(row[f"{names.INVERSION_KL} spread"]) == pytest.approx(
            abs(values[0] - values[1]) / 2**0.5
        )
        transfer += [
            json.loads((job / "summary.json").read_text())[names.TRANSFER_ACCURACY] for job in jobs
        ]
        assert row["verdict"] == "no inversion"
    assert metrics == {names.TRANSFER_ACCURACY: pytest.approx(statistics.fmean(transfer))}
    assert float(rows[3][names.TRANSFER_ACCURACY]) > 0.9  # real images
    assert float(rows[2][names.TRANSFER_ACCURACY]) < 0.4  # noise
    assert (job_dir / "figures" / "mnist_invert.png").stat().st_size > 1000
    text = (job_dir / "benchmark.md").read_text()
    assert "failed" not in text
    assert "| baseline: real |  |  | 50 images |" in text
    assert "± standard deviation" in capsys.readouterr().out


def test_a_stop_signal_stops_the_benchmark(job_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def stopped(cfg: DictConfig, directory: Path, resuming: bool) -> dict[str, float]:
        started.append(directory.name)
        raise Preempted("stopped by SIGTERM")

    monkeypatch.setattr(parts, "run", stopped)
    with pytest.raises(Preempted):
        run(netinv_lightning.compose(SMALL), job_dir)
    assert len(started) == 1


def test_a_refused_job_is_a_row_too(job_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(cfg: DictConfig, directory: Path, resuming: bool) -> dict[str, float]:
        raise InputError("some.key=1: must be 2")

    monkeypatch.setattr(parts, "run", refused)
    with pytest.raises(RuntimeError, match="4 of 4 jobs failed"):
        run(netinv_lightning.compose([*SMALL, "measure.controls=[noise]"]), job_dir)
    assert [row["of"] for row in _rows(job_dir)] == ["0/2 seeds", "0/2 seeds", "50 images"]
    job = json.loads((job_dir / "mnist_invert-generator-label-seed1" / "status.json").read_text())
    assert (job["state"], job["error"]) == ("failed", "some.key=1: must be 2")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["application.methods=[gradiant]"],
            r"method=gradiant: there is no such choice; did you mean 'gradient'\?",
        ),
        (["application.experiments=[mnist_inver]"], r"did you mean 'mnist_invert'\?"),
        (["application.conditionings=[vectors]"], r"did you mean 'vector'\?"),
        (
            ["application.experiments=[zoo/mnist_cnn]", "application.overrides=[]"],
            r"has application=train_classifier. Choose experiments with application=invert",
        ),
        (
            ['application.overrides=["application.stepz=3"]'],
            r"stepz: there is no such key; did you mean 'application.steps'\?",
        ),
        (
            ['application.overrides=["application.verifiers=[mnist_cnn]"]'],
            r"verifiers=mnist_cnn: is the classifier that is inverted",
        ),
        (["application.seeds=[]"], r"application.seeds=\[\]: is empty. Give at least one"),
        (["application.seeds=[1,1]"], r"application.seeds=\[1, 1\]: contains a value twice"),
        (["measure.controls=[noize]"], r"did you mean 'noise'\?"),
        (["trainer=ddp"], r"runs in one process only"),
    ],
)
def test_invalid_input_is_refused_before_any_job(
    job_dir: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(netinv_lightning.compose([*SMALL, *overrides]), job_dir)
    assert not job_dir.exists()


def test_a_benchmark_from_the_command_line(tmp_path: Path) -> None:
    """Hydra has already composed the config here, and composes the config of each job again."""
    command = [*SMALL, "application.conditionings=[label]", "application.seeds=[3]"]
    done = run_command([*command, f"hydra.run.dir={tmp_path / 'b'}"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "b")
    assert (
        json.loads(
            (tmp_path / "b" / "mnist_invert-generator-label-seed3" / "status.json").read_text()
        )["state"]
        == "done"
    )
    assert _rows(tmp_path / "b")[0]["of"] == "1/1 seeds"


def test_baselines_of_earlier_versions_can_be_read(tmp_path: Path) -> None:
    content = {"sets": {"noise": [50, {names.INVERSION_ACCURACY: 0.25}]}, "skipped": {"fid": "no"}}
    (tmp_path / "controls-mnist_invert.json").write_text(json.dumps(content))
    (group,), notes = baseline_groups("mnist_invert", tmp_path, raising(AssertionError()))
    assert (group.method, group.images_of) == ("baseline: noise", "50 images")
    assert notes == ["skipped: mnist_invert: fid: no"]
    assert group.values == {names.INVERSION_ACCURACY: [0.25]}
    assert [path.name for path in tmp_path.iterdir()] == ["controls-mnist_invert.json"]
