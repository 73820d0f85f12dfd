"""Keys of black boxes, programs as black boxes, and what a file may name."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

import netinv_lightning
from netinv_lightning.applications.key_check import check_keys
from netinv_lightning.classifiers.black_box import BlackBox, BlackBoxClassifier
from netinv_lightning.classifiers.black_box_command import command_answer
from netinv_lightning.classifiers.build import load_classifier
from netinv_lightning.config.allowed_targets import only_allowed
from netinv_lightning.config.description_check import named_code
from netinv_lightning.config.outside_config import check_run_config
from netinv_lightning.errors import InputError
from tests.classifiers.black_boxes import SPEC, grey, linear_softmax

LINEAR = f"{linear_softmax.__module__}:linear_softmax"
SMALL = ("classifier=black_box", "classifier.num_classes=3", "classifier.shape=[1,8,8]")


# Keys


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["classifier.callable=mine"], r"classifier\.callable=mine: must be package\.module:fun"),
        (
            [f"classifier.callable={LINEAR}", "classifier.command=[cat]"],
            r"classifier\.callable=.*classifier\.command=\['cat'\] is a black box too",
        ),
        (["classifier.command=[]"], r"classifier\.command=\[\]: must be a program"),
        (["classifier.command=[no-such-program]"], "the program no-such-program was not found"),
        ([f"classifier.callable={LINEAR}", "method=kkt"], r"method=kkt: needs the weights"),
        (
            [f"classifier.callable={LINEAR}", "+loss.batch_norm={weight: 1}"],
            r"loss\.batch_norm: needs the layers .*~loss\.batch_norm",
        ),
        (
            [f"classifier.callable={LINEAR}", "classifier.feature_layers=[penultimate]"],
            r"feature_layers=\['penultimate'\]: a black box has no layers",
        ),
        (
            [f"classifier.callable={LINEAR}", "application=detect_ood"],
            r"application=detect_ood: needs the layers",
        ),
        (
            [f"classifier.callable={LINEAR}", "classifier.query_sigma=0"],
            r"classifier\.query_sigma=0\.0: must be above 0",
        ),
    ],
)
def test_wrong_keys_are_one_line(overrides: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        netinv_lightning.compose([*SMALL, *overrides])


def test_a_black_box_must_be_named() -> None:
    cfg = netinv_lightning.compose([*SMALL])
    for check in (check_keys, load_classifier):
        with pytest.raises(InputError, match=r"^classifier=black_box: no black box is named; give"):
            check(cfg)


def test_a_network_and_a_black_box_exclude_each_other() -> None:
    with pytest.raises(
        InputError,
        match=r"zoo names a network too\. To use the black box, add classifier=black_box",
    ):
        netinv_lightning.compose([f"classifier.callable={LINEAR}"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_package:f", "cannot be imported"),
        ("tests.classifiers.black_boxes:no_such_function", "cannot be imported"),
        ("tests.classifiers.black_boxes:not_a_function", "is a int; must be a function"),
    ],
)
def test_a_function_that_does_not_exist(name: str, reason: str) -> None:
    cfg = netinv_lightning.compose([*SMALL, f"classifier.callable={name}"])
    with pytest.raises(InputError, match=rf"^classifier\.callable={name}: {reason}"):
        load_classifier(cfg)


# Commands

LINEAR_PROGRAM = """
import sys
import numpy as np
x = np.load(sys.argv[1])
print("a command may print")
np.save(sys.argv[2], x.reshape(len(x), -1)[:, :3])
"""


def test_a_command_reads_and_writes_files(tmp_path: Path) -> None:
    program = tmp_path / "predict.py"
    program.write_text(LINEAR_PROGRAM)
    x_BCHW = grey(2).numpy()
    scores = command_answer([sys.executable, str(program)])(x_BCHW)
    np.testing.assert_array_equal(scores, x_BCHW.reshape(2, -1)[:, :3])


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise ValueError('no model')", r"ended with status 1 \(ValueError: no model\)"),
        ("print('ready')", r"must write an array of scores .* \(FileNotFoundError\)"),
        (
            "import sys, numpy as np; np.save(sys.argv[2], np.array([{}]))",
            r"must write an array of scores .* \(ValueError\)",  # a pickle is not read
        ),
    ],
)
def test_a_command_that_fails_is_one_line(program: str, reason: str) -> None:
    box = BlackBox(command_answer([sys.executable, "-c", program]), "unused")
    with pytest.raises(InputError, match=rf"^classifier\.command=\[.*{reason}"):
        BlackBoxClassifier(box, SPEC)


# Trust


def test_a_file_names_code_only_if_the_command_line_names_it_too() -> None:
    for key, value in (("callable", LINEAR), ("command", ["cat", "x.npy"])):
        content = {"classifier": {key: value}}
        with pytest.raises(InputError, match=rf"^config\.yaml: classifier\.{key}="):
            check_run_config(content, "config.yaml")
        with pytest.raises(InputError, match=rf"^config\.yaml: classifier\.{key}="):
            check_run_config(content, "config.yaml", trusted=["cat", "tests.other"])
        check_run_config(content, "config.yaml", trusted=[*named_code(content)])
    others = [*named_code({"classifier": {"command": ["cat"]}})]
    with pytest.raises(InputError, match=r"repeat classifier\.command="):
        check_run_config({"classifier": {"command": ["cat", "x"]}}, "config.yaml", others)


@pytest.mark.parametrize("word", [f"classifier.callable={LINEAR}", "classifier.command=[cat,x]"])
def test_overrides_in_a_file_name_no_black_box(word: str) -> None:
    with pytest.raises(InputError, match="is not allowed in a file"):
        check_run_config({"application": {"overrides": [word]}}, "config.yaml")


def test_nothing_runs_that_is_not_trusted() -> None:
    for override in (f"classifier.callable={LINEAR}", "classifier.command=[cat]"):
        cfg = netinv_lightning.compose([*SMALL, override])
        with only_allowed([]), pytest.raises(InputError, match="If you trust it"):
            load_classifier(cfg)
    trusted = netinv_lightning.compose([*SMALL, f"classifier.callable={LINEAR}"])
    plain = OmegaConf.to_container(trusted, resolve=True)
    with only_allowed([*named_code(plain)]):
        assert load_classifier(trusted).access == "scores"
