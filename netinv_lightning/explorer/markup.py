"""Pieces of the page as HTML: images with crisp pixels and bars. Every name is escaped: a classifier's card may hold any.

Shape suffixes: C channels, H height, W width, N classes, B images, D features.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import torch
from PIL import Image
from torch import Tensor

from netinv_lightning.data.pixels import to_uint8

MOST_BARS = 12
"""Classes with bars where there are more than 20: those with the largest numbers."""
ALL_BARS = 20
TOP_UNITS = 10

CSS = """
.gradio-container { width: 100% !important; max-width: 1500px !important; margin: 0 auto !important; }
.netinv figure { margin: 0; display: flex; flex-direction: column; gap: 4px; min-width: 0; }
.netinv img { display: block; width: 100%; height: auto; image-rendering: pixelated; background: #8884; border-radius: 4px; }
.netinv figcaption { font-size: 13px; line-height: 1.35; color: var(--body-text-color); overflow-wrap: anywhere; }
.netinv .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 16px; }
.netinv .pair figure { max-width: 420px; }
.netinv .strip { display: grid; grid-template-columns: repeat(10, 1fr); gap: 10px; }
.netinv .bars { display: grid; grid-template-columns: fit-content(40%) 1fr max-content; gap: 5px 8px; align-items: center;
  font-size: 13px; color: var(--body-text-color); }
.netinv .bars > span { overflow-wrap: anywhere; }
.netinv .bars > .number { font-variant-numeric: tabular-nums; text-align: right; }
.netinv .bars .first { font-weight: 700; }
.netinv .track { background: #8883; border-radius: 3px; overflow: hidden; }
.netinv .track i { display: block; height: 8px; }
.netinv .answered { background: #2f6fde; }
.netinv .told { background: #e0912f; }
.netinv h1 { margin: 0 0 4px; font-size: 22px; font-weight: 650; color: var(--body-text-color); }
.netinv p { margin: 0 0 8px; font-size: 13px; line-height: 1.4; color: var(--body-text-color); overflow-wrap: anywhere; }
.netinv .whole { white-space: nowrap; margin-right: 12px; }
#slots { display: grid; grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); }
.netinv .key { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 4px; }
@media (max-width: 700px) {  /* one column: the image stays in sight while the sliders below it are moved */
  .gradio-container { overflow: clip !important; }  /* Gradio's hidden would hold what is sticky */
  .netinv .strip { grid-template-columns: repeat(3, 1fr); }
  #seen { display: contents; }
  #figures { position: sticky; top: 0; z-index: 100; background: var(--body-background-fill); }
}
"""

KEYS = """
document.addEventListener("keyup", event => {
  if (event.target.matches("input[type=range]")) event.target.dispatchEvent(new PointerEvent("pointerup", {bubbles: true}));
});
"""
"""A slider that is moved by keys is let go with the key; Gradio tells of the pointer's release alone."""


def image(image_CHW: Tensor, caption: str, name: str) -> str:
    """An image in [0, 1], as large as its place, and its caption; `name` is what it is called in the page."""
    pixels_HWC = to_uint8(image_CHW).permute(1, 2, 0).squeeze(2).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels_HWC).save(file, "PNG")
    source = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure data-name="{escape(name)}"><img alt="{escape(caption)}" src="data:image/png;base64,{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def pair(*figures: str) -> str:
    return f'<div class="netinv"><div class="pair">{"".join(figures)}</div></div>'


def strip(images_BCHW: Tensor, captions: Sequence[str]) -> str:
    figures = [
        image(image_CHW, caption, "swept")
        for image_CHW, caption in zip(images_BCHW, captions, strict=True)
    ]
    return f'<div class="netinv"><div class="strip">{"".join(figures)}</div></div>'


def text(words: str) -> str:
    return f'<div class="netinv"><p>{escape(words)}</p></div>'


def heading(title: str, words: str) -> str:
    return f'<div class="netinv"><h1>{escape(title)}</h1><p>{escape(words)}</p></div>'


def probabilities(answered_N: Tensor, told_N: Tensor | None, classes: Sequence[str]) -> str:
    """Bars of what the classifier answers, and under each what the generator was told."""
    N, largest = len(classes), answered_N if told_N is None else torch.maximum(answered_N, told_N)
    shown = range(N) if N <= ALL_BARS else sorted(largest.topk(MOST_BARS).indices.tolist())
    first = int(answered_N.argmax())
    rows = []
    for label in shown:
        answered, told = float(answered_N[label]), None if told_N is None else float(told_N[label])
        bars = _bar("answered", answered) + ("" if told is None else _bar("told", told))
        mark = ' class="first"' if label == first else ""
        numbers = f"{answered:.3f}" + ("" if told is None else f" / {told:.2f}")
        rows.append(
            f'<span{mark} data-class="{label}" data-answered="{answered:.6f}">{escape(classes[label])}</span>'
            f'<div>{bars}</div><span class="number">{numbers}</span>'
        )
    keys = ['<span class="key answered"></span>the classifier\'s answer Q']
    if told_N is not None:
        keys += [
            '<span class="key told"></span>told to the generator, P',
            f"D<sub>KL</sub>(P||Q) = {divergence(told_N, answered_N):.3f}",
        ]
    key = "".join(f'<span class="whole">{words}</span> ' for words in keys)
    left_out = f"<p>The {len(rows)} largest of {N} classes.</p>" if len(rows) < N else ""
    return (
        f'<div class="netinv"><p>{key}</p><div class="bars">{"".join(rows)}</div>{left_out}</div>'
    )


def divergence(told_N: Tensor, answered_N: Tensor) -> float:
    """D_KL(P||Q), the term of the objective."""
    return float(torch.special.xlogy(told_N, told_N / answered_N.clamp_min(1e-30)).sum())


def units(features_D: Tensor, layer: str) -> str:
    """Bars of the features that fire most."""
    values, indices = features_D.topk(min(TOP_UNITS, len(features_D)))
    largest = max(float(values[0]), 1e-12)
    rows = [
        f'<span data-unit="{index}">unit {index}</span><div>{_bar("answered", max(value, 0.0) / largest)}</div>'
        f'<span class="number">{value:.3f}</span>'
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    ]
    title = f"The {len(rows)} of {len(features_D)} units of {layer} features that fire most"
    return (
        f'<div class="netinv"><p>{escape(title)}</p><div class="bars">{"".join(rows)}</div></div>'
    )


def _bar(kind: str, share: float) -> str:
    return f'<div class="track"><i class="{kind}" style="width: {100 * share:.1f}%"></i></div>'
