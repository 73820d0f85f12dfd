"""Peak memory of training steps of an inversion, each choice of keys in a process of its own.

    python -m experiments.bench.peak_memory    # writes peak_memory.csv

Two steps of ResNet-18 (torchvision, random weights, 10 classes) with 48 images of 128 pixels and
`loss=natural`. Peaks are maximum resident set sizes.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import time
from pathlib import Path

CHOICES = ((), ("application.recompute=true",))
COLUMNS = ("keys", "before_mb", "peak_mb", "cpu_seconds", "loss")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILE = Path(__file__).with_name("peak_memory.csv")


def measure(keys: list[str]) -> None:
    """Print one row of the file, measured in this process."""
    import torch
    from torchvision.models import resnet18

    import netinv_lightning
    from netinv_lightning.classifiers.frozen import FrozenClassifier
    from netinv_lightning.data.specs import DataSpec
    from netinv_lightning.inversion.build import make_module

    torch.manual_seed(0)
    spec = DataSpec("own", 10, 3, 128, MEAN, STD, tuple("abcdefghij"))
    cfg = netinv_lightning.compose(["application.batch_size=48", "loss=natural", *keys])
    module = make_module(cfg, FrozenClassifier(resnet18(num_classes=10), spec))
    module._record = lambda values_GV: None  # type: ignore[method-assign]
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.generators.start_streams(torch.device("cpu"), None)
    before, start = _peak_mb(), time.process_time()
    for _ in range(2):
        module.zero_grad()
        loss = module.training_step(None, 0)
        loss.backward()
    seconds = time.process_time() - start
    row = (" ".join(keys), before, _peak_mb(), round(seconds, 1), round(float(loss.detach()), 5))
    csv.writer(sys.stdout, lineterminator="\n").writerow(row)


def _peak_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", nargs="*", help="keys of the one row to measure in this process")
    options = parser.parse_args()
    if options.row is not None:
        measure(options.row)
        return
    rows = []
    for keys in CHOICES:
        command = [sys.executable, "-m", "experiments.bench.peak_memory", "--row", *keys]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(done.stdout)
        print(done.stdout, end="", flush=True)
    FILE.write_text(",".join(COLUMNS) + "\n" + "".join(rows))


if __name__ == "__main__":
    main()
