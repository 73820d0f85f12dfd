"""The command in subprocesses: exit status, one line, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import FEW_STEPS


def netinv(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "netinv_lightning.run", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


LIGHT = {  # found before torch is imported
    "experiment=mnist_invert": "add it with a plus: +experiment=",
    "+experiment=mnist_invrt": "experiment=mnist_invrt: there is no such choice; did you mean 'mnist_invert'?",
    "generator=huge": "generator=huge: there is no such choice; choose from: base, reference, reference32, small, tiny",
    "help": "help: is neither KEY=VALUE nor a command (its first word); netinv --help lists commands, groups and keys",
    "loss.cosin.weight=1": "loss.cosin.weight: there is no such key; did you mean 'loss.cosine.weight'?",
    "application.lr=fast": "application.lr=fast: must be a number",
    "seed=1.5": "seed=1.5: must be a whole number",
    "loss.cosine.weight=-1": "loss.cosine.weight=-1: must be a finite number, 0 or more",
    "loss.cosine.weight=much": "loss.cosine.weight=much: must be a finite number, 0 or more",
    "loss.cosine.weight=nan": "loss.cosine.weight=nan: must be a finite number, 0 or more",
    "application.steps=0": "application.steps=0: must be 1 or more",
    "n_generators=0": "n_generators=0: must be 1 or more",
    "+sweep=conditioning": "+sweep=conditioning: is a sweep; add -m",
    "data.subset_size=0": "data.subset_size=0: must be 2 or more",
    "application.epochs=3": "application.epochs: there is no such key; did you mean 'recipe.epochs'?",
    "output=/proc/nowhere": "output: the run directory cannot be created",
}


@pytest.mark.parametrize("argument", LIGHT)
def test_a_wrong_config_gives_one_line_and_exit_status_2(argument: str, tmp_path: Path) -> None:
    done = netinv(argument, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert LIGHT[argument] in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_wrong_input_gives_one_line_and_exit_status_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors found after the import of torch, all in one process for speed."""
    from netinv_lightning import run as entry

    monkeypatch.chdir(tmp_path)
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    monkeypatch.setenv("NETINV_DATA", str(inputs / "nothing"))
    torch.save({"head": torch.zeros(3)}, inputs / "other.pt")
    (inputs / "short.safetensors").write_bytes(b"\x00\x01")
    bomb = inputs / "bomb.pt"
    torch.save(_Bomb(inputs / "exploded"), bomb)
    cases = {
        (
            "classifier.zoo=mnist_cn",
        ): "classifier.zoo=mnist_cn: is not in the zoo; did you mean 'mnist_cnn'?",
        (
            "classifier=checkpoint",
            "classifier.path=gone.safetensors",
        ): "classifier.path=gone.safetensors: there is no such file",
        (
            "classifier=cnn",
            f"classifier.path={inputs}/short.safetensors",
        ): "is not a whole safetensors file",
        (
            "classifier=cnn",
            f"classifier.path={bomb}",
        ): "contains more than tensors and is not loaded",
        (
            "classifier=cnn",
            f"classifier.path={inputs}/other.pt",
        ): "belong to another architecture than CNN",
        (
            "classifier=cnn",
            "classifier.zoo=mnist_cnn",
            "classifier.num_classes=7",
        ): "classifier.num_classes=7: the weights of classifier.zoo=mnist_cnn have 10 classes",
        (
            "classifier.feature_layers=[hed]",
        ): "classifier.feature_layers=hed: the network has no such layer; did you mean 'head'?",
        (
            "classifier.image_size=600",
        ): "classifier.image_size=600: the sides of images must be from 8 to 512 pixels",
        (
            "classifier.image_size=[28,28,3]",
        ): "classifier.image_size=[28, 28, 3]: must be the side of square images, or [height, width]",
        (
            "classifier.shape=[3,28,28]",
            "classifier.channels=3",
        ): "classifier.shape=[3, 28, 28]: contains the channels and the size already; leave out",
        ("classifier.shape=[1,7]",): "classifier.shape=[1, 7]: the sides of signals must be from 8",
        ("generator.dropout=1.5",): "generator.dropout=1.5: must be from 0 to below 1",
        ("conditioning.mode=vectr",): "conditioning.mode=vectr: did you mean 'vector'?",
        ("conditioning.temperature=0",): "conditioning.temperature=0.0: must be above 0",
        ("application.batch_size=1",): "application.batch_size=1: must be 2 or more",
        (
            "+loss.cosine.wieght=2",
        ): "loss.cosine.wieght: the term has no such option; did you mean 'weight'?",
        (
            "+loss.cosine.layers=[conv]",
        ): "loss.cosine.layers=conv: is not in classifier.feature_layers",
        ("loss=ce_only", "loss.ce.weight=0"): "loss: every term has weight 0",
        (
            "+loss.cosinus={weight: 1}",
        ): "loss.cosinus: there is no such term; did you mean 'cosine'?",
        ("perturbation.norm=l3",): "perturbation.norm=l3: did you mean",
        (
            "+trainer.devicess=1",
        ): "trainer.devicess: lightning.Trainer has no such argument; did you mean 'devices'?",
        ("trainer.devices=4096",): "trainer.devices=4096: this machine has",
        ("trainer.accelerator=gpu", "trainer.devices=4096"): "trainer: ",
        (
            "trainer=ddp",
            "application.batch_size=49",
        ): "application.batch_size=49: must be a multiple of the 2 processes that share it out",
        ("logger=wandb",): "logger.mode=online: W&B has no login on this machine",
        ("logger.name=wandbb",): "logger.name=wandbb: did you mean 'wandb'?",
        (
            "application=train_classifier",
            "classifier=cnn",
            "data=cifar100",
        ): "CIFAR100 (train=True) is not there",
        (
            "application=train_classifier",
            "classifier=cnn",
            "data=svhn_head",
        ): "train_32x32.head.mat is missing",
        (
            "application=train_classifier",
            "classifier=cnn",
            "data=npz",
        ): "data.path: must name an .npz file with X and y",
        ("application=train_classifier",): "classifier.network: choose a network to train",
        (
            "application=train_classifier",
            "classifier=cnn",
            "data=mnist5k",
            "data.subset_size=9999",
        ): "data.subset_size=9999: must be from 2 to 3600",
        (
            "application=train_classifier",
            "classifier=cnn",
            "data=mnist5k",
            f"application.save_as={inputs}/short.safetensors",
        ): "short.safetensors: is there already; give another name, or application.overwrite=true",
        ("resume=nowhere",): "nowhere: is not a run directory",
    }
    for arguments, message in cases.items():
        monkeypatch.setattr(sys, "argv", ["netinv", *arguments])
        with pytest.raises(SystemExit) as stopped:
            entry.main()
        captured = capfd.readouterr()
        lines = [line for line in captured.err.splitlines() if line.startswith("error:")]
        assert stopped.value.code == 2, (arguments, captured.err)
        assert len(lines) == 1, (arguments, captured.err)
        assert message in lines[0], (arguments, lines[0])
        assert [path.name for path in tmp_path.iterdir()] == ["inputs"], arguments
    assert not (inputs / "exploded").exists()


def test_networks_are_imported_from_the_current_folder(tmp_path: Path) -> None:
    """`netinv` is a script, so the current folder is not on its path, unlike `python -m`."""
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n\n\nclass Tiny(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    torch.save({"1.weight": torch.zeros(10, 784), "1.bias": torch.zeros(9)}, tmp_path / "tiny.pt")
    arguments = [
        "classifier=checkpoint",
        "classifier.path=tiny.pt",
        "+classifier.network={_target_: mynet.Tiny}",
    ]
    done = subprocess.run(
        [Path(sys.executable).with_name("netinv"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "belong to another architecture than Tiny" in done.stderr, done.stderr


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (_explode, (str(self.path),))


def _explode(path: str) -> None:
    Path(path).touch()


def test_a_run_ends_with_its_directory_and_resumes_from_it(tmp_path: Path) -> None:
    done = netinv("name=mine", *FEW_STEPS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run_dir = Path(done.stdout.splitlines()[-1])
    assert run_dir.parent == tmp_path / "runs" / "mine"
    grid = next(
        line.removeprefix("grid: ")
        for line in done.stdout.splitlines()
        if line.startswith("grid: ")
    )
    assert Path(grid).is_file()
    longer = netinv(f"resume={run_dir}", "application.steps=12", cwd=tmp_path)
    assert longer.returncode == 0, longer.stderr
    assert longer.stdout.splitlines()[-1] == str(run_dir)
    assert torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12
    assert [path.name for path in (tmp_path / "runs" / "mine").iterdir()] == [run_dir.name]
    other = netinv(f"resume={run_dir}", "generator.dropout=0.5", cwd=tmp_path)
    assert other.returncode == 2
    assert "generator.dropout" in other.stderr


def test_a_multirun_continues_after_a_failed_job(tmp_path: Path) -> None:
    done = netinv(
        "-m",
        "conditioning.temperature=1,0,2",
        "name=sweep",
        *FEW_STEPS,
        "application.steps=2",
        cwd=tmp_path,
    )
    assert done.returncode == 2
    (sweep,) = (tmp_path / "sweeps" / "sweep").iterdir()
    states = [(sweep / str(job) / "status.json").read_text() for job in range(3)]
    assert ['"done"' in state for state in states] == [True, False, True]
    assert "conditioning.temperature=0.0: must be above 0" in states[1]


def test_a_closed_output_of_help_is_not_an_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "netinv_lightning.run", "--help"],
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
    code = "import sys, netinv_lightning.run; sys.exit(bool({'torch', 'lightning', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_help_lists_all_applications_and_methods(tmp_path: Path) -> None:
    from netinv_lightning.config.application_schema import APPLICATION_KEYS
    from netinv_lightning.config.schema import METHOD_KEYS

    lines = netinv("--help", cwd=tmp_path).stdout.splitlines()
    for group, keys in {"application": APPLICATION_KEYS, "method": METHOD_KEYS}.items():
        assert f"{group}: {', '.join(sorted(keys))}" in lines
