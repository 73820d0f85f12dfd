"""No code runs from a run directory, a card or a sweep of somebody else, whatever reads it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import netinv_lightning
from netinv_lightning.applications import make_application
from netinv_lightning.classifiers.build import load_carded, training_split
from netinv_lightning.classifiers.zoo import zoo_path
from netinv_lightning.config.allowed_targets import only_allowed
from netinv_lightning.config.description_check import check_network
from netinv_lightning.config.instantiate import construct, locate
from netinv_lightning.config.outside_config import check_words
from netinv_lightning.errors import InputError
from netinv_lightning.explorer.command import main as explore
from netinv_lightning.html_report.command import main as report
from netinv_lightning.runs.resume import read_config, resumed_config
from netinv_lightning.runs.sweep import retry_arguments

CNN = "netinv_lightning.classifiers.networks.CNN"
RUN = "torch.utils.collect_env.run"
GADGETS: dict[str, dict[str, Any]] = {
    "shell": {"_target_": RUN, "command": "touch CANARY"},
    "os.system": {"_target_": "os.system", "command": "touch CANARY"},
    "subprocess": {"_target_": "subprocess.run", "args": ["touch", "CANARY"]},
    "eval": {"_target_": "builtins.eval", "_args_": ["open('CANARY', 'w')"]},
    "exec": {"_target_": "builtins.exec", "_args_": ["open('CANARY', 'w')"]},
    "torch.load": {"_target_": "torch.load", "f": "EVIL", "weights_only": False},
    "joblib.load": {"_target_": "joblib.load", "filename": "EVIL"},
    "pandas": {"_target_": "pandas.read_pickle", "filepath_or_buffer": "EVIL"},
    "numpy": {"_target_": "numpy.load", "file": "EVIL", "allow_pickle": True},
    "runpy": {"_target_": "runpy.run_path", "path_name": "EVIL"},
    "torch.hub": {
        "_target_": "torch.hub.load",
        "repo_or_dir": "EVIL",
        "model": "m",
        "source": "local",
    },
    "pathlib": {
        "_target_": "pathlib.Path.write_text",
        "_args_": [{"_target_": "pathlib.Path", "_args_": ["CANARY"]}, "x"],
    },
    "partial": {"_target_": "os.system", "command": "touch CANARY", "_partial_": True},
    "timm hub": {"_target_": "timm.create_model", "model_name": "hf-hub:someone/evil"},
    "timm folder": {"_target_": "timm.create_model", "model_name": "local-dir:EVIL"},
    "timm pretrained": {
        "_target_": "timm.create_model",
        "model_name": "resnet18",
        "pretrained": True,
    },
    "timm file": {
        "_target_": "timm.create_model",
        "model_name": "resnet18",
        "checkpoint_path": "EVIL",
    },
    "timm config": {
        "_target_": "timm.create_model",
        "model_name": "resnet18",
        "pretrained_cfg": {"file": "EVIL"},
    },
    "weights": {
        "_target_": "torchvision.models.get_model",
        "name": "resnet18",
        "weights": "DEFAULT",
    },
    "detector": {"_target_": "torchvision.models.get_model", "name": "fasterrcnn_resnet50_fpn"},
    "get_weight": {"_target_": "torchvision.models.get_weight", "name": "ResNet18_Weights.DEFAULT"},
    "submodule": {
        "_target_": "torchvision.models.utils.load_state_dict_from_url",
        "url": "http://127.0.0.1/",
    },
}
"""Descriptions that run code, load a file or reach the network; `CANARY` is a file that appears where the code ran."""
FORMS: dict[str, Callable[[dict[str, Any], str], dict[str, Any]]] = {
    "directly": lambda gadget, text: gadget,
    "nested": lambda gadget, text: {"_target_": CNN, "batch_norm": gadget},
    "in a list": lambda gadget, text: {"_target_": CNN, "stages": [[gadget]]},
    "decoded": lambda gadget, text: {"_target_": CNN, "batch_norm": f"${{oc.decode:'{text}'}}"},
    "created": lambda gadget, text: {
        "_target_": CNN,
        "batch_norm": f"${{oc.create:${{oc.decode:'{text}'}}}}",
    },
    "escaped": lambda gadget, text: {"_target_": CNN, "batch_norm": f"\\${{oc.decode:'{text}'}}"},
    "from the environment": lambda gadget, text: {"_target_": "${oc.env:GADGET}"},
    "as a key": lambda gadget, text: {"_target_": CNN, "${oc.env:GADGET}": 1},
}


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def filled(gadget: dict[str, Any], canary: Path) -> dict[str, Any]:
    text = (
        json.dumps(gadget)
        .replace("CANARY", str(canary))
        .replace("EVIL", str(canary.with_name("evil")))
    )
    content: dict[str, Any] = json.loads(text)
    return content


CONFIG: dict[str, Any] = {
    "name": "theirs",
    "application": {"name": "invert"},
    "data": {"name": "mnist"},
    "classifier": {},
}
"""As much of a run's config as tells what it is."""


@pytest.fixture
def run_dir(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run directory whose classifier is described so, and whose further keys are these."""

    def write(network: Any = None, **keys: Any) -> Path:
        content = copy.deepcopy(CONFIG)
        content["classifier"]["network"] = network
        content["classifier"]["path"] = str(zoo_path("mnist_cnn"))
        for key, value in keys.items():
            at, (*parents, last) = content, key.split(".")
            for parent in parents:
                at = at.setdefault(parent, {})
            at[last] = value
        directory = tmp_path / "runs" / "theirs" / "1"
        (directory / "checkpoints").mkdir(parents=True, exist_ok=True)
        (directory / "checkpoints" / "last.ckpt").touch()
        (directory / "config.yaml").write_text(yaml.safe_dump(content))
        (directory / "status.json").write_text(json.dumps({"state": "done"}))
        return directory

    return write


@pytest.mark.parametrize("gadget", GADGETS)
def test_no_gadget_passes_in_any_form(
    gadget: str, run_dir: Callable[..., Path], canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GADGET", str(GADGETS[gadget]["_target_"]))
    description = filled(GADGETS[gadget], canary)
    text = json.dumps(description).replace("'", "\\'")
    for form in FORMS.values():
        with pytest.raises(InputError, match=r"config\.yaml: classifier\.network\."):
            read_config(run_dir(form(description, text)))
        with pytest.raises(InputError, match=r"its card: classifier\.network\."):
            check_network(form(description, text), "its card")
    assert not canary.exists()


def test_the_gadget_would_run_if_it_were_trusted(canary: Path) -> None:
    description = filled(GADGETS["shell"], canary)
    with (
        only_allowed([]),
        pytest.raises(
            InputError,
            match=r"classifier\.network\._target_=torch\.utils\.collect_env\.run is outside",
        ),
    ):
        construct(description, "classifier.network")
    assert not canary.exists()
    with only_allowed([RUN]):
        construct(description, "classifier.network")
    assert canary.exists()


def resume(*further: str) -> Callable[[Path], Callable[[], Any]]:
    def prepare(path: Path) -> Callable[[], Any]:
        words = [f"resume={path}", *further]
        cfg = netinv_lightning.compose(words)
        return lambda: resumed_config(cfg, words)

    return prepare


def apply(name: str) -> Callable[[Path], Callable[[], Any]]:
    def prepare(path: Path) -> Callable[[], Any]:
        cfg = netinv_lightning.compose(
            [f"application={name}", f"application.run={path}", "trainer.accelerator=cpu"]
        )
        return lambda: make_application(cfg)

    return prepare


ENTRIES: dict[str, Callable[[Path], Callable[[], Any]]] = {
    "load_run": lambda path: lambda: netinv_lightning.load_run(path),
    "load_detector": lambda path: lambda: netinv_lightning.load_detector(path, "msp"),
    "resume": resume(),
    "resume with a key": resume("application.steps=5000"),
    "resume with the command": resume("+experiment=mnist_invert"),
    **{
        name: apply(name) for name in ("measure", "interpret", "distill", "counterfeit", "finetune")
    },
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_entry_point_runs_code_of_a_run(
    entry: str, run_dir: Callable[..., Path], canary: Path
) -> None:
    use = ENTRIES[entry](run_dir())
    for gadget in ("shell", "partial"):
        description = filled(GADGETS[gadget], canary)
        text = json.dumps(description).replace("'", "\\'")
        for form in ("directly", "in a list", "decoded"):
            run_dir(FORMS[form](description, text))
            with pytest.raises(InputError, match=r"config\.yaml: classifier\.network\."):
                use()
    assert not canary.exists()


@pytest.mark.skipif(find_spec("gradio") is None, reason="needs the extra explore")
def test_explore_and_report_run_no_code_of_a_run(
    run_dir: Callable[..., Path], canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    description = filled(GADGETS["shell"], canary)
    for form in ("directly", "decoded"):
        directory = run_dir(FORMS[form](description, json.dumps(description)))
        assert explore([str(directory)]) == 2
        assert capsys.readouterr().err.startswith(
            f"error: {directory}/config.yaml: classifier.network."
        )
        assert report([str(directory)]) == 0
    assert not canary.exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"loss.mine": {"weight": 1, "_target_": "os.system"}},
            r"loss\.mine\._target_=os\.system is outside",
        ),
        (
            {"loss.mine": {"weight": 1, "_target_": "timm.create_model"}},
            r"loss\.mine\._target_=timm\.create_model is outside",
        ),
        (
            {"application": {"name": "distill", "student": {"_target_": "os.system"}}},
            r"application\.student\._target_=os\.system is outside",
        ),
        (
            {"trainer.strategy": {"_target_": "os.system"}},
            r"trainer\.strategy\._target_=os\.system is outside",
        ),
        (
            {"trainer.default_root_dir": "/tmp/x"},
            r"trainer\.default_root_dir=/tmp/x: is not taken from a file",
        ),
        ({"trainer.plugins": ["x"]}, r"trainer\.plugins=\['x'\]: is not taken from a file"),
        (
            {"method": {"name": "gradient", "steps": {"_target_": "os.system"}}},
            r"method\.steps\._target_=os\.system is outside",
        ),
        (
            {"logger.project": "${oc.env:HOME}"},
            r"logger\.project=\${oc\.env:HOME}: is an interpolation",
        ),
        ({"data.path": "a${x}"}, r"data\.path=a\${x}: is an interpolation"),
        ({"seed": "???"}, r"seed=\?\?\?: is missing"),
        ({"garbage": {"../../x": {"source": "noise"}}}, r"garbage\.\.\./\.\./x: is not a name"),
        (
            {"garbage": {"x": {"inversion": ["+loss.m._target_=os.system"]}}},
            r"garbage\.x\.inversion: .*loss\.m\._target_=os\.system is",
        ),
        (
            {"application": {"name": "audit", "overrides": ["hydra.searchpath=[/tmp]"]}},
            r"overrides: hydra\.searchpath=.*is not taken",
        ),
        (
            {
                "application": {
                    "name": "benchmark",
                    "overrides": ["+classifier.network={_target_: os.system}"],
                }
            },
            r"overrides: .*classifier\.network\._target_=os\.system is outside",
        ),
        (
            {"application": {"name": "benchmark", "experiments": ["../../evil"]}},
            r"application\.experiments=\.\./\.\./evil: is not a name",
        ),
    ],
)
def test_every_key_that_leads_out_is_refused(
    keys: dict[str, Any], message: str, run_dir: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match=message):
        read_config(run_dir(**keys))


def test_places_outside_are_written_to_by_consent_alone(
    run_dir: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = "/elsewhere/mine.safetensors"
    directory = run_dir(
        application={"name": "train_classifier", "save_as": place},
        **{"classifier.kept_in": str(tmp_path / "kept")},
    )
    (directory / "status.json").write_text('{"state": "running"}')
    with pytest.raises(
        InputError,
        match=r"application\.save_as=/elsewhere/.*: is outside the working directory",
    ):
        resumed_config(netinv_lightning.compose([f"resume={directory}"]), [f"resume={directory}"])
    words = [f"resume={directory}", "application=train_classifier", f"application.save_as={place}"]
    keys = [words[0], words[2]]  # as they come from a command that names no group
    assert resumed_config(netinv_lightning.compose(words), keys).application.save_as == place


def test_a_dollar_that_is_no_interpolation_stays(run_dir: Callable[..., Path]) -> None:
    assert read_config(run_dir(**{"data.path": "$5_$10"})).data.path == "$5_$10"


def test_trust_is_said_by_whoever_reads(run_dir: Callable[..., Path]) -> None:
    directory = run_dir(
        {"_target_": "mine.Net", "part": {"_target_": "mine.parts.Block"}},
        trusted=["os", "mine.Net"],
    )
    for refused, named in (
        ([], "_target_=mine.Net"),
        (["mine.Net"], "part._target_=mine.parts.Block"),
        (["min"], "_target_=mine.Net"),
    ):
        with pytest.raises(InputError, match=named.replace(".", r"\.")):
            read_config(directory, refused)
    for trusted in (["mine"], ["mine."], ["mine.Net", "mine.parts"]):
        cfg = read_config(directory, trusted)
        assert cfg.classifier.network.part._target_ == "mine.parts.Block"
        assert cfg.trusted == []
    with only_allowed(["mine"]):
        assert read_config(directory).classifier.network._target_ == "mine.Net"
    words = [
        f"resume={directory}",
        "classifier=checkpoint",
        "classifier.path=x",
        "application.steps=9",
    ]
    with pytest.raises(InputError, match=r"part\._target_=mine\.parts\.Block is outside"):
        resumed_config(
            netinv_lightning.compose([*words, "+classifier.network={_target_: mine.Net}"]), words
        )


def test_pretrained_weights_need_trust(run_dir: Callable[..., Path]) -> None:
    network = {"_target_": "torchvision.models.get_model", "name": "resnet18", "weights": "DEFAULT"}
    directory = run_dir(network)
    message = r"weights=DEFAULT: would load weights .*trusted=\[torchvision\.models\.get_model\]"
    with pytest.raises(InputError, match=message):
        netinv_lightning.load_run(directory)
    assert (
        read_config(directory, ["torchvision.models.get_model"]).classifier.network.weights
        == "DEFAULT"
    )


@pytest.mark.parametrize(
    "network",
    [
        {"_target_": CNN, "stages": [[4], [4]], "hidden": 8},
        {"_target_": "torchvision.models.resnet18", "num_classes": 10, "weights": None},
        {"_target_": "torchvision.models.get_model", "name": "resnet18", "num_classes": 10},
        {"_target_": "torchvision.models.AlexNet", "num_classes": 10},
        {
            "_target_": "timm.create_model",
            "model_name": "resnet18.a1_in1k",
            "pretrained": False,
            "drop_path_rate": 0.1,
        },
    ],
)
def test_plain_architectures_pass(network: dict[str, Any]) -> None:
    check_network(network, "a card")


def test_a_card_leads_to_no_code(tmp_path: Path, canary: Path) -> None:
    weights = tmp_path / "mine.safetensors"
    shutil.copy(zoo_path("mnist_cnn"), weights)
    card = json.loads(zoo_path("mnist_cnn").with_suffix(".json").read_text())
    for form in ("directly", "in a list", "decoded"):
        description = filled(GADGETS["shell"], canary)
        network = FORMS[form](description, json.dumps(description))
        weights.with_suffix(".json").write_text(json.dumps({**card, "network": network}))
        cfg = netinv_lightning.compose(
            [
                "application=audit",
                "classifier=checkpoint",
                f"classifier.path={weights}",
                "trainer.accelerator=cpu",
            ]
        )
        for use in (lambda: load_carded(weights, "mine"), lambda cfg=cfg: make_application(cfg)):
            with pytest.raises(InputError, match=r"its card: classifier\.network\."):
                use()
    recipe = {**card["recipe"], "split_seed": "${oc.decode:'{_target_: os.system}'}"}
    weights.with_suffix(".json").write_text(json.dumps({**card, "recipe": recipe}))
    with pytest.raises(InputError, match=r"its card: recipe\.split_seed=.*is an interpolation"):
        training_split(cfg)
    card["data"]["class_names"] = [
        "$5_$10",
        "${x}",
        *map(str, range(8)),
    ]  # names of folders, which no config ever holds
    weights.with_suffix(".json").write_text(json.dumps(card))
    assert load_carded(weights, "mine").spec.class_names[:2] == ("$5_$10", "${x}")
    assert not canary.exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "+classifier.network={_target_: os.system, command: x}",
            r"classifier\.network\._target_=os\.system is outside",
        ),
        ("classifier.network._target_=os.system,os.popen", r"_target_=os\.system is outside"),
        ("+loss.x._target_=os.system", r"loss\.x\._target_=os\.system is outside"),
        (
            "classifier={network:{_target_: os.system}}",
            r"classifier\.network\._target_=os\.system is outside",
        ),
        ("+classifier.network.weights=DEFAULT", "would load weights or files"),
        ("classifier.network.model_name=hf-hub:x/y", "would load weights or files"),
        (
            "application.overrides=['+loss.x._target_=os.system']",
            r"loss\.x\._target_=os\.system is outside",
        ),
        ("x='${oc.env:HOME}'", "is an interpolation"),
        ("+experiment=../../tmp/evil", "is not the name of a choice"),
        ("+../../tmp/evil=x", "is not KEY=VALUE"),
        ("hydra.searchpath=[/tmp]", "is not taken from a file; repeat it on the command line"),
        ("hydra.callbacks.x._target_=os.system", "is not taken from a file"),
        ("hydra.launcher.setup=[reboot]", "is not taken from a file"),
        ("application.save_as=/tmp/x.safetensors", "outside the working directory"),
        ("trusted=[os]", "is not taken from a file"),
        ("--config-dir=/tmp", "is not taken from a file; repeat it"),
        ("-cd", "is not taken from a file; repeat it"),
    ],
)
def test_retry_takes_no_word_that_leads_out(word: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(
        json.dumps({"command": ["-m", "seed=0,1", word], "overrides": [], "jobs": {}})
    )
    with pytest.raises(InputError, match=message):
        retry_arguments([str(tmp_path)])
    repeated = retry_arguments([str(tmp_path), word])  # which the user has now said
    assert repeated == ["-m", "seed=0,1", word, f"hydra.sweep.dir={tmp_path}"]


def test_retry_takes_ordinary_words_and_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "-m",
        "+experiment=mnist_invert,cifar_invert",
        "seed=range(0,3)",
        "~loss.cosine",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
    ]
    own = "classifier.network._target_=mine.Net"
    manifest = {"command": [*words, own], "overrides": [], "jobs": {}, "cwd": str(tmp_path)}
    (tmp_path / "sweep.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"mine\.Net is outside"):
        retry_arguments([str(tmp_path)])
    assert retry_arguments([str(tmp_path), "trusted=[mine]"]) == [
        *words,
        own,
        f"hydra.sweep.dir={tmp_path}",
    ]


def test_code_is_found_by_one_function() -> None:
    assert locate("json.dumps", "x") is json.dumps
    with only_allowed(["json.dumps"]):
        assert locate("json.dumps", "x") is json.dumps
        with pytest.raises(InputError, match=r"x=json\.loads is outside the allow-list"):
            locate("json.loads", "x")
        with pytest.raises(InputError, match=r"=os\.system is outside"):
            netinv_lightning.compose(["+loss.own={weight: 1, _target_: os.system}"])
    with pytest.raises(InputError, match="is an interpolation"):
        construct({"_target_": CNN, "hidden": "${oc.env:HOME}"}, "classifier.network")


def test_words_of_a_file_are_a_list_of_words() -> None:
    for words in ("seed=1", [1], {"a": 1}):
        with pytest.raises(InputError, match="is not a list of overrides"):
            check_words(words, "sweep.json")
