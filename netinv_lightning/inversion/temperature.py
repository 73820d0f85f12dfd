"""The default temperature of the conditioning vectors, for any number of classes.

A conditioning vector is the softmax of N normal draws divided by a temperature t. At a fixed
temperature the largest entry decreases with N, until it no longer identifies the label. At
temperature 1 it is about 0.29 for 10 classes and 0.07 for 100. The default temperature keeps the
largest entry at its value for 10 classes.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

CLASSES = 10
"""The default temperature is 1 for up to this many classes."""
STEPS = 60
"""Number of bisections, after which a temperature is exact to the last digit."""


def typical_largest_share(num_classes: int, temperature: float) -> float:
    """Return the typical (about the median) largest entry of a conditioning vector, 1/N to 1.

        p = 1 / (1 + (N - 1) E[exp((x - a) / t) | x < a])
          = 1 / (1 + (N - 1) exp(1 / (2 t^2) - a / t) Phi(a - 1 / t) / Phi(a))

    a is the median of the largest of N normal draws, Phi(a)^N = 1/2, and x another draw, which is
    smaller.

    Args:
        num_classes: N, 2 or more.
        temperature: t, above 0.
    """
    normal, inverse = NormalDist(), 1 / temperature
    a = normal.inv_cdf(0.5 ** (1 / num_classes))
    below = normal.cdf(a - inverse) / normal.cdf(a)
    others = (num_classes - 1) * math.exp(inverse * inverse / 2 - a * inverse) * below
    return 1 / (1 + others)


@cache
def default_temperature(num_classes: int) -> float:
    """Return the temperature at which the typical largest entry is that of 10 classes at 1.

    It is 1 for up to 10 classes, 0.410 for 100 and 0.288 for 1000.
    """
    if num_classes <= CLASSES:
        return 1.0
    wanted = typical_largest_share(CLASSES, 1.0)
    low, high = 0.1, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if typical_largest_share(num_classes, middle) > wanted:
            low = middle
        else:
            high = middle
    return high
