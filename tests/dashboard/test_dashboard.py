"""The W&B dashboard: runs log every key of its panels. No network or login is needed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

import netinv_lightning
from netinv_lightning import metric_names as names
from netinv_lightning.config.loss_terms import LOSS_TERMS
from netinv_lightning.config.validate import check
from netinv_lightning.dashboard import command, workspace
from netinv_lightning.ood.detectors import DETECTORS
from netinv_lightning.run import run
from netinv_lightning.runs.run_directory import RunDir
from netinv_lightning.tracking.loggers import open_loggers
from tests.tracking.test_tracking import parts

Compose = Callable[..., DictConfig]

# wandb-workspaces uses a deprecated form of pydantic models.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")

SWEEP = Path(__file__).parents[2] / "experiments" / "wandb_sweep.yaml"

EVERYTHING = (
    "logger=wandb",
    "logger.mode=offline",
    "loss=reconstruction",
    "+loss.l1={weight: 1e-5}",
    "+loss.batch_norm={weight: 1}",
    "+loss.class_spread={weight: 1}",
    "+loss.stationarity={weight: 1}",
    "application.steps=40",
    "application.lr=0.02",
    "conditioning.vectors=hot",
    "application.verifiers=[mnist_mlp]",
    "data=mnist5k",
    "classifier.zoo=mnist_cnn",
    "interpret=full",
    "interpret.samples=500",
    "interpret.perplexities=[5]",
    "interpret.embedding_seeds=[0]",
    "interpret.embedded=50",
    "interpret.sparse_units=32",
    "interpret.sparse_active=4",
)
"""An inversion that logs everything that inversions log."""

FEWER = {
    "autoencoder_analysis.MAP_SAMPLES": 60,
    "autoencoder_analysis.MAP_UNITS": 16,
    "clusters.SURROGATES": 3,
}
"""What makes the slowest parts of a study cheap."""

DETECTION = (
    "application=detect_ood",
    "logger=wandb",
    "logger.mode=offline",
    "data=mnist5k",
    "classifier.zoo=mnist_mlp",
    "application.samples=100",
    f"application.detectors=[{','.join(DETECTORS)}]",
    "garbage=noise",
    "garbage.noise.epochs=2",
    "garbage.noise.images=100",
    "garbage.noise.initial=20",
    "garbage.noise.per_class=2",
)
"""A detection run with a garbage class."""


AUDITED = (
    "application=audit",
    "application.attacks=[inversion]",
    "logger=wandb",
    "logger.mode=offline",
    "data=mnist5k",
    "data.subset_size=40",
    "classifier=mlp",
    "classifier.train=true",
    "recipe.epochs=1",
    "data.batch_size=20",
    "application.reconstructions=20",
)
"""An audit; its attack logs what every reconstruction logs."""

USES = {
    "distilled": (
        "application=distill",
        "application.steps=10",
        "application.batch_size=8",
        "+application.student.stages=[[8],[8]]",
        "+application.student.hidden=16",
    ),
    "counterfeits": (
        "application=counterfeit",
        "application.confidence=0.1",
        "application.samples=50",
    ),
    "tuned": (
        "application=finetune",
        "application.kind=adversarial",
        "application.steps=1",
        "application.images=20",
        "application.attack_steps=1",
        "application.attacked=20",
    ),
}
"""Uses of the images of the inversion."""


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return config and summary that runs of each kind log offline, read by W&B's own reader."""
    from tests.conftest import FEW_STEPS

    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        # every run reaches this accuracy
        patch.setattr("netinv_lightning.inversion.cost.REACHED", 0.0)
        for name, fewer in FEWER.items():
            patch.setattr(f"netinv_lightning.interpretability.{name}", fewer)
        run(netinv_lightning.compose([*FEW_STEPS, *EVERYTHING]), folder / "inverted")
        patch.setattr("netinv_lightning.metrics.detection.RESAMPLES", 2)
        run(netinv_lightning.compose(list(DETECTION)), folder / "detected")
        for name, use in USES.items():
            logged_offline = (
                "data=mnist5k",
                "logger=wandb",
                "logger.mode=offline",
                f"application.run={folder}/inverted",
            )
            run(netinv_lightning.compose([*use, *logged_offline]), folder / name)
        few = ",".join(f'"{step}"' for step in (*FEW_STEPS, "application.student=true"))
        cache = f"classifier.kept_in={folder}/classifiers"
        run(
            netinv_lightning.compose([*AUDITED, cache, f"application.overrides=[{few}]"]),
            folder / "audited",
        )
    runs = ("inverted", "detected", "audited", "audited/attacks/inversion", *USES)
    content = [only for name in runs for only in parts(folder / name)]
    return {
        "config": content[0]["config"],
        "summary": {key: value for run in content for key, value in run["summary"].items()},
    }


def view(**arguments: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        workspace.spec(workspace.build("me", "netinv", **arguments))
    )["section"]
    return content


def panels_of(view: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for section in view["panelBankConfig"]["sections"]:
        yield from section["panels"]


def strings(content: Any) -> Iterator[str]:
    """Yield the strings of a query, among them the names of tables."""
    if isinstance(content, dict):
        if content.get("nodeType") == "const" and content.get("type") == "string":
            yield content["val"]
        for inner in content.values():
            yield from strings(inner)
    elif isinstance(content, list):
        for inner in content:
            yield from strings(inner)


def keys_of(view: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Return all metrics and all config keys of a view."""
    metrics, accessors = (
        {view["settings"]["xAxis"]},
        set(view["runSets"][0]["runFeed"]["columnOrder"]),
    )
    accessors |= {
        f"{sort['key']['section']}:{sort['key']['name']}"
        for sort in view["runSets"][0]["sort"]["keys"]
    }
    for panel in panels_of(view):
        config = panel["config"]
        match panel["viewType"]:
            case "Run History Line Plot":
                metrics |= {config["xAxis"], *config["metrics"]}
            case "Scalar Chart":
                metrics |= set(config["metrics"])
            case "Bar Chart":
                metrics |= set(config["metrics"])
                accessors |= {f"config:{config['groupBy']}"} if "groupBy" in config else set()
            case "Scatter Plot":
                accessors |= {config["xAxis"], config["yAxis"]}
            case "Media Browser":
                metrics |= set(config["mediaKeys"])
            case "Parallel Coordinates Plot":
                accessors |= {column["accessor"] for column in config["columns"]}
            case "Parameter Importance":
                metrics.add(config["targetKey"])
            case "Weave":
                metrics |= {text for text in strings(config) if "/" in text}
            case "Run Comparer":
                pass
            case other:
                raise AssertionError(f"add the keys of panels of type {other} here")
    metrics |= {
        accessor.removeprefix("summary:")
        for accessor in accessors
        if accessor.startswith("summary:")
    }
    return metrics, {
        accessor.removeprefix("config:") for accessor in accessors if accessor.startswith("config:")
    }


def patterns(view: dict[str, Any]) -> list[str]:
    """Return the regular expressions of panels for metrics whose names users choose."""
    return [
        panel["config"]["metricRegex"]
        for panel in panels_of(view)
        if panel["config"].get("useMetricRegex")
    ]


def missing(view: dict[str, Any], logged: dict[str, Any]) -> set[str]:
    """Return the keys of a view that the run did not log."""
    metrics, keys = keys_of(view)
    absent = metrics - logged["summary"].keys()
    absent |= {
        pattern
        for pattern in patterns(view)
        if not any(re.search(pattern, name) for name in logged["summary"])
    }
    for key in keys:
        group, _, rest = key.partition(".value")
        if OmegaConf.select(OmegaConf.create(logged["config"]), group + rest) is None:
            absent.add(key)
    return absent


def test_runs_log_every_key_of_every_panel(logged: dict[str, Any]) -> None:
    content = view()
    metrics, keys = keys_of(content)
    assert names.SAMPLES_TABLE in metrics  # found inside the query
    assert "conditioning.value.mode" in keys
    assert missing(content, logged) == set()


@pytest.mark.parametrize(
    ("constant", "old"),
    [
        ("INVERSION_ACCURACY", "inversion/accuracy"),
        ("SAMPLES_GRID", "samples/grid"),
        ("SAMPLES_TABLE", "samples/table"),
        ("STEP", "trainer/global_step"),
        ("CLUSTERS", "interpretation/clusters"),
        ("OOD_MEAN_AUROC", "ood/best/mean/auroc"),
    ],
)
def test_a_renamed_metric_is_reported_missing(
    logged: dict[str, Any], monkeypatch: pytest.MonkeyPatch, constant: str, old: str
) -> None:
    assert getattr(names, constant) == old
    monkeypatch.setattr(names, constant, "renamed/metric")
    assert "renamed/metric" in missing(view(), logged)


def test_a_renamed_config_key_or_term_is_reported_missing(
    logged: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netinv_lightning.dashboard.panels.COMPARED", ("conditioning.kind",))
    monkeypatch.setattr("netinv_lightning.config.loss_terms.LOSS_TERMS", {"colour": None})
    assert missing(view(), logged) == {"conditioning.value.kind", "loss/colour"}


def test_sections_and_panels() -> None:
    content = view()
    sections = {
        section["name"]: [panel["viewType"] for panel in section["panels"]]
        for section in content["panelBankConfig"]["sections"]
    }
    line, bar, scalar, scatter = (
        "Run History Line Plot",
        "Bar Chart",
        "Scalar Chart",
        "Scatter Plot",
    )
    # Every term, their total, and the excess of orthogonality
    assert sections == {
        "Inversion accuracy": [line, scalar, scalar, scatter, bar, bar, bar, bar],
        "Loss terms": [line] * (len(LOSS_TERMS) + 2),
        "Samples": ["Media Browser", "Media Browser", "Weave"],
        "Interpretability": ["Media Browser", bar, bar, bar, bar, bar],
        "Out-of-distribution": [
            "Media Browser",
            scalar,
            bar,
            bar,
            bar,
            bar,
            bar,
            bar,
            line,
            line,
            line,
        ],
        "Reconstruction": ["Media Browser", bar, bar, bar, scatter, bar],
        "Uses of inverted data": ["Media Browser", bar, line, bar, bar, bar, bar],
        "Sweep comparison": [
            "Parallel Coordinates Plot",
            "Parameter Importance",
            bar,
            "Run Comparer",
        ],
        "Cost": [bar, bar, bar, bar, scatter],
    }
    assert all(
        panel["config"]["xAxis"] == names.STEP
        for panel in panels_of(content)
        if panel["viewType"] == line
    )


def test_panels_compare_all_detectors() -> None:
    metrics, _ = keys_of(view())
    assert {names.ood(name, "mean", "auroc") for name in DETECTORS} <= metrics
    assert {names.figure(stem) for stem in ("detection", "roc", "confidence")} <= metrics


def test_garbage_classes_are_found_under_any_name(
    logged: dict[str, Any],
) -> None:
    of_garbage = [
        names.garbage(name, what)
        for name in ("inverted", "two_parts")
        for what in ("images", "loss")
    ]
    (images,) = [pattern for pattern in patterns(view()) if "images" in pattern]
    assert [name for name in of_garbage if re.search(images, name)] == [
        "garbage/inverted/images",
        "garbage/two_parts/images",
    ]
    without = {
        name: value for name, value in logged["summary"].items() if not name.startswith("garbage/")
    }
    assert missing(view(), {**logged, "summary": without}) == set(patterns(view()))


def test_accuracy_per_class_lists_the_classes_of_the_data() -> None:
    metrics, _ = keys_of(view(data="cifar10"))
    assert names.class_accuracy("airplane") in metrics
    assert names.class_accuracy("0") not in metrics


def test_the_command_saves_the_view_and_prints_its_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = []

    def upsert(view: Any) -> dict[str, Any]:
        sent.append(view)
        return {"upsertView": {"view": {"name": "nw-abc-v", "id": "1"}}}

    monkeypatch.setattr("wandb_workspaces.workspaces.internal.upsert_view2", upsert)
    monkeypatch.setattr(
        "wandb_workspaces.workspaces.interface.get_app_url", lambda api: "https://wandb.example"
    )
    monkeypatch.setattr(wandb, "Api", lambda *args, **kwargs: None)
    monkeypatch.setattr(wandb, "login", lambda **kwargs: True)
    assert command.main(["--entity", "me", "--project", "inversions"]) == 0
    (view,) = sent
    assert (view.entity, view.project, view.display_name) == (
        "me",
        "inversions",
        "Network inversion, mnist",
    )
    assert len(view.spec.section.panel_bank_config.sections) == 9
    assert capsys.readouterr().out == "https://wandb.example/me/inversions?nw=abc\n"


def test_json_needs_neither_network_nor_login(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "view.json"
    assert command.main(["--json", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert command.main(["--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (
        keys_of(json.loads(path.read_text())["section"])
        == keys_of(printed["section"])
        == keys_of(view())
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--entity", "me"],
            "error: netinv dashboard: W&B has no login on this machine",
        ),
        ([], "error: --entity: is missing"),
        (["--entty", "me"], "error: netinv dashboard: unrecognized arguments: --entty me"),
        (["--json"], "error: netinv dashboard: argument --json: expected one argument"),
        (["--data", "mnits", "--json", "-"], "error: --data=mnits: did you mean 'mnist'?"),
        (["--json", "/nowhere/view.json"], "error: --json=/nowhere/view.json: cannot be written"),
    ],
)
def test_wrong_arguments_give_one_line(
    argv: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    monkeypatch.setattr(wandb, "login", lambda **kwargs: False)
    assert command.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1


def test_missing_wandb_workspaces_gives_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert command.main(["--json", "-"]) == 2
    assert "wandb-workspaces is not installed" in capsys.readouterr().err


def test_an_error_of_wandb_gives_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(workspace: object) -> str:
        raise wandb.errors.CommError("project not found\n(<Response [404]>)")

    monkeypatch.setattr(workspace, "publish", refuse)
    assert command.main(["--entity", "me"]) == 1
    assert (
        capsys.readouterr().err
        == "failed: the dashboard was not saved (CommError: project not found (<Response [404]>))\n"
    )


def choices(parameter: dict[str, Any]) -> list[Any]:
    return parameter.get("values") or [parameter["min"], parameter["max"]]


def test_every_parameter_of_the_wandb_sweep_is_an_override() -> None:
    sweep = yaml.safe_load(SWEEP.read_text())
    assert sweep["metric"] == {"name": names.INVERSION_ACCURACY, "goal": "maximize"}
    assert sweep["command"][:4] == ["${env}", "python", "-m", "netinv_lightning.run"]
    assert sweep["command"][-1] == "${args_no_hyphens}"
    fixed = sweep["command"][4:-1]
    OverridesParser.create().parse_overrides(fixed)
    for key, parameter in sweep["parameters"].items():
        assert set(parameter) in ({"values"}, {"distribution", "min", "max"})
        for value in choices(parameter):
            cfg = netinv_lightning.compose([*fixed, f"{key}={value}"])
            check(cfg)
            assert OmegaConf.select(cfg, key) == value
            assert cfg.logger.name == "wandb"


# W&B does not close the agent's file.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_wandb_sweep_job_has_the_agents_id_and_its_config(
    compose: Compose, job_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B's agent passes the id of the run, and writes the chosen values to a file."""
    chosen = {
        key: choices(parameter)[0]
        for key, parameter in yaml.safe_load(SWEEP.read_text())["parameters"].items()
    }
    path = tmp_path / "parameters.yaml"
    path.write_text(
        yaml.safe_dump(
            {"wandb_version": 1, **{key: {"value": value} for key, value in chosen.items()}}
        )
    )
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_SWEEP_ID", "sweep1")
        patch.setenv("WANDB_RUN_ID", "agents1")
        patch.setenv("WANDB_SWEEP_PARAM_PATH", str(path))
        wandb.teardown()  # W&B reads its environment only once
        cfg = compose(
            "logger=wandb",
            "logger.mode=offline",
            *(f"{key}={value}" for key, value in chosen.items()),
        )
        run_dir = RunDir(job_dir)
        with run_dir.open(cfg), open_loggers(cfg, run_dir):
            pass
    wandb.teardown()
    (part,) = parts(job_dir)
    assert part["run_id"] == run_dir.status["wandb_run_id"] == "agents1"
    assert part["config"]["conditioning"]["mode"] == "label"
    assert part["config"]["loss"]["kl"]["weight"] == 1
