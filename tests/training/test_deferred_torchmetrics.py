"""Commands do not load the metrics of torchmetrics before they need them."""

from __future__ import annotations

import subprocess
import sys

import torchmetrics

from netinv_lightning.training.deferred_torchmetrics import defer_torchmetrics

INVERSION = """
import sys
import netinv_lightning.applications.invert
from netinv_lightning.metrics.accuracy import InversionAccuracy
import torchmetrics
assert issubclass(InversionAccuracy, torchmetrics.Metric)
assert torchmetrics.MetricCollection is sys.modules["torchmetrics.collections"].MetricCollection
assert torchmetrics.__version__ == sys.modules["torchmetrics.__about__"].__version__
assert not hasattr(torchmetrics, "__wrapped__")
assert {"torchmetrics.functional", "scipy", "transformers"}.isdisjoint(sys.modules)

early = torchmetrics.Metric
exec("from torchmetrics import *")  # reads another name, which loads the rest
accuracy = Accuracy(task="binary")
assert torchmetrics.Metric is early and isinstance(accuracy, early)
assert {"BLEUScore", "functional"} <= set(dir(torchmetrics))
print(type(torchmetrics).__name__)
"""


def test_an_inversion_loads_no_other_metrics_until_a_name_of_them_is_read() -> None:
    done = subprocess.run([sys.executable, "-c", INVERSION], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("module\n", 0), done.stderr


def test_a_loaded_package_is_left_alone() -> None:
    before = sys.modules["torchmetrics"]
    defer_torchmetrics()
    assert sys.modules["torchmetrics"] is before is torchmetrics
