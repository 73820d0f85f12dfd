"""The page of `netinv explore` in Gradio: its components, and how they update each other.

Images and bars are short HTML (markup.py), so that one move of a slider is one request.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from netinv_lightning.explorer import markup
from netinv_lightning.explorer.callbacks import (
    LARGEST_SEED,
    OVER_CLASSES,
    OVER_LATENTS,
    OVER_VECTORS,
    STRIP,
    Callbacks,
    Explored,
)
from netinv_lightning.explorer.neighbours import FEATURES, PIXELS
from netinv_lightning.explorer.pictures import conversion_rule, takes_pictures
from netinv_lightning.explorer.requests import MOST_UPLOADED, OwnPageOnly
from netinv_lightning.explorer.theme import theme


class Page:
    """Layout of the page."""

    def __init__(self, callbacks: Callbacks) -> None:
        self.callbacks, self.explored = callbacks, callbacks.explored
        self.module = callbacks.drawing.module
        self.classes = callbacks.classes
        self.labels = callbacks.labels
        self.spec = callbacks.drawing.classifier.spec
        self.choices = [(self.classes[label], label) for label in self.labels]

    def build(self) -> gr.Blocks:
        """Create the components."""
        with gr.Blocks(title=self.explored.title, analytics_enabled=False) as blocks:
            self.blocks = blocks
            gr.HTML(markup.heading(self.explored.title, self.explored.facts))
            with gr.Tab(f"Inverted {self.spec.modality}"):
                self._build_drawing()
            if takes_pictures(self.spec):
                with gr.Tab("Your picture"):
                    self._build_picture()
        return blocks

    def _build_drawing(self) -> None:
        module, sliders_shown = self.module, bool(self.callbacks.slots)
        first_label, second_label = self.labels[:2]
        start = self.callbacks.slot_values({first_label: 1.0})
        begin = (first_label, PIXELS, 0, 1, 0.0, 0, module.sampling_dropout, 0, *start)
        figures_now, bars_now = self.callbacks.show(*begin)
        strip_now, export_now = self.callbacks.released(OVER_CLASSES, 1, 0.0, second_label, *begin)
        over = gr.Radio(
            [OVER_CLASSES, *[OVER_VECTORS][: int(sliders_shown)], OVER_LATENTS],
            value=OVER_CLASSES,
            label="Strip over",
            elem_id="over",
        )
        pages = -(-len(self.labels) // STRIP)
        page = gr.Slider(
            1,
            max(pages, 2),
            1,
            step=1,
            label=f"Page ({STRIP} classes per page)",
            elem_id="page",
            visible=pages > 1,
            buttons=[],
        )
        strip = gr.HTML(strip_now, elem_id="strip")
        with gr.Row():
            with gr.Column(scale=2, min_width=320, elem_id="shown"):
                figures = gr.HTML(figures_now, elem_id="figures")
                by = gr.Radio(
                    [(self.callbacks.values, PIXELS), FEATURES],
                    value=PIXELS,
                    label=f"Nearest of the real {self.spec.modality} by",
                    elem_id="by",
                    visible=self.explored.real is not None,
                )
                bars = gr.HTML(bars_now, elem_id="bars")
            with gr.Column(scale=3, min_width=320):
                with gr.Row():
                    label = gr.Dropdown(
                        self.choices,
                        value=first_label,
                        label="Class A" if sliders_shown else "Class",
                        elem_id="class-a",
                        filterable=self.callbacks.chosen,
                    )
                    other = gr.Dropdown(
                        self.choices,
                        value=second_label,
                        label="Class B",
                        elem_id="class-b",
                        visible=sliders_shown,
                        filterable=self.callbacks.chosen,
                    )
                share = gr.Slider(
                    0,
                    1,
                    0,
                    step=0.01,
                    label="Class A to class B",
                    elem_id="share",
                    visible=sliders_shown,
                    buttons=[],
                )
                with gr.Accordion("Class weights (normalised to sum to 1)", visible=sliders_shown):
                    slots = self._build_slots(start)
                with gr.Row():
                    first, second = (
                        gr.Number(
                            seed,
                            label=f"Latent {name} (seed)",
                            precision=0,
                            minimum=0,
                            maximum=LARGEST_SEED,
                            elem_id=f"latent-{name}",
                        )
                        for seed, name in enumerate("AB")
                    )
                position = gr.Slider(
                    0,
                    1,
                    0,
                    step=0.01,
                    label="Latent A to latent B",
                    elem_id="position",
                    buttons=[],
                )
                generators = [(f"generator {g}", g) for g in range(len(module.generators))]
                generator = gr.Dropdown(
                    generators,
                    value=0,
                    label="Generator",
                    visible=len(generators) > 1,
                    elem_id="generator",
                    filterable=False,
                )
                with gr.Row():
                    dropout = gr.Checkbox(
                        module.sampling_dropout, label=self._dropout_label(), elem_id="dropout"
                    )
                    again = gr.Button("Draw again", elem_id="again")
        with gr.Accordion("Export: link, image, command", open=False, elem_id="export-part"):
            export = gr.HTML(export_now, elem_id="export")

        draw = gr.State(0)
        values = [by, first, second, position, generator, dropout, draw, *slots]
        live: dict[str, Any] = {
            "queue": False,
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "api_visibility": "private",
        }
        show: dict[str, Any] = {
            "fn": self.callbacks.show,
            "inputs": [label, *values],
            "outputs": [figures, bars],
            **live,
        }
        state = [over, page, share, other, label, *values]
        sweep: dict[str, Any] = {
            "fn": self.callbacks.released,
            "inputs": state,
            "outputs": [strip, export],
            **live,
        }
        mixed: dict[str, Any] = {
            "fn": self.callbacks.mixed,
            "inputs": [share, label, other, *values],
            "outputs": [*slots, figures, bars],
            **live,
        }
        # While a slider moves, only the image is updated; the strip follows on release.
        sliders = [part for part in (position, *slots) if isinstance(part, gr.Slider)]
        switches = [
            part for part in (by, first, second, generator, dropout, *slots) if part not in sliders
        ]
        gr.on([slider.input for slider in sliders], **show)
        gr.on([slider.release for slider in (*sliders, page)] + [over.input], **sweep)
        gr.on([switch.input for switch in switches], **show).then(**sweep)
        share.input(**mixed)
        gr.on([share.release, other.input], **mixed).then(**sweep)
        label.input(self.callbacks.hot, [label, *values], [*slots, figures, bars], **live).then(
            lambda: 0.0, None, share, **live
        ).then(**sweep)
        self._restore([*state, figures, bars, strip, export], live)
        again.click(lambda number: number + 1, draw, draw, **live).then(**show).then(**sweep)

    def _restore(self, parts: list[Any], live: dict[str, Any]) -> None:
        """Restore the state of a link when the page opens; without one, nothing changes."""

        def restore(request: gr.Request) -> list[Any]:
            return self.callbacks.restored(str(request.query_params)) or [gr.skip()] * len(parts)

        gr.on([self.blocks.load], restore, None, parts, **live)

    def _build_slots(self, start: Sequence[Any]) -> list[Any]:
        weights = start[self.callbacks.slots :] if self.callbacks.chosen else start
        names = [self.classes[label] for label in self.labels]
        if self.callbacks.chosen:
            names = ["weight"] * self.callbacks.slots
        labels: list[Any] = []
        sliders: list[Any] = []
        with gr.Row(elem_id="slots"):
            for index in range(self.callbacks.slots):
                with gr.Column(min_width=130):
                    if self.callbacks.chosen:
                        labels.append(
                            gr.Dropdown(
                                self.choices,
                                value=start[index],
                                label="class",
                                elem_id=f"class-{index}",
                            )
                        )
                    sliders.append(
                        gr.Slider(
                            0,
                            1,
                            weights[index],
                            step=0.01,
                            label=names[index],
                            elem_id=f"weight-{index}",
                            buttons=[],
                        )
                    )
        return [*labels, *sliders]

    def _dropout_label(self) -> str:
        return f"Dropout (in the run: {'on' if self.module.sampling_dropout else 'off'})"

    def _build_picture(self) -> None:
        gr.HTML(markup.text(conversion_rule(self.spec)))
        with gr.Row():
            # gr.Image would open the file itself, and report a damaged one only as "Error".
            with gr.Column(scale=1, min_width=280):
                given = gr.File(
                    file_types=["image"],
                    type="filepath",
                    label="Drop or choose a picture",
                    height=200,
                    elem_id="given",
                )
            with gr.Column(scale=2, min_width=320):
                figures = gr.HTML(elem_id="picture-figures")
        with gr.Row():
            with gr.Column(min_width=320):
                bars = gr.HTML(elem_id="picture-bars")
            with gr.Column(min_width=320):
                units = gr.HTML(elem_id="picture-units")
        given.change(
            self.callbacks.picture,
            given,
            [figures, bars, units],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )


def application(explored: Explored, uploads: Path) -> FastAPI:
    """Return the page as a web application that only a browser on this machine can use.

    Args:
        explored: Contents of the page.
        uploads: The folder of Gradio's uploads (`GRADIO_TEMP_DIR`). No other file is opened.
    """
    app = FastAPI(openapi_url=None)
    app.add_middleware(OwnPageOnly, uploads=uploads)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return gr.mount_gradio_app(
        app,
        Page(Callbacks(explored, uploads)).build(),
        path="/",
        max_file_size=MOST_UPLOADED,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        theme=theme(),
        # The argument `css` would change the selectors.
        head=f"<style>{markup.CSS}</style><script>{markup.KEYS}</script>",
    )
