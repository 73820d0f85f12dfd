"""Make `paper_map.md` and `claims.md` from `paper_map.csv`: claims, verdicts, evidence.

python docs/paper_map.py
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
TABLE, PAGE, CLAIMS_PAGE = (HERE / name for name in ("paper_map.csv", "paper_map.md", "claims.md"))
COLUMNS = ("id", "source", "requirement", "verdict", "evidence", "command", "note")
VERDICTS = {
    "works": "a system or feature that is implemented and tested",
    "holds": "a claim that our measurements confirm",
    "refuted": "a claim that our measurements contradict",
    "partly": "implemented or measured in part; the note says what is missing",
    "missing": "not implemented or not measured",
}
GROUPS = {
    "A1": "Systems, model parts, conditioning",
    "A2": "Losses",
    "A3": "Inversion: procedure and claims of quality",
    "A4": "Applications",
    "A5": "Out-of-distribution baselines",
    "A6": "Data sets",
    "A7": "Hyper-parameters and numbers",
    "A8": "Figures and tables",
    "A9": "Open questions, limitations, mechanisms and next checks",
    "A10": "Contradictions in the papers, and our rulings",
    "A11": "Methods of the related work",
}
CLAIMS = (
    *("A1-6", "A2-15", "A3-2", "A3-3", "A3-4", "A3-5", "A3-6", "A3-7", "A3-8", "A3-9", "A3-12"),
    *("A4-2", "A4-4", "A4-5", "A4-7", "A4-8", "A4-10", "A4-11", "A4-15", "A4-16", "A5-8"),
    *("A7-2", "A7-2b", "A7-8", "A9-C1", "A9-C2", "A9-C3"),
    *("A9-E1", "A9-E2", "A9-E3", "A9-M1", "A9-M2", "A9-M3"),
    *("A9-T1", "A9-T2", "A9-T3", "A9-K1", "A9-K2", "A9-K3", "A9-K4"),
)
"""Rows that state something that a measurement can confirm or contradict."""
SURPRISE = ("refuted", "partly", "holds", "missing")
"""Verdicts, from the most to the least surprising."""
SOURCES = """\
- **S0** an analysis note on arXiv 2407.18002, which lists open questions and next checks
- **S1** Suhail and Sethi, \
[Network Inversion of Convolutional Neural Nets (Student Abstract)](https://arxiv.org/abs/2407.18002)
- **S2** Suhail, Tang and Sethi, \
[Network Inversion and Its Applications](https://arxiv.org/abs/2411.17777)
- **S3** Taparia, *Neural Network Inversion*, slides of a supervised research project, IIT Bombay
"""


def read_rows() -> list[dict[str, str]]:
    """Return the rows of the table, column name to text."""
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def links(evidence: str) -> str:
    """Return Markdown links, relative to this folder, to each `path` or `path::test`.

    The tests of a file share one link, whose tooltip names them.
    """
    tests: dict[str, list[str]] = {}
    for word in evidence.split():
        path, _, test = word.partition("::")
        tests.setdefault(path, []).extend([test] if test else [])
    found = []
    for path, names in tests.items():
        folder, _, name = path.rpartition("/")
        target = name if HERE.name == folder else f"../{path}"
        tooltip = f' "{", ".join(names)}"' if names else ""
        found.append(f"[{folder if name == 'README.md' else name}]({target}{tooltip})")
    return ", ".join(found)


def table(head: list[str], body: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [
        head,
        ["---"] * len(head),
        *[[cell.replace("|", "\\|") for cell in cells] for cells in body],
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def page(rows: list[dict[str, str]]) -> str:
    """Return the whole page."""
    by_group = {
        group: [row for row in rows if row["id"].split("-")[0] == group] for group in GROUPS
    }
    count = Counter(row["verdict"] for row in rows)
    counts = [
        [
            f"[{group}](#{group.lower()})",
            title,
            *[
                str(sum(row["verdict"] == verdict for row in by_group[group]))
                for verdict in VERDICTS
            ],
        ]
        for group, title in GROUPS.items()
    ]
    parts = [
        "# Paper map: requirements, claims and verdicts",
        f"Of {len(rows)} requirements and claims of the papers, {count['works']} work, "
        f"{count['holds']} hold and {count['refuted']} are refuted; {count['partly']} are settled "
        f"in part and {count['missing']} are missing.",
        table(
            ["group", "", *VERDICTS],
            [*counts, ["", "all", *[str(count[verdict]) for verdict in VERDICTS]]],
        ),
        "    python docs/paper_map.py      # makes this page from paper_map.csv, "
        "which also has the command of each row",
        "The name of a test is the tooltip of its link. Verdicts:",
        "\n".join(f"- **{verdict}** {meaning}" for verdict, meaning in VERDICTS.items()) + "\n",
        "Sources:",
        SOURCES,
    ]
    for group, title in GROUPS.items():
        head = ["id", "requirement or claim", "source", "verdict", "evidence", "note"]
        body = [
            [
                row["id"],
                row["requirement"],
                row["source"],
                row["verdict"],
                links(row["evidence"]),
                row["note"],
            ]
            for row in by_group[group]
        ]
        parts += [f'<a id="{group.lower()}"></a>\n\n## {group}. {title}', table(head, body)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def claims_page(rows: list[dict[str, str]]) -> str:
    """Return the page of the claims, the refuted ones first."""
    claims = [row for row in rows if row["id"] in CLAIMS]
    claims.sort(key=lambda row: SURPRISE.index(row["verdict"]))
    count = Counter(row["verdict"] for row in claims)
    head = ["verdict", "claim", "who says it", "what was measured", "where", "row"]
    body = [
        [
            "not measured" if row["verdict"] == "missing" else row["verdict"],
            row["requirement"],
            row["source"],
            row["note"],
            links(row["evidence"]),
            f"[{row['id']}](paper_map.md#{row['id'].split('-')[0].lower()})",
        ]
        for row in claims
    ]
    parts = [
        "# Claims of the papers, and what was measured",
        f"Of {len(claims)} claims {count['refuted']} are refuted, {count['partly']} are confirmed "
        f"or tested in part, {count['holds']} hold, and {count['missing']} have not been measured. "
        "Before a claim is called refuted, its strongest version is tried; the linked page says "
        "which.",
        table(head, body),
        "    python docs/paper_map.py      # makes this page from paper_map.csv, "
        "which also has the command of each row",
        "Sources:",
        SOURCES,
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


if __name__ == "__main__":
    CLAIMS_PAGE.write_text(claims_page(read_rows()))
    PAGE.write_text(page(read_rows()))
