"""Peak memory of commands that read many images of 64 x 64 pixels from an .npz file.

    python -m experiments.bench.data_memory                      # rows `now` of data_memory.csv
    python -m experiments.bench.data_memory --version NAME --checkout DIR    # an older version

Each row is one command: ten training steps of a classifier, two steps of an inversion of it, the
measurement of that run, and one detector of out-of-distribution images. Peaks are maximum resident
set sizes. A command may allocate `LIMIT` bytes; one that needs more fails.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

COUNTS = (20_000, 200_000)
SHAPE, CLASSES, PART = (3, 64, 64), 10, 5000
LIMIT = 8 * 2**30
COLUMNS = ("version", "images", "file_mb", "application", "outcome", "peak_mb", "seconds")
FILE = Path(__file__).with_name("data_memory.csv")
PEAK = (
    "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=2); "
    "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
)
"""Program that runs a command, and prints its exit status and its peak in MB."""


def write_images(folder: Path, count: int) -> Path:
    """Write random images, a part at a time."""
    random = np.random.default_rng(0)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.uint8, (count, *SHAPE))
    for start in range(0, count, PART):
        X[start : start + PART] = random.integers(0, 256, X[start : start + PART].shape, np.uint8)
    path = folder / "images.npz"
    np.savez(path, X=X, y=np.arange(count) % CLASSES)
    (folder / "X.npy").unlink()
    return path


def commands(path: Path) -> dict[str, list[str]]:
    """Return the arguments of each command; later ones use the files of earlier ones."""
    data = ["data=npz", f"data.path={path}"]
    classifier = ["classifier=checkpoint", "classifier.path=classifier.safetensors"]
    few = [f"+trainer.limit_{split}_batches=10" for split in ("train", "val", "test")]
    return {
        "train_classifier": [
            *data, "classifier=mlp", "recipe.epochs=1", *few,
            "application.save_as=classifier.safetensors",
        ],
        "invert": [
            *data, *classifier, "application.steps=2", "application.eval_samples=100",
            "measure.full=false", "interpret.full=false",
        ],
        "measure": ["application.run=runs/latest", "measure.samples=500", *data],
        "detect_ood": [
            *data, *classifier, "application.detectors=[msp]", "garbage=[]",
            "application.outliers=[gaussian_noise]", "application.samples=500",
        ],
    }  # fmt: skip


def run(arguments: list[str], folder: Path, checkout: Path) -> tuple[str, int, float]:
    """Return the outcome, the peak in MB and the seconds of a command."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PEAK, sys.executable, "-m", "netinv_lightning.run", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT)),
    )
    status, peak = (int(word) for word in done.stdout.split()[-2:])
    if status and "memory" not in done.stderr:
        raise RuntimeError(done.stderr[-2000:])
    outcome = f"more than {LIMIT >> 30} GB" if status else "done"
    return outcome, peak, round(time.perf_counter() - start, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", default="now", help="name of the rows")
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parents[2])
    options = parser.parse_args()
    rows = []
    if FILE.is_file():
        with FILE.open(newline="") as file:
            rows = [row for row in list(csv.reader(file))[1:] if row[0] != options.version]
    for count in COUNTS:
        with TemporaryDirectory() as folder:
            path = write_images(Path(folder), count)
            size = path.stat().st_size // 10**6
            for application, arguments in commands(path).items():
                words = [f"application={application}", *arguments]
                outcome = run(words, Path(folder), options.checkout.resolve())
                rows.append(
                    [options.version, str(count), str(size), application, *map(str, outcome)]
                )
                print(*rows[-1], flush=True)
                if outcome[0] != "done":
                    break  # the later commands need its files
    with FILE.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
