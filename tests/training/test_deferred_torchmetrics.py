"""Commands do not load the metrics of torchmetrics before they need them."""

from __future__ import annotations

import subprocess
import sys

import torchmetrics

from netinv_lightning.training.deferred_torchmetrics import defer_torchmetrics

COMMAND = """
import sys
import netinv_lightning.applications.invert
from netinv_lightning.metrics.accuracy import InversionAccuracy
import torchmetrics
assert issubclass(InversionAccuracy, torchmetrics.Metric)
assert torchmetrics.MetricCollection is sys.modules["torchmetrics.collections"].MetricCollection
assert torchmetrics.__version__ == sys.modules["torchmetrics.__about__"].__version__
assert not hasattr(torchmetrics, "__wrapped__")
assert "scipy" not in sys.modules
import netinv_lightning.metrics.fidelity
from torchmetrics.classification import MulticlassAccuracy
unused = {"torchmetrics.functional.text", "torchmetrics.functional.audio", "transformers"}
assert unused.isdisjoint(sys.modules)

early = torchmetrics.Metric
exec("from torchmetrics import *")  # reads another name, which loads the rest
assert torchmetrics.Metric is early and isinstance(Accuracy("binary"), early)
assert {"BLEUScore", "functional"} <= set(dir(torchmetrics))
from torch import tensor
accuracy = torchmetrics.functional.accuracy(tensor([1, 0]), tensor([1, 1]), task="binary")
print(float(accuracy), type(torchmetrics).__name__, type(torchmetrics.functional).__name__)
"""


def test_a_command_loads_no_other_metrics_until_one_is_read() -> None:
    done = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("0.5 module module\n", 0), done.stderr


def test_a_loaded_package_is_left_alone() -> None:
    before = sys.modules["torchmetrics"]
    defer_torchmetrics()
    assert sys.modules["torchmetrics"] is before is torchmetrics
