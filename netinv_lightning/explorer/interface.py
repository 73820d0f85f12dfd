"""The page of `netinv explore`, in Gradio: its parts, what they are called, and which of them changes which.

Images and bars are small pieces of HTML (markup.py), so that a move of a slider is one request with one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from torch import Tensor

from netinv_lightning.classifiers.features import FeatureSet
from netinv_lightning.errors import InputError
from netinv_lightning.explorer import markup
from netinv_lightning.explorer.drawing import Drawing, Setting, distribution, extract
from netinv_lightning.explorer.neighbours import FEATURES, PIXELS, Neighbours
from netinv_lightning.explorer.pictures import RULE, read_picture
from netinv_lightning.explorer.requests import MOST_UPLOADED, OwnPageOnly, check_upload

MOST_SLIDERS = 20
"""Classes that have a slider each; of more, `CHOSEN` at a time have one, and the user says which."""
CHOSEN = 5
STRIP = 20
"""Images in a strip over classes; of more classes it has pages."""
STEPS = 10
"""Images in a strip from one class or latent to another."""
LARGEST_SEED = 2**31 - 1
OVER_CLASSES, OVER_VECTORS, OVER_LATENTS = (
    "all classes",
    "class A to class B",
    "latent A to latent B",
)


@dataclass(frozen=True)
class Explored:
    """What the page is about.

    Attributes:
        title: Of the page.
        facts: A line on the run.
        drawing: Its generators and its classifier.
        inverted: Images that they drew.
        real: Real images, or None.
        real_note: What they are, or why there are none.
    """

    title: str
    facts: str
    drawing: Drawing
    inverted: Neighbours
    real: Neighbours | None
    real_note: str


class Page:
    """The page: `build` lays it out; the other methods are what its parts call, from the values of parts to HTML.

    The generator's conditioning vector has slots, each a class and its weight. Up to 20 classes have a slot of their own, of more
    the user says which classes the slots are for. A generator that is told the label alone has none, but a class.
    """

    def __init__(self, explored: Explored, uploads: Path | None = None) -> None:
        self.explored, self.drawing, self.uploads = explored, explored.drawing, uploads
        self.classes = self.drawing.classes
        N = len(self.classes)
        self.chosen = N > MOST_SLIDERS  # by the user, which classes
        self.slots = 0 if self.drawing.label_alone else CHOSEN if self.chosen else N
        self.choices = list(zip(self.classes, range(N), strict=True))

    def show(self, label: int, by: str, *values: Any) -> tuple[str, str]:
        """The image beside its nearest real one; and the bars. The values are those of a setting, then of the slots."""
        setting, slots = self._setting(values)
        seen = self.drawing.image(self._vector(label, slots), setting)
        drawn = markup.image(
            seen.images_nCHW[0],
            f"Draw {setting.draw + 1}. The classifier says: {self._answer(seen, 0)}",
            "drawn",
        )
        return markup.pair(drawn, self._nearest_real(seen, by)), self._bars(seen)

    def hot(self, label: int, by: str, *values: Any) -> list[Any]:
        """Slots that name one class, and what `show` then gives."""
        return self._with_slots({label: 1.0}, label, by, values)

    def mixed(self, share: float, label: int, other: int, by: str, *values: Any) -> list[Any]:
        """Slots between two classes, and what `show` then gives."""
        return self._with_slots(
            {label: 1.0} if label == other else {label: 1 - share, other: share}, label, by, values
        )

    def sweep(self, over: str, page: int, other: int, label: int, by: str, *values: Any) -> str:
        """A strip of images."""
        setting, slots = self._setting(values)
        if over == OVER_LATENTS:
            seen = self.drawing.between_latents(self._vector(label, slots), STEPS, setting)
            asked = [f"{share:.0%}" for share in torch.linspace(0, 1, STEPS).tolist()]
        elif over == OVER_VECTORS:
            seen = self.drawing.between_classes(label, other, STEPS, setting)
            asked = [f"{share:.0%}" for share in torch.linspace(0, 1, STEPS).tolist()]
        else:
            labels = range(len(self.classes))[(page - 1) * STRIP : page * STRIP]
            seen = self.drawing.of_classes(labels, setting)
            asked = [self.classes[k] for k in labels]
        return markup.strip(
            seen.images_nCHW,
            [f"{name} \u2192 {self._answer(seen, index)}" for index, name in enumerate(asked)],
        )

    def picture(self, path: str | None) -> tuple[str, str, str]:
        """A user's picture as the classifier sees it, beside the images nearest to it; the bars; its top units."""
        if path is None:
            return "", "", ""
        classifier = self.drawing.classifier
        try:
            if self.uploads is not None:
                check_upload(path, self.uploads)
            seen = extract(classifier, read_picture(Path(path), classifier.spec)[None])
        except InputError as error:
            return markup.text(str(error)), "", ""
        given = markup.image(
            seen.images_nCHW[0],
            f"Yours, as the classifier sees it. It says: {self._answer(seen, 0)}",
            "picture",
        )
        near = self._nearest(self.explored.inverted, seen, FEATURES, "nearest-inverted")
        figures = markup.pair(given, near, self._nearest_real(seen, FEATURES))
        return (
            figures,
            self._bars(seen),
            markup.units(seen.features_nD[0], classifier.feature_layers[-1]),
        )

    def _setting(self, values: Sequence[Any]) -> tuple[Setting, Sequence[Any]]:
        first, second, position, generator, dropout, draw, *slots = values
        return Setting(int(first or 0), int(second or 0), position, generator, dropout, draw), slots

    def _vector(self, label: int, slots: Sequence[Any]) -> Tensor:
        weights_N = torch.zeros(len(self.classes))
        if not self.slots:
            weights_N[label] = 1.0
        labels = slots[: self.slots] if self.chosen else range(self.slots)
        for slot_label, weight in zip(
            labels, slots[-self.slots :] if self.slots else (), strict=True
        ):
            weights_N[slot_label] += weight
        return distribution(weights_N)

    def _with_slots(
        self, weights: dict[int, float], label: int, by: str, values: Sequence[Any]
    ) -> list[Any]:
        setting = values[: len(values) - self.slots * (2 if self.chosen else 1)]
        slots = self._slot_values(weights)
        return [*slots, *self.show(label, by, *setting, *slots)]

    def _slot_values(self, weights: dict[int, float]) -> list[Any]:
        if not self.chosen:
            return [weights.get(label, 0.0) for label in range(self.slots)]
        labels = [*weights, *(label for label in range(len(self.classes)) if label not in weights)][
            : self.slots
        ]
        return [*labels, *(weights.get(label, 0.0) for label in labels)]

    def _bars(self, seen: FeatureSet) -> str:
        told_N = None if seen.targets_nN is None else seen.targets_nN[0]
        return markup.probabilities(seen.probabilities_nN[0], told_N, self.classes)

    def _nearest_real(self, seen: FeatureSet, by: str) -> str:
        real = self.explored.real
        return (
            markup.text(self.explored.real_note)
            if real is None
            else self._nearest(real, seen, by, "nearest-real")
        )

    def _nearest(self, among: Neighbours, seen: FeatureSet, by: str, name: str) -> str:
        near = among.nearest(seen.images_nCHW[0], seen.features_nD[0], by)
        measure = "correlation of pixels" if by == PIXELS else "cosine of features"
        return markup.image(
            near.image_CHW,
            f"Nearest of {among.what}: {self.classes[near.label]}, {measure} {near.similarity:.3f}",
            name,
        )

    def _answer(self, seen: FeatureSet, index: int) -> str:
        probability, label = seen.probabilities_nN[index].max(dim=0)
        return f"{self.classes[int(label)]} ({float(probability):.1%})"

    def build(self) -> gr.Blocks:
        """Lays the page out."""
        with gr.Blocks(title=self.explored.title, analytics_enabled=False) as blocks:
            gr.HTML(markup.heading(self.explored.title, self.explored.facts))
            with gr.Tab("Draw"):
                self._build_drawing()
            with gr.Tab("Your picture"):
                self._build_picture()
        return blocks

    def _build_drawing(self) -> None:
        module, told = self.drawing.module, bool(self.slots)
        start = self._slot_values({0: 1.0})
        begin = (0, PIXELS, 0, 1, 0.0, 0, module.sampling_dropout, 0, *start)
        figures_now, bars_now = self.show(*begin)
        with gr.Row():
            with gr.Column(scale=2, min_width=320, elem_id="seen"):
                figures = gr.HTML(figures_now, elem_id="figures")
                by = gr.Radio(
                    [PIXELS, FEATURES],
                    value=PIXELS,
                    label="Nearest by",
                    elem_id="by",
                    visible=self.explored.real is not None,
                )
                bars = gr.HTML(bars_now, elem_id="bars")
            with gr.Column(scale=3, min_width=320):
                with gr.Row():
                    label = gr.Dropdown(
                        self.choices,
                        value=0,
                        label="Class A" if told else "Class",
                        elem_id="class-a",
                        filterable=self.chosen,
                    )
                    other = gr.Dropdown(
                        self.choices,
                        value=1,
                        label="Class B",
                        elem_id="class-b",
                        visible=told,
                        filterable=self.chosen,
                    )
                share = gr.Slider(
                    0,
                    1,
                    0,
                    step=0.01,
                    label="From class A to class B",
                    elem_id="share",
                    visible=told,
                    buttons=[],
                )
                with gr.Accordion("Weights of the classes (scaled to sum to 1)", visible=told):
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
                    label="From latent A to latent B",
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
        over = gr.Radio(
            [OVER_CLASSES, OVER_VECTORS, OVER_LATENTS] if told else [OVER_CLASSES, OVER_LATENTS],
            value=OVER_CLASSES,
            label="Strip over",
            elem_id="over",
        )
        pages = -(-len(self.classes) // STRIP)
        page = gr.Slider(
            1,
            max(pages, 2),
            1,
            step=1,
            label=f"Page ({STRIP} classes each)",
            elem_id="page",
            visible=pages > 1,
            buttons=[],
        )
        strip = gr.HTML(self.sweep(OVER_CLASSES, 1, 1, *begin), elem_id="strip")

        draw = gr.State(0)
        values = [by, first, second, position, generator, dropout, draw, *slots]
        live: dict[str, Any] = {
            "queue": False,
            "show_progress": "hidden",
            "trigger_mode": "always_last",
            "api_visibility": "private",
        }
        show: dict[str, Any] = {
            "fn": self.show,
            "inputs": [label, *values],
            "outputs": [figures, bars],
            **live,
        }
        sweep: dict[str, Any] = {
            "fn": self.sweep,
            "inputs": [over, page, other, label, *values],
            "outputs": strip,
            **live,
        }
        mixed: dict[str, Any] = {
            "fn": self.mixed,
            "inputs": [share, label, other, *values],
            "outputs": [*slots, figures, bars],
            **live,
        }
        # One image a move: the strip waits until a slider is let go.
        sliders = [part for part in (position, *slots) if isinstance(part, gr.Slider)]
        switches = [
            part for part in (by, first, second, generator, dropout, *slots) if part not in sliders
        ]
        gr.on([slider.input for slider in sliders], **show)
        gr.on([slider.release for slider in (*sliders, page)] + [over.input], **sweep)
        gr.on([switch.input for switch in switches], **show).then(**sweep)
        share.input(**mixed)
        gr.on([share.release, other.input], **mixed).then(**sweep)
        label.input(self.hot, [label, *values], [*slots, figures, bars], **live).then(
            lambda: 0.0, None, share, **live
        ).then(**sweep)
        again.click(lambda number: number + 1, draw, draw, **live).then(**show).then(**sweep)

    def _build_slots(self, start: Sequence[Any]) -> list[Any]:
        weights = start[self.slots :] if self.chosen else start
        names = ["weight"] * self.slots if self.chosen else self.classes
        labels: list[Any] = []
        sliders: list[Any] = []
        with gr.Row(elem_id="slots"):
            for index in range(self.slots):
                with gr.Column(min_width=130):
                    if self.chosen:
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
        return f"Dropout (the run sampled with it {'on' if self.drawing.module.sampling_dropout else 'off'})"

    def _build_picture(self) -> None:
        spec = self.drawing.classifier.spec
        gr.HTML(
            markup.text(
                f"It is brought to {spec.channels} x {spec.image_size} x {spec.image_size}: {RULE}"
            )
        )
        with gr.Row():
            with gr.Column(
                scale=1, min_width=280
            ):  # no gr.Image, which opens the file itself, and for a damaged one only says "Error"
                given = gr.File(
                    file_types=["image"],
                    type="filepath",
                    label="Drop a picture",
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
            self.picture,
            given,
            [figures, bars, units],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )


def application(explored: Explored, uploads: Path) -> FastAPI:
    """The page as a web application that answers this machine's own browser alone and loads nothing from elsewhere.

    Args:
        explored: What the page is about.
        uploads: The folder where Gradio puts uploads (`GRADIO_TEMP_DIR`); files elsewhere are never opened.
    """
    app = FastAPI(openapi_url=None)
    app.add_middleware(OwnPageOnly, uploads=uploads)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return gr.mount_gradio_app(
        app,
        Page(explored, uploads).build(),
        path="/",
        max_file_size=MOST_UPLOADED,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        theme=gr.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        head=f"<style>{markup.CSS}</style><script>{markup.KEYS}</script>",  # Gradio would rewrite the selectors of `css`
    )
