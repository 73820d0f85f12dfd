"""Packages import only from packages below them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent / "netinv_lightning"
LAYERS = (
    "errors", "metric_names", "config", "runs", "training", "data", "tracking", "classifiers",
    "inversion", "metrics", "figures", "evaluation", "interpretability", "ood", "privacy",
    "downstream", "applications", "dashboard", "html_report", "explorer", "manual", "api", "run",
)  # fmt: skip
"""Packages and modules of the root, from bottom to top: each imports only from those before it."""


def imported(file: Path) -> Iterator[str]:
    """Yield the packages of this project that a module imports from, at any place in its code."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == ROOT.name:
            inside = (node.module or "").split(".")[1:]
            yield from (
                [inside[0]]
                if inside
                else [alias.name for alias in node.names if not alias.name.startswith("__")]
            )


def layer(file: Path) -> str:
    return file.relative_to(ROOT).with_suffix("").parts[0]


def test_every_package_has_a_layer() -> None:
    found = {layer(file) for file in ROOT.rglob("*.py")} - {"__init__"}
    assert found == set(LAYERS)


def test_packages_import_only_from_those_below() -> None:
    upwards = [
        f"{file.relative_to(ROOT)} imports {package}"
        for file in ROOT.rglob("*.py")
        if layer(file) != "__init__"
        for package in imported(file)
        if package != layer(file) and LAYERS.index(package) > LAYERS.index(layer(file))
    ]
    assert upwards == []


def test_at_most_four_modules_beside_the_packages() -> None:
    assert sorted(path.stem for path in ROOT.glob("*.py")) == [
        "__init__",
        "api",
        "errors",
        "metric_names",
        "run",
    ]


READS_CONFIGS = {
    # builders of objects from a config, in addition to each package's build.py
    "classifiers/training.py", "training/trainer.py", "classifiers/verifier_names.py",
    "classifiers/verifiers.py", "inversion/build_objective.py", "privacy/build_informed.py",
    # a hash of the config, and objects loaded with the config of a run directory
    "classifiers/cache.py", "evaluation/finished_run.py",
    # the run's record of its own config
    "tracking/loggers.py", "tracking/run_context.py", "tracking/wandb_run.py",
}  # fmt: skip
"""Modules that take a config, except config/, runs/, applications/, api.py, run.py, build.py."""


def takes_config(file: Path) -> bool:
    functions = (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef))
    return any(
        "DictConfig" in ast.unparse(argument.annotation)
        for function in functions
        for argument in [*function.args.args, *function.args.kwonlyargs]
        if argument.annotation is not None
    )


def test_configs_stop_at_applications_and_builders() -> None:
    upper = {"config", "runs", "applications", "api", "run"}
    below = {
        str(file.relative_to(ROOT))
        for file in ROOT.rglob("*.py")
        if file.name != "build.py" and layer(file) not in upper and takes_config(file)
    }
    assert below == READS_CONFIGS
