"""`application=measure`: measures a finished run, or a file of images, beside controls, and judges what the images are.

    netinv application=measure application.run=runs/latest
    netinv application=measure application.samples=mine.safetensors data=mnist application.verifiers=[mnist_mlp]

Shape suffixes: n images, C channels, H height, W width, N classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from netinv_lightning.api import load_run
from netinv_lightning.classifiers.build import load_classifier, load_zoo
from netinv_lightning.errors import InputError, one_line
from netinv_lightning.image_sets import Images
from netinv_lightning.metrics import names
from netinv_lightning.report import Report, draw_images, last_losses
from netinv_lightning.resume import read_config
from netinv_lightning.run_dir import RunDir


class MeasureApplication:
    """Measures what `cfg.application` names; its data root and what is measured are this command's, all else the run's."""

    best_metric = names.TRANSFER_ACCURACY

    def __init__(self, cfg: DictConfig) -> None:
        app = cfg.application
        if cfg.resume is not None:
            raise InputError(f"resume={cfg.resume}: application=measure keeps no checkpoints; start it anew")
        if (app.run is None) == (app.samples is None):
            raise InputError("application.run: give a run directory, or application.samples=FILE.safetensors (one of the two)")
        self.known: dict[str, float] = {}
        self.draw: Callable[[int], Images]
        measured_cfg = self._take_run(cfg, Path(app.run)) if app.run is not None else self._take_file(cfg, Path(app.samples))
        asked = app.verifiers if app.verifiers is not None else measured_cfg.application.get("verifiers") or []
        self.report = Report(measured_cfg, self.classifier, {name: load_zoo(name) for name in asked}, self.samples)
        if app.samples is not None:
            self.report.check(self.draw(self.report.samples))

    def run(self, run_dir: RunDir) -> dict[str, float]:
        return self.known | self.report(run_dir.path, self.known, self.draw)

    def _take_run(self, cfg: DictConfig, directory: Path) -> DictConfig:
        """The config of a finished run, with what it left: a generator, or where there is none the samples that it kept."""
        run_cfg = read_config(directory)
        if run_cfg.application.name != "invert":
            raise InputError(
                f"application.run={directory}: is a run of application={run_cfg.application.name}; give one of application=invert"
            )
        if (state := RunDir(directory).state) != "done":
            raise InputError(f"application.run={directory}: is not done ({state}); continue it with resume={directory}")
        summary: dict[str, float] = json.loads((directory / "summary.json").read_text())
        if cfg.application.verifiers is not None:  # then what other networks said is not what these say
            summary = {name: value for name, value in summary.items() if not name.startswith("transfer/")}
        self.known = summary | last_losses(directory)
        if run_cfg.classifier.train:  # then the run holds a copy of what was trained for it
            run_cfg.classifier.train, run_cfg.classifier.path = False, str(directory / "classifier.safetensors")
        if (directory / "checkpoints" / "last.ckpt").is_file():
            module = load_run(directory).module
            self.classifier, self.samples = module.classifier, run_cfg.application.eval_samples
            self.draw = draw_images(module, run_cfg.application.eval_batch_size, run_cfg.seed)
        else:
            self.classifier = load_classifier(run_cfg)
            self._keep(read_samples(directory / "samples" / "inverted.safetensors"))
        run_cfg.data.root, run_cfg.measure = cfg.data.root, cfg.measure
        run_cfg.measure.full = True
        return run_cfg

    def _take_file(self, cfg: DictConfig, path: Path) -> DictConfig:
        """The command's own config, without an objective: what the images were optimised for is not known."""
        cfg = cfg.copy()
        cfg.loss, cfg.measure.full = {}, True
        self.classifier = load_classifier(cfg)
        self._keep(read_samples(path))
        return cfg

    def _keep(self, images: Images) -> None:
        def first(count: int) -> Images:
            if count > len(images.labels_n):
                raise InputError(f"measure.samples={count}: there are {len(images.labels_n)} images; ask for as many or fewer")
            targets_nN = None if images.targets_nN is None else images.targets_nN[:count]
            return Images(images.images_nCHW[:count], images.labels_n[:count], targets_nN)

        self.samples, self.draw = len(images.labels_n), first


def read_samples(path: Path) -> Images:
    """Reads images from a safetensors file: `images` [n, C, H, W] in [0, 1] or uint8, `labels` [n], and as an option
    `conditioning` [n, N].

    Raises:
        InputError: if the file or one of its tensors is missing or damaged.
    """
    where = f"application.samples={path}"
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise InputError(f"{where}: there is no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{where}: is not a whole safetensors file ({one_line(error)})") from error
    for name, dims in (("images", 4), ("labels", 1)):
        if name not in tensors or tensors[name].dim() != dims:
            raise InputError(f"{where}: must hold the tensors images [n, C, H, W] and labels [n]; it holds {', '.join(tensors)}")
    images_nCHW, labels_n = tensors["images"], tensors["labels"]
    if images_nCHW.dtype == torch.uint8:
        images_nCHW = images_nCHW.float() / 255
    if not images_nCHW.is_floating_point() or labels_n.is_floating_point():
        raise InputError(
            f"{where}: images must be floating-point or uint8 and labels whole numbers, not {images_nCHW.dtype} and {labels_n.dtype}"
        )
    return Images(images_nCHW.float(), labels_n.long(), tensors.get("conditioning"))
