"""`netinv explore` without a browser: images, neighbours, pictures, markup, invalid input."""

from __future__ import annotations

import json
import math
import re
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import CNN
from netinv_lightning.data.specs import CIFAR100
from netinv_lightning.evaluation.image_sets import Images
from netinv_lightning.explorer import command
from netinv_lightning.explorer.drawing import COMPANIONS, Drawing, Setting, between, distribution
from netinv_lightning.explorer.neighbours import PIXELS, Neighbours
from netinv_lightning.inversion.build import make_module

Compose = Callable[..., DictConfig]


def drawing_of(compose: Compose, *overrides: str) -> Drawing:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make_module(
            compose("data=mnist5k", "classifier.zoo=mnist_mlp", "generator.dropout=0.4", *overrides)
        )
    module.eval()
    return Drawing(module)


def test_latents_are_interpolated_on_the_sphere() -> None:
    right_Z, up_Z = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert torch.equal(between(right_Z, up_Z, 0.0), right_Z)
    torch.testing.assert_close(between(right_Z, up_Z, 1.0), up_Z)
    torch.testing.assert_close(
        between(right_Z, up_Z, 1 / 3), torch.tensor([math.sqrt(3) / 2, 1 / 2])
    )
    assert torch.equal(between(up_Z, up_Z, 0.7), up_Z)


def test_weights_become_a_distribution() -> None:
    assert distribution(torch.tensor([2.0, 0.0, 6.0])).tolist() == [0.25, 0.0, 0.75]
    assert distribution(torch.zeros(4)).tolist() == [0.25] * 4


def test_an_image_equals_the_output_of_the_generator(compose: Compose) -> None:
    drawing = drawing_of(compose)
    vector_N = distribution(torch.tensor([3.0, 1.0] + [0.0] * 8))
    state = torch.get_rng_state()
    drawn = drawing.image(vector_N, Setting(first=4))
    assert torch.equal(torch.get_rng_state(), state)
    generator = drawing.module.generator
    with torch.no_grad():
        z_BZ = torch.randn(generator.latent_dim, generator=torch.Generator().manual_seed(4))[None]
        image_BCHW = generator(z_BZ, drawing.conditioning.of_vectors(vector_N[None]))
        logits_BN, features = drawing.classifier.logits_and_features(image_BCHW)
    assert torch.equal(drawn.images_nCHW, image_BCHW)
    assert torch.equal(drawn.probabilities_nN, logits_BN.softmax(dim=1))
    assert torch.equal(drawn.features_nD, features["penultimate"])
    assert torch.equal(drawn.targets_nN, vector_N[None])
    other = drawing.image(vector_N, Setting(first=5))
    assert not torch.equal(other.images_nCHW, drawn.images_nCHW)


def test_draws_differ_only_with_dropout(compose: Compose) -> None:
    drawing = drawing_of(compose)
    hot_N = torch.eye(10)[3]

    def image(dropout: bool, draw: int) -> torch.Tensor:
        return drawing.image(hot_N, Setting(dropout=dropout, draw=draw)).images_nCHW

    assert torch.equal(image(False, 0), image(False, 1))
    assert torch.equal(image(True, 1), image(True, 1))
    assert not torch.allclose(image(True, 0), image(True, 1), atol=1e-3)
    assert not drawing.module.generator.training


def test_images_of_a_strip_equal_single_images(compose: Compose) -> None:
    drawing = drawing_of(compose)
    setting = Setting(first=2, second=9, dropout=True, draw=7)
    strip = drawing.of_classes([8, 3], setting)
    for row, label in enumerate([8, 3]):
        torch.testing.assert_close(
            strip.images_nCHW[row], drawing.image(torch.eye(10)[label], setting).images_nCHW[0]
        )
    path = drawing.between_classes(1, 6, 5, setting)
    assert path.targets_nN is not None
    assert path.targets_nN[:, 1].tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert path.targets_nN[:, 6].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    latents = drawing.between_latents(torch.eye(10)[4], 3, setting)
    at_second = Setting(first=9, dropout=True, draw=7)
    torch.testing.assert_close(
        latents.images_nCHW[2], drawing.image(torch.eye(10)[4], at_second).images_nCHW[0]
    )


def test_batch_statistics_come_from_companion_images(compose: Compose) -> None:
    """A single image has no batch statistics, so companion images are drawn.

    Equal companions give an equal image.
    """
    drawing = drawing_of(compose, "application.sampling_batch_norm=batch")
    generator, hot_N = drawing.module.generator, torch.eye(10)[3]
    buffers = {name: buffer.clone() for name, buffer in generator.named_buffers()}
    drawn = drawing.image(hot_N, Setting())
    batches: list[int] = []
    handle = generator.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    assert torch.equal(drawing.image(hot_N, Setting()).images_nCHW, drawn.images_nCHW)
    handle.remove()
    assert batches == [1 + COMPANIONS]
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in generator.named_buffers())
    alone = drawing_of(compose).image(hot_N, Setting())
    assert not torch.allclose(alone.images_nCHW, drawn.images_nCHW, atol=1e-2)


@pytest.mark.parametrize(
    ("overrides", "alone"),
    [
        (["conditioning=label"], True),
        (["conditioning=matrix"], True),
        (["conditioning=vector", "conditioning.vectors=hot"], True),
        (["conditioning=matrix", "conditioning.matrix=diagonal"], False),
        (["conditioning=vector"], False),
        (["conditioning=vector_matrix"], False),
    ],
)
def test_which_conditionings_use_the_label_only(
    compose: Compose, overrides: list[str], alone: bool
) -> None:
    assert drawing_of(compose, *overrides).label_alone is alone


def test_with_a_hundred_classes_the_user_chooses_slots(compose: Compose) -> None:
    """The page has five slots, each with a class and its weight."""
    pytest.importorskip("starlette")
    from netinv_lightning.explorer.callbacks import CHOSEN, OVER_CLASSES, Callbacks, Explored

    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = FrozenClassifier(CNN(100, 3, 32), CIFAR100)
        drawing = Drawing(make_module(compose("data=cifar100"), classifier).eval())
    images = Images(
        torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    )
    page = Callbacks(
        Explored(
            "hundred",
            "",
            drawing,
            Neighbours(images, classifier, "random images"),
            None,
            "No real images: none",
        )
    )
    setting, slots = (0, 1, 0.0, 0, False, 0), (5, 6, 7, 8, 97, 0.0, 0.0, 1.0, 0.0, 3.0)

    def target(bars: str) -> dict[int, float]:
        """Return the conditioning distribution that the bars show."""
        rows = re.findall(r'data-class="(\d+)".*?<span class="number">[\d.]+ / ([\d.]+)', bars)
        return {int(label): float(share) for label, share in rows if float(share)}

    figures, bars = page.show(0, PIXELS, *setting, *slots)
    assert target(bars) == {7: 0.25, 97: 0.75}
    assert "No real images: none" in figures
    *hot, _, bars = page.hot(42, PIXELS, *setting, *slots)
    assert hot == [42, 0, 1, 2, 3, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert target(bars) == {42: 1.0}
    *mixed, _, bars = page.mixed(0.75, 42, 7, PIXELS, *setting, *slots)
    assert mixed[:2] + mixed[CHOSEN : CHOSEN + 2] == [42, 7, 0.25, 0.75]
    assert target(bars) == {7: 0.75, 42: 0.25}
    captions = re.findall(
        r"<figcaption>(\d+) \u2192", page.sweep(OVER_CLASSES, 5, 1, 0, PIXELS, *setting, *slots)
    )
    assert captions == [str(label) for label in range(80, 100)]


def run_directory(
    path: Path, cfg: DictConfig, state: str = "done", checkpoint: bool = True
) -> Path:
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    (path / "status.json").write_text(json.dumps({"state": state}))
    (path / "summary.json").write_text(
        json.dumps({"inversion/accuracy": 0.5, "inversion/accuracy_hot": 0.5})
    )
    if checkpoint:
        with zipfile.ZipFile(path / "checkpoints" / "last.ckpt", "w") as content:
            content.writestr("archive/data.pkl", b"")
    return path


def test_only_finished_inversions_are_accepted(
    compose: Compose,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import netinv_lightning

    done = run_directory(tmp_path / "done", compose())
    running = run_directory(tmp_path / "running", compose(), state="running")
    bare = run_directory(tmp_path / "bare", compose(), checkpoint=False)
    pixels = run_directory(
        tmp_path / "pixels",
        compose("method=gradient", "application.batch_size=8"),
        checkpoint=False,
    )
    trained = run_directory(
        tmp_path / "trained",
        netinv_lightning.compose(
            ["application=train_classifier", "data=mnist5k", "classifier=cnn"]
        ),
    )
    older = run_directory(
        tmp_path / "older",
        OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(compose())), {"unheard": 1}),
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cases = {
            (
                str(tmp_path / "nowhere"),
            ): "there is no such directory; give a run directory, such as runs/latest",
            (str(empty),): "is not a run directory (it has no config.yaml)",
            (
                str(trained),
            ): "is a run of application=train_classifier; give a run of application=invert",
            (str(pixels),): "has no generator (method=gradient)",
            (str(running),): f"is not done (running); continue it with resume={running}",
            (str(bare),): "its generator is missing (no checkpoints/last.ckpt); run it again",
            (str(older),): "is not the config of a run of this version (Key 'unheard'",
            (
                str(done),
                f"--port={port}",
            ): f"--port={port}: cannot be used (Address already in use). "
            f"Choose another port, such as --port={port + 1}",
            (str(done), "--port=0"): "--port=0: must be a port from 1 to 65535",
            (
                str(done),
                "--port=many",
            ): "argument --port: invalid int value: 'many'; see netinv explore --help",
            (): "the following arguments are required: RUN",
        }
        for arguments, line in cases.items():
            assert command.main(arguments) == 2, arguments
            printed = capsys.readouterr()
            assert line in printed.err
            assert printed.err.startswith("error: ")
            assert printed.err.count("\n") == 1
            assert printed.out == ""
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert command.main([str(done)]) == 2
    assert (
        "gradio is not installed. Install it with pip install 'netinv_lightning[explore]'"
        in capsys.readouterr().err
    )
