"""HTML of the page: images with sharp pixels, and bars. All names are escaped.

Shape suffixes: C channels, H height, W width, N classes, B images, D features.
"""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Sequence
from html import escape
from importlib import resources

import torch
from PIL import Image
from torch import Tensor

from netinv_lightning.data.pixels import to_uint8
from netinv_lightning.data.raster import as_pictures

MOST_BARS = 12
"""Number of classes with bars if there are more than `ALL_BARS` classes; the largest are shown."""
ALL_BARS = 20
TOP_UNITS = 10
SHARP = 64
"""Pixels of the longer side up to which single pixels are shown; larger pictures are smoothed."""

MEANING = (
    "P: the share of each class that the generator is asked for. Q: the probability that the "
    "classifier gives to each class of the image. D<sub>KL</sub>(P||Q) measures their difference: "
    "0 if they are equal, and the smaller, the better. The training minimises it."
)
"""What P, Q and their divergence are."""

CSS = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")

KEYS = resources.files(__package__).joinpath("page.js").read_text(encoding="utf-8")
"""Script that reports the release of a key on a slider."""


def image(image_CHW: Tensor, caption: str, name: str) -> str:
    """Return an image in [0, 1] with its caption; `name` identifies it in the page."""
    picture = _picture(image_CHW)
    smooth = ' class="smooth"' if max(picture.size) > SHARP else ""
    return (
        f'<figure data-name="{escape(name)}">'
        f'<img{smooth} alt="{escape(caption)}" src="{_source(picture)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _picture(image_CHW: Tensor) -> Image.Image:
    pixels_HWC = to_uint8(as_pictures(image_CHW[None])[0]).permute(1, 2, 0).squeeze(2).numpy()
    return Image.fromarray(pixels_HWC)


def _source(picture: Image.Image) -> str:
    """Return a PNG as the address of a picture."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def export(image_CHW: Tensor, query: str, command: str) -> str:
    """Return links to the state of the page and to the image, and a command for the state."""
    shown = f"{command} --state {shlex.quote(query)}"
    return (
        '<div class="netinv"><p class="export">'
        f'<a href="/?{escape(query)}">Link to this state</a> '
        f'<a href="{_source(_picture(image_CHW))}" download="inverted.png">'
        "Save the image (PNG)</a></p>"
        f'<p>Command that opens this state:</p><pre tabindex="0">{escape(shown)}</pre></div>'
    )


def pair(*figures: str) -> str:
    return f'<div class="netinv"><div class="pair">{"".join(figures)}</div></div>'


def strip(images_BCHW: Tensor, captions: Sequence[str]) -> str:
    figures = [
        image(image_CHW, caption, "swept")
        for image_CHW, caption in zip(images_BCHW, captions, strict=True)
    ]
    wide = "" if images_BCHW.dim() == 4 else " wide"  # signals and tables need more pixels
    return f'<div class="netinv"><div class="strip{wide}">{"".join(figures)}</div></div>'


def text(words: str) -> str:
    return f'<div class="netinv"><p>{escape(words)}</p></div>'


def heading(title: str, words: str) -> str:
    return f'<div class="netinv"><h1>{escape(title)}</h1><p>{escape(words)}</p></div>'


def probabilities(predicted_N: Tensor, target_N: Tensor | None, classes: Sequence[str]) -> str:
    """Return bars of the prediction Q and, below each, of the conditioning distribution P."""
    N, largest = (
        len(classes),
        predicted_N if target_N is None else torch.maximum(predicted_N, target_N),
    )
    shown = range(N) if N <= ALL_BARS else sorted(largest.topk(MOST_BARS).indices.tolist())
    first = int(predicted_N.argmax())
    rows = []
    for label in shown:
        predicted, target = (
            float(predicted_N[label]),
            None if target_N is None else float(target_N[label]),
        )
        bars = _bar("prediction", predicted) + ("" if target is None else _bar("target", target))
        mark = ' class="first"' if label == first else ""
        numbers = f"{predicted:.3f}" + ("" if target is None else f" / {target:.2f}")
        rows.append(
            f'<span{mark} data-class="{label}" data-probability="{predicted:.6f}">'
            f"{escape(classes[label])}</span>"
            f'<div>{bars}</div><span class="number">{numbers}</span>'
        )
    keys = ['<span class="key prediction"></span>prediction Q of the classifier']
    if target_N is not None:
        keys += [
            '<span class="key target"></span>conditioning P of the generator',
            f"D<sub>KL</sub>(P||Q) = {divergence(target_N, predicted_N):.3f}",
        ]
    key = "".join(f'<span class="whole">{words}</span> ' for words in keys)
    left_out = (
        f"<p>{len(rows)} of {N} classes, with the largest values.</p>" if len(rows) < N else ""
    )
    legend = "" if target_N is None else f"<p>{MEANING}</p>"
    return (
        f'<div class="netinv"><p>{key}</p><div class="bars">{"".join(rows)}</div>{left_out}'
        f"{legend}</div>"
    )


def divergence(target_N: Tensor, predicted_N: Tensor) -> float:
    """Return D_KL(P||Q), a term of the objective."""
    return float(torch.special.xlogy(target_N, target_N / predicted_N.clamp_min(1e-30)).sum())


def units(features_D: Tensor, layer: str) -> str:
    """Return bars of the largest features."""
    values, indices = features_D.topk(min(TOP_UNITS, len(features_D)))
    largest = max(float(values[0]), 1e-12)
    rows = [
        f'<span data-unit="{index}">unit {index}</span>'
        f"<div>{_bar('prediction', max(value, 0.0) / largest)}</div>"
        f'<span class="number">{value:.3f}</span>'
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    ]
    title = f"{len(rows)} most active of {len(features_D)} units (layer {layer})"
    return (
        f'<div class="netinv"><p>{escape(title)}</p><div class="bars">{"".join(rows)}</div></div>'
    )


def _bar(kind: str, share: float) -> str:
    return f'<div class="track"><i class="{kind}" style="width: {100 * share:.1f}%"></i></div>'
