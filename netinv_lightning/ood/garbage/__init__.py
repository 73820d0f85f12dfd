"""Classifiers with a garbage class that network inversion fills (S2 section 5.2; A1-17, A4-6), and their controls.

    garbage = [Gaussian noise]
    each epoch:  classifier (N + 1 classes) <- training images and garbage, cross-entropy weighted by the counts of the classes
                 garbage <- garbage + images that a generator inverts out of the classifier as it stands

`training` is the loop, `source` where its garbage comes from, `extended` the class more.
"""

from netinv_lightning.ood.garbage.training import GarbageTraining

__all__ = ["GarbageTraining"]
