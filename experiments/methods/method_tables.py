"""The tables of the page about all methods, from the rows of results.csv."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, stdev

from experiments.jobs import Row
from experiments.methods.contestants import CONTESTANTS, MAIN, NETWORKS, NOT_COMPARED
from experiments.page import markdown, shown
from netinv_lightning.config.method_registry import ACCESS

GENERATORS = ("generator, natural", "generator, papers")
REFERENCES = ("real images", "class means", "noise")
RECOGNISED = 0.5
"""Share of the ceiling above which the diversity of a method counts: noise is diverse, too."""
QUALITIES = {
    "transfer": ("transfer", 1),
    "diversity": ("diversity", 1),
    "distance": ("distance to the data", -1),
}
"""Columns that are compared: title, and 1 if larger is better, else -1."""
DEVIATIONS = 2
"""Differences count from this number of standard errors on."""


def values(
    rows: list[Row], column: str, budget: str, method: str, network: str = MAIN
) -> list[float]:
    """Return the values of a column, one per seed; none if the method was refused or not run."""
    chosen = [
        row
        for row in rows
        if (row["budget"], row["method"], row["network"]) == (budget, method, network)
    ]
    return [
        float(row[column])
        for row in sorted(chosen, key=lambda row: int(row["seed"]))
        if row[column]
    ]


def share_of_ceiling(rows: list[Row], budget: str, method: str, network: str = MAIN) -> list[float]:
    """Return transfer over the verifiers' accuracy on real test images, one value per seed."""
    ceiling = values(rows, "ceiling", "reference", "real images", network)
    transfer = values(rows, "transfer", budget, method, network)
    return [value / fmean(ceiling) for value in transfer] if ceiling else []


def run_methods(rows: list[Row], budget: str, network: str = MAIN) -> list[str]:
    """Return the methods with results, the best transfer first."""
    found = [title for title in CONTESTANTS if values(rows, "transfer", budget, title, network)]
    return sorted(found, key=lambda title: -fmean(values(rows, "transfer", budget, title, network)))


def needs(rows: list[Row], method: str) -> str:
    """Return access, and whether the method needs data."""
    row = next((row for row in rows if row["method"] == method), None)
    if row is None or not row["access"]:
        return ""
    return f"{row['access']} and data" if row["data"] else row["access"]


def equal_table(rows: list[Row]) -> str:
    return _full_table(rows, "equal")


def published_table(rows: list[Row]) -> str:
    return _full_table(rows, "published")


def _full_table(rows: list[Row], budget: str) -> str:
    """Return one line per method on the main classifier, and the reference sets below."""
    lines = [_line(rows, budget, method) for method in run_methods(rows, budget)]
    references = [name for name in REFERENCES if values(rows, "transfer", "reference", name)]
    lines += [_line(rows, "reference", name) for name in references]
    return markdown(
        ["method", "access", "accuracy", "transfer", "share of ceiling", "diversity", "distance",
         "CAS", "steps", "core seconds", "forward", "backward", "queries", "MiB"],
        lines,
    )  # fmt: skip


def _line(rows: list[Row], budget: str, method: str) -> list[str]:
    def mean(column: str, unit: float = 1.0, mark: str = "") -> str:
        found = values(rows, column, budget, method)
        return f"{fmean(found) / unit:.0f}{mark}" if found else ""

    def spread(column: str, digits: int = 2) -> str:
        return shown(values(rows, column, budget, method), digits)

    return [
        method,
        needs(rows, method),
        spread("accuracy"),
        spread("transfer"),
        shown(share_of_ceiling(rows, budget, method), 2),
        spread("diversity"),
        spread("distance"),
        spread("cas"),
        mean("steps"),
        mean("seconds"),
        mean("forwards", 1000, "k"),
        mean("backwards", 1000, "k"),
        mean("queries", 1000, "k"),
        mean("extra_mb"),
    ]


def _levels(rows: list[Row]) -> list[str]:
    """Return the access levels of the methods on the main classifier, the strongest first."""
    levels = {needs(rows, title) for title in run_methods(rows, "equal")}
    return sorted(levels, key=lambda level: (ACCESS.index(level.split()[0]), level))


def access_table(rows: list[Row]) -> str:
    """Return the best methods of each access level, at equal cost on the main classifier."""
    lines = []
    for level in _levels(rows):
        methods = [title for title in run_methods(rows, "equal") if needs(rows, title) == level]
        recognised = [
            title
            for title in methods
            if fmean(share_of_ceiling(rows, "equal", title)) >= RECOGNISED
        ]
        lines.append(
            [
                level,
                _best(rows, methods, "transfer", 1),
                _best(rows, recognised, "diversity", 1),
                _best(rows, recognised, "distance", -1),
                _best(rows, methods, "cas", 1),
                ", ".join(methods),
            ]
        )
    return markdown(
        ["access", "best transfer", "most diverse *", "nearest to the data *", "best CAS",
         "methods"],
        lines,
    )  # fmt: skip


def access_by_network_table(rows: list[Row]) -> str:
    """Return the method with the best transfer for each access and each classifier."""
    lines = []
    for level in _levels(rows):
        line = [level]
        for network in NETWORKS:
            transfers = {
                title: fmean(found)
                for title in run_methods(rows, "equal")
                if needs(rows, title) == level
                and (found := values(rows, "transfer", "equal", title, network))
            }
            best = max(transfers, key=transfers.__getitem__, default="")
            line.append(f"{best} ({transfers[best]:.2f})" if best else "-")
        lines.append(line)
    return markdown(["access", *(network.title for network in NETWORKS.values())], lines)


def _best(rows: list[Row], methods: list[str], column: str, sign: int) -> str:
    if not methods:
        return "none"
    best = max(methods, key=lambda title: sign * fmean(values(rows, column, "equal", title)))
    return f"{best} ({fmean(values(rows, column, 'equal', best)):.2f})"


def against_generator_table(rows: list[Row]) -> str:
    """Return the methods that beat the generator on each classifier, and by how much."""
    return markdown(
        ["classifier", "generator", *(title for title, _ in QUALITIES.values())],
        [
            [NETWORKS[network].title, ours, *(_winners(rows, network, ours, c) for c in QUALITIES)]
            for network in NETWORKS
            for ours in GENERATORS
            if share_of_ceiling(rows, "equal", ours, network)
        ],
    )


def _winners(rows: list[Row], network: str, ours: str, column: str) -> str:
    sign = QUALITIES[column][1]
    own = values(rows, column, "equal", ours, network)
    better = [
        (title, other)
        for title, other in _others(rows, network, column)
        if sign * (fmean(other) - fmean(own)) > DEVIATIONS * _standard_error(own, other)
    ]
    better.sort(key=lambda pair: -sign * fmean(pair[1]))
    listed = ", ".join(f"{title} {fmean(other):.2f}" for title, other in better)
    return f"{fmean(own):.2f}; better: {listed or 'none'}"


def _others(rows: list[Row], network: str, column: str) -> Iterator[tuple[str, list[float]]]:
    """Yield the values of the methods without a generator whose images others recognise."""
    for title in run_methods(rows, "equal", network):
        share = share_of_ceiling(rows, "equal", title, network)
        if title not in GENERATORS and share and fmean(share) >= RECOGNISED:
            yield title, values(rows, column, "equal", title, network)


def _standard_error(one: list[float], other: list[float]) -> float:
    return sum(stdev(of) ** 2 / len(of) for of in (one, other) if len(of) > 1) ** 0.5


def networks_table(rows: list[Row]) -> str:
    """Return accuracy and share of the ceiling on each classifier, at equal cost."""
    networks = [name for name in NETWORKS if run_methods(rows, "equal", name)]
    methods = dict.fromkeys(
        title for network in networks for title in run_methods(rows, "equal", network)
    )
    lines = [
        [
            method,
            *(
                shown(found, 2)
                for network in networks
                for found in (
                    values(rows, "accuracy", "equal", method, network),
                    share_of_ceiling(rows, "equal", method, network),
                )
            ),
        ]
        for method in methods
    ]
    titles = [NETWORKS[network].title for network in networks]
    columns = [f"{title}: {what}" for title in titles for what in ("accuracy", "share of ceiling")]
    return markdown(["method", *columns], lines)


def refusals_table(rows: list[Row]) -> str:
    """Return the refusals of the methods, and the methods that are not compared."""
    refused = {(row["method"], row["network"]): row["refused"] for row in rows if row["refused"]}
    lines = [
        [method, NETWORKS[network].title, message.replace("|", "\\|")]
        for (method, network), message in sorted(refused.items())
    ]
    lines += [[name, "all", why] for name, why in NOT_COMPARED.items()]
    lines += [
        [", ".join(title for title in CONTESTANTS if not _was_run(rows, title, name)), facts.title,
         "not run yet"]
        for name, facts in NETWORKS.items()
        if not all(_was_run(rows, title, name) for title in CONTESTANTS)
    ]  # fmt: skip
    return markdown(["method", "classifier", "why there is no result"], lines)


def _was_run(rows: list[Row], method: str, network: str) -> bool:
    return any(
        (row["budget"], row["method"], row["network"]) == ("equal", method, network) for row in rows
    )
