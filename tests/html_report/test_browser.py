"""The page of `netinv report` in Chromium, opened from disk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, Request

from netinv_lightning.html_report.command import main
from tests.accessibility import problems_of, problems_of_keyboard
from tests.browser import browser
from tests.html_report.made_runs import HOSTILE, draw, made_run, made_sweep

__all__ = ["browser"]  # a fixture


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a run whose names all contain markup."""
    made = made_run(tmp_path_factory.mktemp("runs") / HOSTILE, words=(f"name={HOSTILE}",))
    for step in (5, 10, 15):
        draw(made / "figures" / f"grid_step{step:06d}.png", 60)
    draw(made / "figures" / f"{HOSTILE}.png", 400)
    header, *rows = (made / "metrics.csv").read_text().splitlines()
    (made / "metrics.csv").write_text(
        "\n".join(
            [f"{header},loss/{HOSTILE}", *(f"{row},{number}" for number, row in enumerate(rows))]
        )
    )
    cells = [
        f"row {number},{value}"
        for number, value in enumerate(["0.5", "10.0", "9.0", "", "-1.0", *["3"] * 20])
    ]
    (made / "measurement.csv").write_text("\n".join([f"metric,{HOSTILE}", *cells]) + "\n")
    (made / "rules.txt").write_text(f"class 0 if {HOSTILE}\n" + "long line " * 100)
    assert main([str(made)]) == 0
    return made / "report.html"


@pytest.fixture(scope="module")
def sweep_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = made_sweep(tmp_path_factory.mktemp("sweeps") / "sweep")
    assert main([str(made / "1")]) == 0
    assert main([str(made)]) == 0
    return made / "report.html"


class Watched:
    """Return a page that records console messages, errors, dialogs and requests to other files."""

    def __init__(self, browser: Browser) -> None:
        self.page = browser.new_page(viewport={"width": 1600, "height": 900})
        self.unexpected: list[str] = []
        self.page.on("console", lambda message: self.unexpected.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.unexpected.append(f"error: {error}"))
        self.page.on("dialog", self._refuse)
        self.page.on("request", self._note)

    def _refuse(self, dialog: Dialog) -> None:
        self.unexpected.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _note(self, request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.unexpected.append(f"request: {request.url}")


@pytest.fixture(scope="module")
def watched(browser: Browser, run_page: Path) -> Watched:
    """Open the run's page once for all tests."""
    opened = Watched(browser)
    opened.page.goto(run_page.as_uri())
    return opened


@pytest.fixture
def opened(watched: Watched) -> Iterator[Page]:
    yield watched.page
    assert watched.unexpected == []


@pytest.fixture(scope="module")
def watched_sweep(browser: Browser, sweep_page: Path) -> Watched:
    opened = Watched(browser)
    opened.page.goto(sweep_page.as_uri())
    return opened


@pytest.fixture
def opened_sweep(watched_sweep: Watched) -> Iterator[Page]:
    yield watched_sweep.page
    assert watched_sweep.unexpected == []


def curves(page: Page, selector: str) -> int:
    """Return the number of lines of a chart."""
    return page.locator(f"{selector} path.line").count()


def heights(page: Page, selector: str, marks: str = "circle") -> list[float]:
    """Return the vertical positions of the marks of a chart in its picture, 0 at the bottom."""
    return page.locator(f"{selector} > svg .series {marks}").evaluate_all(
        "marks => marks.map(mark => -Number(mark.getAttribute(mark.r ? 'cy' : 'y1')))"
    )


FITS = """([chart, width]) => {
  const picture = document.querySelector(`${chart} > svg`);
  return picture !== null && picture.getBoundingClientRect().width <= width;
}"""
"""Whether a chart has a picture, and it is not wider than the window."""


def column(page: Page, table: str) -> list[str]:
    return page.locator(f"#{table} tbody td:nth-child(2)").all_text_contents()


def test_markup_in_names_is_inert(opened: Page) -> None:
    assert opened.locator("h1").inner_text() == f"made: {HOSTILE}"
    assert opened.locator("img[onerror]").count() == 0
    assert HOSTILE in opened.locator("pre").first.inner_text()
    assert opened.locator(f'img[alt="{HOSTILE}"]').evaluate(
        "image => [image.naturalWidth, image.naturalHeight]"
    ) == [400, 400]
    assert opened.locator("nav a").all_inner_texts()[:3] == ["Verdict", "Evidence", "Run"]
    levels = opened.locator("h1, h2, h3").evaluate_all(
        "titles => titles.map(title => Number(title.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_curves_are_drawn_with_either_scale(opened: Page) -> None:
    losses, accuracy = ".plot[data-chart='0']", ".plot[data-chart='1']"
    assert (curves(opened, losses), curves(opened, accuracy)) == (2, 1)
    assert opened.locator(f"{losses} .legend li").all_inner_texts() == ["kl", HOSTILE]

    def labels() -> list[str]:
        return opened.locator(f"{losses} > svg text[text-anchor=end]").all_text_contents()

    toggle = opened.locator(f"figure:has({losses}) button.log")
    assert toggle.get_attribute("aria-pressed") == "false"  # one of the losses is 0
    assert labels() == ["0", "10", "20", "30", "40"]
    toggle.click()
    assert toggle.get_attribute("aria-pressed") == "true"
    assert labels() == ["0.1", "1", "10"]


def test_values_of_curves_are_read_by_keys_and_pointer(opened: Page) -> None:
    plot = opened.locator(".plot[data-chart='0']")
    plot.focus()
    plot.press("ArrowRight")
    plot.press("ArrowRight")
    assert plot.locator("output").inner_text().splitlines() == ["step 1", "kl 0.5", f"{HOSTILE} 1"]
    box = plot.locator("> svg").bounding_box()
    assert box is not None
    opened.mouse.move(box["x"] + box["width"] - 13, box["y"] + 50)
    assert plot.locator("output").inner_text().splitlines()[0] == "step 40"
    plot.press("Escape")
    assert not plot.locator("output").is_visible()


def test_tables_sort_by_number_and_by_keyboard(opened: Page) -> None:
    header = opened.locator("#table1 thead th").nth(1)
    assert header.get_attribute("aria-sort") == "none"
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(opened, "table1") == ["-1.000", "0.500", *["3"] * 20, "9.000", "10.0", ""]
    header.locator("button").press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert column(opened, "table1") == ["10.0", "9.000", *["3"] * 20, "0.500", "-1.000", ""]
    opened.locator("#table1 thead th").nth(0).locator("button").click()
    assert header.get_attribute("aria-sort") == "none"
    names = opened.locator("#table1 tbody th").all_text_contents()
    assert names == [f"row {number}" for number in range(25)]
    opened.locator("input[data-filters=table1]").fill("ROW 2")
    assert opened.locator("#table1 tbody tr:visible").count() == 7
    assert (
        opened.locator("p.filter:has([data-filters=table1]) output").inner_text() == "7 of 25 rows"
    )


def test_pictures_enlarge_and_close(opened: Page) -> None:
    dialog = opened.locator("dialog")
    first = opened.locator("button.enlarge").first
    first.focus()
    opened.keyboard.press("Enter")
    assert dialog.is_visible()
    assert dialog.locator("img").get_attribute("src") == first.locator("img").get_attribute("src")
    box = dialog.locator("img").bounding_box()
    assert box is not None
    assert box["height"] > 700
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#viewer-title").inner_text() == HOSTILE
    opened.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert first.evaluate("button => document.activeElement === button")
    first.click()
    opened.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


def test_the_slider_selects_a_grid_of_the_training(opened: Page) -> None:
    visible = opened.locator(".frame:visible")
    assert [frame.get_attribute("data-step") for frame in visible.all()] == ["15"]
    slider = opened.get_by_role("slider", name="Step")
    slider.press("Home")
    assert [frame.get_attribute("data-step") for frame in visible.all()] == ["5"]
    slider.press("ArrowRight")
    assert opened.locator(".slider output").inner_text() == "10"


def test_the_command_is_copied(opened: Page) -> None:
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.get_by_role("button", name="Copy the command").click()
    opened.locator("button.copy", has_text="Copied").wait_for()
    assert (
        opened.evaluate("navigator.clipboard.readText()")
        == f"netinv +experiment=made 'name={HOSTILE}'"
    )


@pytest.mark.parametrize("chart", [".plot[data-chart='0']", "#compared"])
def test_no_page_is_wider_than_its_window(chart: str, request: pytest.FixtureRequest) -> None:
    page: Page = request.getfixturevalue("opened_sweep" if chart == "#compared" else "opened")
    for width, scheme in ((400, "dark"), (1600, "dark"), (400, "light"), (1600, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.wait_for_function(FITS, arg=[chart, width])  # charts are drawn again for each size
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(channel) for channel in re.findall(r"\d+", background)[:3])
        assert (brightness > 600) == (scheme == "light")


def test_the_runs_of_a_sweep_are_compared(opened_sweep: Page) -> None:
    plot, title = "#compared", opened_sweep.locator("#compared text.title")
    assert title.text_content() == "loss.kl.weight"
    assert opened_sweep.locator(f"{plot} .legend li").all_inner_texts() == ["inversion/accuracy"]
    points, means = heights(opened_sweep, plot), heights(opened_sweep, plot, ".mean")
    assert len(points) == 4
    assert points == sorted(points, reverse=True)  # best first: 0.8, 0.7, 0.6, 0.5
    assert sorted(means) == pytest.approx([points[2], points[0]])  # 0.6 and 0.8
    opened_sweep.locator("#by-metric").select_option("transfer/accuracy")
    opened_sweep.locator("#by-key").select_option("seed")
    assert title.text_content() == "seed"
    assert opened_sweep.locator(f"{plot} .legend li").all_inner_texts() == [
        "loss.kl.weight=1",
        "loss.kl.weight=10",
    ]


def test_the_table_of_a_sweep_fits(opened_sweep: Page) -> None:
    opened_sweep.set_viewport_size({"width": 1400, "height": 900})
    table = opened_sweep.locator(".scroll:has(#runs-table)")
    assert table.evaluate("table => table.scrollWidth <= table.clientWidth")
    columns = opened_sweep.locator("#runs-table th[scope=col]").all_inner_texts()
    assert [name.split()[0] for name in columns[:3]] == ["run", "state", "verdict"]


@pytest.mark.parametrize("of", ["run", "sweep"])
def test_pages_are_accessible(of: str, request: pytest.FixtureRequest) -> None:
    page: Page = request.getfixturevalue("opened" if of == "run" else "opened_sweep")
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert problems_of(page) == []
    assert problems_of_keyboard(page) == []


def test_a_printed_page_has_curves_on_white(opened: Page) -> None:
    opened.emulate_media(color_scheme="dark", media="print")
    assert opened.locator(".plot[data-chart='0'] path.line").first.is_visible()
    assert not opened.locator("button.log").first.is_visible()
    ground = "getComputedStyle(document.body).backgroundColor"
    assert opened.evaluate(ground) == "rgb(255, 255, 255)"
    opened.emulate_media(media="screen")


def test_a_sweep_links_to_the_reports_of_its_runs(opened_sweep: Page, sweep_page: Path) -> None:
    assert opened_sweep.locator(".thumbnail").count() == 5
    links = opened_sweep.locator("#runs-table a")
    assert links.all_inner_texts() == ["1"]
    links.click()
    assert opened_sweep.url == (sweep_page.parent / "1" / "report.html").as_uri()


def test_the_security_policy_blocks_foreign_scripts(watched: Watched) -> None:
    """The policy allows only the page's own scripts, by their hashes."""
    watched.page.evaluate("window.started = false")
    refused = watched.page.evaluate(
        """() => new Promise(resolve => {
            const refused = event => resolve(event.violatedDirective);
            document.addEventListener("securitypolicyviolation", refused, {once: true});
            const script = document.createElement("script");
            script.textContent = "window.started = true";
            document.body.append(script);
        })"""
    )
    assert refused == "script-src-elem"
    assert watched.page.evaluate("window.started") is False
    watched.page.evaluate("fetch('https://example.org').catch(() => 0)")
    assert len(watched.unexpected) == 3
    assert all(
        "Content Security Policy" in message and message.startswith("console")
        for message in watched.unexpected
    )
    watched.unexpected.clear()
