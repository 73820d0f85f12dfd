"""The page of `netinv explore` with a real run, a real server and Chromium."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from netinv_lightning.classifiers.build import load_carded
from netinv_lightning.data.outliers import in_shape_of
from tests.accessibility import problems_of, problems_of_keyboard
from tests.browser import browser
from tests.explorer.page_controls import (
    changed,
    choose,
    image_of,
    move,
    probabilities_of,
    show_the_same,
    tensor_of,
)
from tests.explorer.served_run import NAMES, Served, response_of, served_run

pytest.importorskip("gradio")

__all__ = ["browser"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_run(tmp_path_factory.mktemp("explored")) as page:
        yield page


@pytest.fixture(scope="module")
def requests() -> list[str]:
    """Addresses that the page requested, and errors of its console."""
    return []


@pytest.fixture(scope="module")
def page(browser: Browser, served: Served, requests: list[str]) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1600, "height": 1000})
    opened.on("request", lambda request: requests.append(request.url))
    opened.on(
        "console",
        lambda message: (
            requests.append(f"console: {message.text}") if message.type == "error" else None
        ),
    )
    opened.on("pageerror", lambda error: requests.append(f"error: {error}"))
    opened.goto(served.address)
    opened.wait_for_selector("#strip img")
    yield opened
    opened.close()


def test_the_page_shows_an_image_without_other_requests(
    page: Page, served: Served, requests: list[str]
) -> None:
    assert len(requests) > 10
    assert [url for url in requests if not url.startswith((served.address, "data:", "blob:"))] == []
    assert tensor_of(image_of(page)).shape == (1, 28, 28)
    assert (
        page.evaluate("getComputedStyle(document.querySelector('#figures img')).imageRendering")
        == "pixelated"
    )
    assert "Nearest of 3,600 training images of mnist5k" in page.locator("#figures").inner_text()


def test_markup_in_names_is_shown_as_text(page: Page) -> None:
    assert page.locator("#bars [data-class]").all_inner_texts() == list(NAMES)
    for label, name in enumerate(NAMES):
        assert name in page.locator(f"#weight-{label}").inner_text()
    assert (
        NAMES[0] in page.locator("#figures figcaption").first.inner_text()
        or "Prediction" in page.locator("#figures").inner_text()
    )
    assert page.title() == "mnist_invert, seed 0"  # interpreted markup would have changed the title
    assert page.locator("img[src=x]").count() == 0


def test_a_slider_changes_image_and_probabilities(page: Page) -> None:
    before = probabilities_of(page)
    changed(page, lambda: move(page, "weight-4", 0.8))
    after = probabilities_of(page)
    assert len(after) == 10
    assert sum(after) == pytest.approx(1.0, abs=1e-4)
    assert max(abs(a - b) for a, b in zip(after, before, strict=True)) > 0.01
    assert page.locator("#bars .number").nth(4).inner_text().endswith("/ 0.44")  # 0.8 of 1.8


def test_bars_are_the_prediction_for_the_shown_image(page: Page, served: Served) -> None:
    """The classifier assigns the shown image to the chosen class, with the shown probabilities."""
    if page.locator("#dropout input").is_checked():
        changed(page, lambda: page.locator("#dropout input").click())
    classifier = load_carded(served.classifier, "classifier")
    for label in (7, 3, 0):
        source = changed(page, lambda label=label: choose(page, "class-a", label))
        probability_N = classifier(tensor_of(source)[None]).softmax(dim=1)[0]
        assert int(probability_N.argmax()) == label
        # A PNG has 256 grey levels.
        torch.testing.assert_close(
            torch.tensor(probabilities_of(page)), probability_N, atol=0.03, rtol=0
        )
        assert page.locator(f"#weight-{label} input[type=number]").input_value() == "1"


def test_draws_differ_only_with_dropout(page: Page) -> None:
    again, dropout = page.locator("#again"), page.locator("#dropout input")
    if dropout.is_checked():
        changed(page, dropout.click)
    plain = image_of(page)
    again.click()
    expect(page.locator("#figures [data-name=drawn]")).to_contain_text("Draw 2.")
    assert image_of(page) == plain
    first = changed(page, dropout.click)
    second = changed(page, again.click)
    assert len({plain, first, second}) == 3
    assert changed(page, dropout.click) == plain


def test_strips_over_classes_vectors_and_latents(page: Page) -> None:
    page.get_by_role("radio", name="all classes").check()
    strip = page.locator("#strip img")
    expect(strip).to_have_count(10)
    captions = page.locator("#strip figcaption").all_inner_texts()
    assert [caption.split(" \u2192 ")[0] for caption in captions] == list(NAMES)
    drawn = changed(page, lambda: choose(page, "class-a", 3))
    expect(strip.nth(3)).to_have_attribute("src", drawn)

    page.get_by_role("radio", name="latent A to latent B").check()
    expect(page.locator("#strip figcaption").first).to_contain_text("0% \u2192")
    assert strip.first.get_attribute("src") == image_of(page)
    at_second = changed(page, lambda: move(page, "position", 1))
    assert strip.last.get_attribute("src") == at_second
    assert changed(page, lambda: move(page, "position", 0)) == strip.first.get_attribute("src")

    page.get_by_role("radio", name="class A to class B").check()
    expect(page.locator("#strip figcaption").last).to_contain_text(f"100% \u2192 {NAMES[1]}")
    half = changed(page, lambda: move(page, "share", 0.5))
    assert half not in (strip.first.get_attribute("src"), strip.last.get_attribute("src"))
    assert page.locator("#weight-1 input[type=number]").input_value() == "0.5"


def test_a_released_slider_changes_the_strip(page: Page) -> None:
    page.get_by_role("radio", name="latent A to latent B").check()
    expect(page.locator("#strip figcaption").first).to_contain_text("0% \u2192")
    strip = page.locator("#strip img")
    for act in ("drag", "keys"):
        before = strip.first.get_attribute("src")
        slider = page.locator("#weight-8 input[type=range]")
        box = slider.bounding_box()
        assert box is not None
        if act == "drag":
            page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2)
            page.mouse.down()
            page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2, steps=4)
            page.mouse.up()
        else:
            slider.focus()
            slider.press("Home")
        expect(strip.first).not_to_have_attribute("src", before or "")


def test_a_link_restores_the_state(page: Page, browser: Browser, served: Served) -> None:
    """The link and the saved image are those of the state that is shown."""
    page.get_by_role("radio", name="latent A to latent B").check()
    expect(page.locator("#strip figcaption").first).to_contain_text("0% \u2192")
    page.get_by_role("button", name="Export").click()
    save = page.get_by_role("link", name="Save the image")
    expect(save).to_have_attribute("href", image_of(page))
    assert save.get_attribute("download") == "inverted.png"
    query = (page.get_by_role("link", name="Link to this state").get_attribute("href") or "")[2:]
    command = f"netinv explore {served.directory} --state '{query}'"
    assert page.locator("#export pre").inner_text() == command
    again = browser.new_page()
    again.goto(f"{served.address}/?{query}")
    expect(again.locator("#strip figcaption").first).to_contain_text("0% \u2192")
    assert show_the_same(page, again)
    for part in ("weight-0", "weight-8"):
        here = page.locator(f"#{part} input[type=number]").input_value()
        assert again.locator(f"#{part} input[type=number]").input_value() == here
    again.close()


def test_the_page_is_accessible(browser: Browser, served: Served) -> None:
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.goto(served.address)
    page.wait_for_selector("#strip img")
    page.get_by_role("button", name="Export").click()
    expect(page.get_by_role("link", name="Save the image")).to_be_visible()
    assert problems_of(page) == []
    assert problems_of_keyboard(page) == []
    page.close()


def test_the_nearest_image_by_features_uses_another_measure(page: Page) -> None:
    assert "correlation of pixels" in page.locator("#figures").inner_text()
    page.get_by_role("radio", name="features").check()
    expect(page.locator("#figures [data-name=nearest-real]")).to_contain_text("cosine of features")


def test_an_uploaded_picture_is_classified(page: Page, served: Served, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Your picture").click()
    pixels_CHW = torch.randint(0, 256, (3, 50, 70), generator=torch.Generator().manual_seed(3)).to(
        torch.uint8
    )
    Image.fromarray(pixels_CHW.permute(1, 2, 0).numpy()).save(tmp_path / "mine.png")
    page.locator("#given input[type=file]").set_input_files(tmp_path / "mine.png")
    page.wait_for_selector("#picture-bars [data-probability]")
    classifier = load_carded(served.classifier, "classifier")
    logits_BN, features = classifier.logits_and_features(
        in_shape_of(classifier.spec, pixels_CHW[None].float() / 255)
    )
    torch.testing.assert_close(
        torch.tensor(probabilities_of(page, "#picture-bars")),
        logits_BN.softmax(dim=1)[0],
        atol=1e-5,
        rtol=0,
    )
    units = [
        int(row.get_attribute("data-unit") or -1)
        for row in page.locator("#picture-units [data-unit]").all()
    ]
    assert units == features["penultimate"][0].topk(10).indices.tolist()
    for name in ("picture", "nearest-inverted", "nearest-real"):
        assert tensor_of(image_of(page, name, "#picture-figures")).shape == (1, 28, 28)


def test_a_file_that_is_not_a_picture_is_refused(page: Page, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("not a picture")
    page.get_by_role("tab", name="Your picture").click()
    if page.locator("#given input[type=file]").count() == 0:
        page.locator("#given button[aria-label=Clear]").click()
    page.locator("#given input[type=file]").set_input_files(tmp_path / "broken.png")
    expect(page.locator("#picture-figures")).to_have_text(
        re.compile(r"broken\.png: is not a readable picture .* Use a PNG or JPEG file")
    )
    expect(page.locator("#picture-bars [data-probability]")).to_have_count(0)


def test_the_page_fits_a_narrow_window(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.get_by_role("tab", name="Inverted images").click()
    expect(page.locator("#strip img").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    strip, sliders = (page.locator(part).bounding_box() for part in ("#strip", "#slots"))
    assert strip is not None
    assert sliders is not None
    assert strip["y"] < sliders["y"]
    page.locator("#weight-9").scroll_into_view_if_needed()
    box = page.locator("#figures [data-name=drawn] img").bounding_box()
    assert box is not None
    assert 0 <= box["y"] <= 800 - box["height"]  # the image stays visible while sliders move


def test_no_external_request_and_no_console_error(
    page: Page, served: Served, requests: list[str]
) -> None:
    assert [url for url in requests if not url.startswith((served.address, "data:", "blob:"))] == []


def test_other_host_names_are_refused(served: Served) -> None:
    """This prevents DNS rebinding, where a foreign host name resolves to this machine."""
    foreign = urllib.request.Request(served.address, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(foreign)


def test_only_uploads_of_limited_size_are_opened(served: Served, tmp_path: Path) -> None:
    with urllib.request.urlopen(f"{served.address}/config") as answer:
        config = json.load(answer)
    given = next(
        part["id"] for part in config["components"] if part["props"].get("elem_id") == "given"
    )
    function = next(part["id"] for part in config["dependencies"] if part["inputs"] == [given])
    Image.new("L", (28, 28), 255).save(tmp_path / "mine.png")

    def upload(content: bytes) -> tuple[int, str]:
        form = (
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="mine.png"\r\n\r\n'
            + content
            + b"\r\n--x--\r\n"
        )
        return response_of(
            served, "upload", form, **{"Content-Type": "multipart/form-data; boundary=x"}
        )

    def opened(path: str, **meta: Any) -> tuple[int, str]:
        body = json.dumps(
            {"data": [{"path": path, **meta}], "fn_index": function, "session_hash": "s"}
        ).encode()
        return response_of(served, "run/predict", body, **{"Content-Type": "application/json"})

    status, paths = upload((tmp_path / "mine.png").read_bytes())
    assert status == 200
    uploaded = json.loads(paths)[0]
    as_file = {"meta": {"_type": "gradio.FileData"}}
    status, shown = opened(uploaded, **as_file)
    assert (status, "Your picture, as the classifier sees it" in shown) == (200, True)
    for path in (str(tmp_path / "mine.png"), "http://127.0.0.1:1/mine.png"):
        for meta in ({}, as_file):
            assert opened(path, **meta)[0] == 403
    assert upload(bytes(21 * 2**20))[0] == 413
    assert response_of(served, "run/predict", b"{}", Origin="http://evil.example")[0] == 403
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{served.address}/gradio_api/file={tmp_path / 'mine.png'}")
    served.uploads.append(Path(uploaded))


def test_ctrl_c_stops_the_server_without_a_traceback(served: Served, page: Page) -> None:
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(60) == 0
    address, *rest = served.stdout.read_text().splitlines()
    assert served.address in address
    assert "".join(rest).strip() == ""
    normalised = (
        "classifier: images are normalised with mean [0.1307] and std [0.3081] from the model card"
    )
    assert served.stderr.read_text().splitlines() == [f"loading {served.directory}", normalised]
    assert [path for path in served.uploads if path.parent.parent.exists()] == []
