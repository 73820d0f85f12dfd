"""Parts of the page that a browser reads and changes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import torch
from PIL import Image
from playwright.sync_api import Page
from torchvision.transforms.functional import pil_to_tensor


def image_of(page: Page, name: str = "drawn", within: str = "#figures") -> str:
    return page.locator(f"{within} [data-name={name}] img").get_attribute("src") or ""


def tensor_of(source: str) -> torch.Tensor:
    """Return the image as a tensor [1, H, W] in [0, 1]."""
    picture = Image.open(
        io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,")))
    )
    return pil_to_tensor(picture).float() / 255


def probabilities_of(page: Page, within: str = "#bars") -> list[float]:
    rows = page.locator(f"{within} [data-probability]")
    return [float(row.get_attribute("data-probability") or "nan") for row in rows.all()]


def changed(
    page: Page, act: Callable[[], object], name: str = "drawn", within: str = "#figures"
) -> str:
    """Return the image after an action has changed it."""
    before = image_of(page, name, within)
    act()
    selector = f"{within} [data-name={name}] img"
    page.wait_for_function(
        "([selector, before]) => document.querySelector(selector).src !== before",
        arg=[selector, before],
    )
    return image_of(page, name, within)


def show_the_same(page: Page, other: Page) -> bool:
    """Return whether two pages come to show the same image within ten seconds."""
    for _ in range(100):
        if image_of(page) == image_of(other) != "":
            return True
        page.wait_for_timeout(100)
    return False


def move(page: Page, part: str, value: float) -> None:
    """Move a slider and report it as the browser does."""
    page.locator(f"#{part} input[type=range]").evaluate(
        """(range, value) => {
            range.value = value;
            range.dispatchEvent(new Event('input', {bubbles: true}));
        }""",
        value,
    )


def choose(page: Page, part: str, index: int) -> None:
    page.locator(f"#{part} input").click()
    page.locator("ul[role=listbox] li").nth(index).click()
