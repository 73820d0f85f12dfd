"""`netinv explore RUN`: a local page that explores a finished inversion.

    netinv explore runs/latest            serve the page at http://127.0.0.1:7860 until Ctrl-C
    netinv explore runs/latest --open     also open the browser

The port is bound before torch is loaded. The page can only be reached from this machine; it sends
no telemetry and uses no network.
"""

from __future__ import annotations

import argparse
import os
import shlex
import socket
import sys
import webbrowser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from netinv_lightning.config.allowed_targets import only_allowed
from netinv_lightning.errors import CommandParser, InputError, exit_status
from netinv_lightning.runs.signals import exit_on_sigterm

if TYPE_CHECKING:
    from netinv_lightning.explorer.callbacks import Explored

HOST = "127.0.0.1"
PORT = 7860
INVERTED = 1_000
"""Largest number of inverted images that a user's picture is compared with."""


def main(argv: Sequence[str]) -> int:
    """Run the `netinv explore` command.

    Returns:
        The exit status: 0 ended by Ctrl-C, 1 failed, 2 wrong input, 130 interrupted while loading.
    """
    try:
        arguments = _parse(argv)
        directory = Path(arguments.run)
        with only_allowed(arguments.trust), exit_on_sigterm():
            _check(directory)
            with _listening(arguments.port) as listener:
                return serve(directory, listener, arguments.open, arguments.state)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return exit_status(error)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        prog="netinv explore",
        description="Serve a local page that explores a finished inversion. Ctrl-C ends it.",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        help="run directory of a finished inversion, such as runs/latest",
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="NAME",
        help="a module or package of your own that the run's config may name",
    )
    parser.add_argument(
        "--state", default="", metavar="QUERY", help="state of the page, as its export shows it"
    )
    parser.add_argument("--open", action="store_true", help="open the browser")
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.port <= 65535:
        raise InputError(f"--port={arguments.port}: must be a port from 1 to 65535")
    return arguments


def _check(directory: Path) -> None:
    """Check that the directory is a finished inversion, before torch is imported.

    Raises:
        InputError: if it is not, or Gradio is missing.
    """
    if find_spec("gradio") is None:
        raise InputError(
            "netinv explore: gradio is not installed. "
            "Install it with pip install 'netinv_lightning[explore]'"
        )
    from netinv_lightning.config.method_schema import trains_generator
    from netinv_lightning.runs.finished_check import check_finished

    cfg = check_finished(directory, str(directory))
    if not trains_generator(cfg):
        raise InputError(
            f"{directory}: has no generator (method={cfg.method.name}). "
            "Give a run with method=generator"
        )


def _listening(port: int) -> socket.socket:
    """Bind the port.

    Raises:
        InputError: if the port is in use or not permitted.
    """
    listener = socket.socket()
    # A port is free again as soon as its page has ended.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(
            f"--port={port}: cannot be used ({error.strerror}). "
            f"Choose another port, such as --port={port % 65535 + 1}"
        ) from error
    return listener


def serve(directory: Path, listener: socket.socket, opened: bool, state: str = "") -> int:
    """Serve the page until Ctrl-C.

    Args:
        directory: The run.
        listener: The socket of the page.
        opened: Whether to open the browser.
        state: Query of the page's address.
    """
    with TemporaryDirectory() as uploads:
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": uploads,
            "HF_HUB_OFFLINE": "1",
        }  # read at import
        print(f"loading {directory}", file=sys.stderr, flush=True)
        explored = load(directory)
        import uvicorn

        from netinv_lightning.explorer.interface import application

        config = uvicorn.Config(
            application(explored, Path(uploads)), log_level="critical", timeout_graceful_shutdown=1
        )
        address = f"http://{HOST}:{listener.getsockname()[1]}{f'/?{state}' if state else ''}"
        print(f"{directory} at {address}  (Ctrl-C to stop)", flush=True)
        if opened:  # the browser waits until the server runs
            webbrowser.open(address)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            print()
    return 0


def load(directory: Path) -> Explored:
    """Load a run and the images for comparison.

    Raises:
        InputError: if its classifier is missing.
    """
    from netinv_lightning import metric_names as names
    from netinv_lightning.classifiers.spec_sources import OWN
    from netinv_lightning.evaluation.finished_run import inversion_config, load_generators
    from netinv_lightning.evaluation.image_sets import draw_images
    from netinv_lightning.explorer.callbacks import Explored
    from netinv_lightning.explorer.drawing import Drawing
    from netinv_lightning.explorer.neighbours import Neighbours, affordable, real_images
    from netinv_lightning.runs.finished_check import read_summary

    cfg = inversion_config(directory)
    module = load_generators(cfg, directory)
    assert module is not None
    classifier = module.classifier
    images, note = real_images(cfg.data, classifier.spec)
    count = affordable(classifier.spec, INVERTED)
    inverted = draw_images(module, cfg.application.eval_batch_size, cfg.seed)(count)
    modality, trained_on = classifier.spec.modality, classifier.spec.name
    summary = read_summary(directory, str(directory))
    facts = (
        directory.resolve().name,
        "own classifier" if trained_on == OWN else f"classifier trained on {trained_on}",
        f"conditioning={cfg.conditioning.mode}",
        f"inversion accuracy {summary[names.INVERSION_ACCURACY]:.3f} "
        f"(hot vectors: {summary[names.INVERSION_ACCURACY_HOT]:.3f})",
    )
    return Explored(
        title=f"{cfg.name}, seed {cfg.seed}",
        facts=", ".join(facts),
        drawing=Drawing(module),
        inverted=Neighbours(inverted, classifier, f"{count:,} inverted {modality}"),
        real=None if images is None else Neighbours(images, classifier, note),
        real_note=note,
        command=shlex.join(["netinv", "explore", str(directory.resolve())]),
    )
