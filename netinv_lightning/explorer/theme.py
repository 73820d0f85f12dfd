"""Colours and fonts of the page of `netinv explore`: those of the report."""

from __future__ import annotations

import gradio as gr

COLOURS = {
    "body_background_fill": "#f6f8fa",
    "body_background_fill_dark": "#0f1419",
    "block_background_fill": "#ffffff",
    "block_background_fill_dark": "#181f27",
    "body_text_color": "#1b1f24",
    "body_text_color_dark": "#e6edf3",
    "body_text_color_subdued": "#57606a",
    "body_text_color_subdued_dark": "#9aa5b1",
    "block_label_text_color": "#1b1f24",
    "block_label_text_color_dark": "#e6edf3",
    **{
        f"link_text_color{state}{scheme}": colour
        for state in ("", "_active", "_hover", "_visited")
        for scheme, colour in (("", "#0072b2"), ("_dark", "#56b4e9"))
    },
    "slider_color": "#0072b2",
    "slider_color_dark": "#56b4e9",
}
"""Colours by the name of their variable in Gradio."""


def theme() -> gr.themes.Base:
    """Return the theme; fonts are those of the system, so nothing is downloaded."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(**COLOURS)
