"""The table of the papers' requirements: page up to date, evidence and commands exist."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "docs" / "paper_map.py"))
ROWS: list[dict[str, str]] = SCRIPT["read_rows"]()
RUN = "python -m netinv_lightning.run "
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def reference_problem(reference: str) -> str:
    """Return what is wrong with a `path` or `path::test`, or an empty string."""
    path, _, test = reference.partition("::")
    if not (ROOT / path).is_file():
        return f"{path} does not exist"
    defined = (
        re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE) if test else True
    )
    return "" if defined else f"{path} has no {test}"


def choice_problem(override: str) -> str:
    """Return what is wrong with `group=choice` or `+group=choice`, or an empty string.

    Keys that are not config groups are not checked.
    """
    group, _, choice = override.lstrip("+").partition("=")
    is_group = (ROOT / "conf" / group).is_dir()
    return (
        f"{group} has no choice {choice}"
        if is_group and not (ROOT / "conf" / group / f"{choice}.yaml").is_file()
        else ""
    )


def command_problems(command: str) -> list[str]:
    program, *words = shlex.split(command)
    if command.startswith(RUN):
        found = [
            choice_problem(word) for word in shlex.split(command.removeprefix(RUN)) if word != "-m"
        ]
    elif program == "make":
        found = [f"there is no make {word}" for word in words if word not in MAKE_TARGETS]
    elif program in ("pytest", "python"):
        found = [reference_problem(word) for word in words]
    else:
        found = [f"{program} is not make, pytest or python"]
    return [problem for problem in found if problem]


def row_problems(row: dict[str, str]) -> list[str]:
    found = [
        f"{column} is empty" for column in ("source", "requirement", "note") if not row[column]
    ]
    if row["verdict"] not in SCRIPT["VERDICTS"]:
        found.append(f"unknown verdict {row['verdict']}")
    if not row["evidence"] and row["verdict"] != "missing":
        found.append("no evidence")
    found += [
        problem
        for reference in row["evidence"].split()
        if (problem := reference_problem(reference))
    ]
    return found + (command_problems(row["command"]) if row["command"] else [])


def test_the_page_equals_the_output_of_the_script() -> None:
    assert SCRIPT["PAGE"].read_text() == SCRIPT["page"](ROWS), "run python docs/paper_map.py"
    claims = SCRIPT["claims_page"](ROWS)
    assert SCRIPT["CLAIMS_PAGE"].read_text() == claims, "run python docs/paper_map.py"


def test_every_claim_is_a_row_and_the_most_surprising_verdict_is_first() -> None:
    claims = [row for row in ROWS if row["id"] in SCRIPT["CLAIMS"]]
    assert len(claims) == len(set(SCRIPT["CLAIMS"])) == 40
    judged = {row["id"] for row in ROWS if row["verdict"] in ("holds", "refuted")}
    assert judged - set(SCRIPT["CLAIMS"]) <= {"A7-1"}  # the same claim as A3-2
    page = SCRIPT["claims_page"](ROWS)
    lines = [line.split(" | ")[0] for line in page.splitlines() if "](paper_map.md#" in line]
    places = [["| refuted", "| partly", "| holds", "| not measured"].index(line) for line in lines]
    assert len(places) == 40
    assert places == sorted(places)


def test_ids_are_unique_and_in_the_order_of_the_groups() -> None:
    ids = [row["id"] for row in ROWS]
    assert len(set(ids)) == len(ids) == 167
    groups = list(SCRIPT["GROUPS"])
    places = [groups.index(key.split("-")[0]) for key in ids]
    assert places == sorted(places)
    assert set(places) == set(range(len(groups)))


def test_every_row_has_a_verdict_and_existing_evidence() -> None:
    assert tuple(ROWS[0]) == SCRIPT["COLUMNS"]
    assert {row["id"]: problems for row in ROWS if (problems := row_problems(row))} == {}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"verdict": "perhaps"}, "unknown verdict perhaps"),
        ({"evidence": ""}, "no evidence"),
        ({"note": ""}, "note is empty"),
        ({"evidence": "experiments/nowhere.md"}, "experiments/nowhere.md does not exist"),
        (
            {"evidence": "tests/docs/test_paper_map.py::test_absent"},
            "tests/docs/test_paper_map.py has no test_absent",
        ),
        ({"command": "make nothing"}, "there is no make nothing"),
        ({"command": "pytest tests/absent.py"}, "tests/absent.py does not exist"),
        ({"command": f"{RUN}+experiment=absent loss=inversion"}, "experiment has no choice absent"),
        ({"command": "netinv"}, "netinv is not make, pytest or python"),
    ],
)
def test_a_faulty_row_is_found(change: dict[str, str], problem: str) -> None:
    assert row_problems(ROWS[0] | change) == [problem]
