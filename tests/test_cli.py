"""The `netinv` command: exit status, one line for invalid input, and nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import netinv_lightning
from experiments.forked import run_command
from tests.conftest import FEW_STEPS


def netinv(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a fresh process.

    If the command imports torch, `run_command` is several seconds faster.
    """
    command = [sys.executable, "-W", "ignore", "-m", "netinv_lightning.run", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture
def refusal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Return a function that runs a command in this process and returns its error line."""
    from netinv_lightning import run as entry

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETINV_DATA", str(tmp_path / "inputs" / "nothing"))
    before = sorted(tmp_path.iterdir())

    def refuse(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["netinv", *arguments])
        with pytest.raises(SystemExit) as stopped:
            entry.main()
        captured = capfd.readouterr()
        lines = [line for line in captured.err.splitlines() if line.startswith("error:")]
        assert (stopped.value.code, captured.out, len(lines)) == (2, "", 1), captured
        assert sorted(tmp_path.iterdir()) in (before, [*before, tmp_path / "inputs"])
        return lines[0]

    return refuse


LIGHT = {  # detected before torch is imported
    "experiment=mnist_invert": "add it with a plus: +experiment=",
    "+experiment=mnist_invrt": "there is no such choice; did you mean 'mnist_invert'?",
    "generator=huge": "generator=huge: there is no such choice; choose from: base, reference, ref",
    "hepl": "hepl: is neither KEY=VALUE nor a command (its first word); did you mean 'help'?",
    "mnist_invert": "(its first word); did you mean '+experiment=mnist_invert'?",
    "detect_odd": "(its first word); did you mean 'application=detect_ood'?",
    "something": "is neither KEY=VALUE nor a command (its first word); netinv --help lists",
    "classifier.mean=0.5": "classifier.mean=0.5: must be a list. Write 'classifier.mean=[0.5]'",
    "classifier.groups=[1]": "must be a list of lists. Write 'classifier.groups=[[1]]'",
    "logger.tags=a": "logger.tags=a: must be a mapping. Write 'logger.tags={NAME: VALUE}'",
    "output=[a]": "output=[a]: must be a text, not a list",
    "data.flip=maybe": "data.flip=maybe: must be true or false",
    "loss=3": "loss=3: there is no such choice; choose from: born, ce_only, cmi,",
    "loss.cosin.weight=1": "there is no such key; did you mean 'loss.cosine.weight'?",
    "application.lr=fast": "application.lr=fast: must be a number",
    "seed=1.5": "seed=1.5: must be a whole number",
    "loss.cosine.weight=-1": "loss.cosine.weight=-1: must be a finite number, 0 or more",
    "loss.cosine.weight=much": "loss.cosine.weight=much: must be a finite number, 0 or more",
    "loss.cosine.weight=nan": "loss.cosine.weight=nan: must be a finite number, 0 or more",
    "application.steps=0": "application.steps=0: must be 1 or more",
    "n_generators=0": "n_generators=0: must be 1 or more",
    "+sweep=conditioning": "+sweep=conditioning: is a sweep; add -m",
    "data.subset_size=0": "data.subset_size=0: must be 2 or more",
    "application.epochs=3": "there is no such key; did you mean 'recipe.epochs'?",
    "+classifier.network={_target_: own.Net}": "classifier.network: needs a choice of classifier",
    "output=/proc/nowhere": "output: the run directory cannot be created",
}


@pytest.mark.parametrize("argument", LIGHT)
def test_invalid_config_is_refused_in_one_line(argument: str, refusal: Callable[..., str]) -> None:
    assert LIGHT[argument] in refusal(argument)


def test_fresh_process_refuses_in_one_line(tmp_path: Path) -> None:
    done = netinv("generator=huge", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert LIGHT["generator=huge"] in done.stderr
    assert list(tmp_path.iterdir()) == []


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (_explode, (str(self.path),))


def _explode(path: str) -> None:
    Path(path).touch()


TRAIN = ("application=train_classifier", "classifier=cnn")
CHECKPOINT = ("classifier=checkpoint", "classifier.path=gone.safetensors")
WRONG = {
    ("classifier.zoo=mnist_cn",): "classifier.zoo=mnist_cn: is not in the zoo; did you mean",
    CHECKPOINT: "classifier.path=gone.safetensors: there is no such file",
    ("classifier=cnn", "classifier.path=inputs/short.safetensors"): "is not a complete safetensors",
    ("classifier=cnn", "classifier.path=inputs/bomb.pt"): "contains more than tensors and is not",
    ("classifier=cnn", "classifier.path=inputs/other.pt"): "do not fit the architecture",
    (
        "classifier=cnn",
        "classifier.zoo=mnist_cnn",
        "classifier.num_classes=7",
    ): "classifier.num_classes=7: the weights of classifier.zoo=mnist_cnn are for 10 classes",
    ("classifier.feature_layers=[hed]",): "the network has no such layer; did you mean 'head'?",
    ("classifier.image_size=600",): "the sides of images must be from 8 to 512 pixels",
    ("+loss.cosine.wieght=2",): "loss.cosine.wieght: the term has no such option; did you mean",
    ("+loss.cosine.layers=[conv]",): "loss.cosine.layers=conv: is not in classifier.feature_layers",
    ("loss=ce_only", "loss.ce.weight=0"): "loss: every term has weight 0",
    ("trainer.devices=4096",): "trainer.devices=4096: this machine has",
    ("trainer.accelerator=gpu", "trainer.devices=4096"): "trainer: ",
    (
        "trainer=ddp",
        "application.batch_size=49",
    ): "application.batch_size=49: must be a multiple of the 2 processes",
    ("logger=wandb",): "logger.mode=online: W&B has no login on this machine",
    (*TRAIN, "data=cifar100"): "CIFAR100 (train=True) is missing",
    (*TRAIN, "data=svhn_head"): "train_32x32.head.mat is missing",
    (*TRAIN, "data=npz"): "data.path: must name an .npz file with X and y",
    ("application=train_classifier",): "classifier.network: choose a network to train",
    (*TRAIN, "data=mnist5k", "data.subset_size=9999"): "data.subset_size=9999: must be from 2 to",
    (
        *TRAIN,
        "data=mnist5k",
        "application.save_as=inputs/short.safetensors",
    ): "short.safetensors: exists already. Give another name, or set application.overwrite=true",
    ("resume=nowhere",): "nowhere: is not a run directory",
}


def test_invalid_files_and_paths_are_refused(refusal: Callable[..., str], tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    torch.save({"head": torch.zeros(3)}, inputs / "other.pt")
    (inputs / "short.safetensors").write_bytes(b"\x00\x01")
    torch.save(_Bomb(inputs / "exploded"), inputs / "bomb.pt")
    for arguments, message in WRONG.items():
        assert message in refusal(*arguments), arguments
    assert not (inputs / "exploded").exists()


def test_networks_are_imported_from_the_current_folder(
    refusal: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script `netinv` starts without the current folder on its module path."""
    elsewhere = [path for path in sys.path if path not in ("", str(tmp_path))]
    monkeypatch.setattr(sys, "path", elsewhere)
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "__init__.py").touch()
    (tmp_path / "inputs" / "mynet.py").write_text(
        "from torch import nn\n\n\nclass Tiny(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    weights = {"1.weight": torch.zeros(10, 784), "1.bias": torch.zeros(9)}
    torch.save(weights, tmp_path / "inputs" / "tiny.pt")
    line = refusal(
        "classifier=checkpoint",
        "classifier.path=inputs/tiny.pt",
        "+classifier.network={_target_: inputs.mynet.Tiny}",
    )
    assert "do not fit the architecture Tiny" in line


def test_run_prints_its_directory_and_is_resumed(tmp_path: Path) -> None:
    done = run_command(["name=mine", *FEW_STEPS], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run_dir = Path(done.stdout.splitlines()[-1])
    assert run_dir.parent == tmp_path / "runs" / "mine"
    verdict, picture, report = done.stdout.splitlines()[-4:-1]
    assert verdict == json.loads((run_dir / "verdict.json").read_text())["line"]
    assert verdict.startswith("verdict: ")
    assert picture == f"picture: {run_dir / 'figures' / 'grid.png'}"
    assert Path(picture.removeprefix("picture: ")).is_file()
    assert report == f"report: netinv report {run_dir}"
    assert done.stdout.count(verdict) == 1
    longer = run_command([f"resume={run_dir}", "application.steps=12"], cwd=tmp_path)
    assert longer.returncode == 0, longer.stderr
    assert longer.stdout.splitlines()[-1] == str(run_dir)
    assert torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12
    assert [path.name for path in (tmp_path / "runs" / "mine").iterdir()] == [run_dir.name]
    other = run_command([f"resume={run_dir}", "generator.dropout=0.5"], cwd=tmp_path)
    assert other.returncode == 2
    assert "generator.dropout" in other.stderr


def test_sweep_continues_after_a_failed_job(tmp_path: Path) -> None:
    words = ["-m", "conditioning.temperature=1,0,2", "name=sweep", *FEW_STEPS]
    done = run_command([*words, "application.steps=2"], cwd=tmp_path)
    assert done.returncode == 2
    (sweep,) = (tmp_path / "sweeps" / "sweep").iterdir()
    states = [(sweep / str(job) / "status.json").read_text() for job in range(3)]
    assert ['"done"' in state for state in states] == [True, False, True]
    assert "conditioning.temperature=0.0: must be above 0" in states[1]


@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_closed_output_of_help_is_not_an_error(unbuffered: str) -> None:
    """Buffered output is written at the end, and so is the error."""
    with subprocess.Popen(
        [sys.executable, "-m", "netinv_lightning.run", "--help"],
        env=dict(os.environ) | {"PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_help_and_completion_do_not_import_torch() -> None:
    code = (
        "import sys, netinv_lightning.run; "
        "sys.exit(bool({'torch', 'lightning', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_help_lists_all_applications_and_methods(tmp_path: Path) -> None:
    """And not the groups of the schema, which cannot be chosen."""
    from netinv_lightning.config.application_schema import APPLICATION_KEYS
    from netinv_lightning.config.method_schema import METHOD_KEYS

    lines = netinv("--help", cwd=tmp_path).stdout.splitlines()
    assert f"application: {', '.join(sorted(APPLICATION_KEYS))}" in lines
    (methods,) = (line.removeprefix("method: ") for line in lines if line.startswith("method: "))
    # of method=gradient, and born of method=generator
    presets = {"deepinversion", "deepinversion_imagenet", "lucid", "maco", "born"}
    assert methods.split(", ") == sorted(presets | set(METHOD_KEYS))
    assert not [line for line in lines if line.startswith("schema/")]


@pytest.fixture
def printed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Return a function that runs a command in this process and returns what it prints."""
    from netinv_lightning import run as entry

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["netinv", *arguments])
        with pytest.raises(SystemExit) as stopped:
            entry.main()
        captured = capfd.readouterr()
        assert (stopped.value.code, captured.err) == (0, ""), captured
        return captured.out

    return run


def test_version_and_usage_are_those_of_the_project(printed: Callable[..., str]) -> None:
    assert printed("--version") == f"netinv_lightning {netinv_lightning.__version__}\n"
    assert printed("retry", "--help").startswith("netinv retry SWEEP_DIRECTORY")
    assert "conditioning.temperature\n" in printed(
        "help", "temperature=1", "conditioning.temperature"
    )
    assert printed("list", "sweeps").startswith("+sweep=NAME\n  conditioning")


def test_information_on_hydra_is_printed_once(tmp_path: Path) -> None:
    done = netinv("--info", "searchpath", cwd=tmp_path)
    assert done.stdout.count("Config search path") == 1
    assert done.stderr == ""
