"""Classifiers with a garbage class filled by network inversion, and their baselines.

Suhail, Tang and Sethi 2024 (arXiv 2411.17777, section 5.2):

    garbage = Gaussian noise
    each epoch:
        train the classifier (N + 1 classes) on training images and garbage, weighted by class count
        add images to the garbage that a generator inverts from the current classifier

`build` makes the training from a config, `garbage_training` runs it, `garbage_module` trains the
classifier, `garbage_sources` provides the garbage, `extended_network` adds the garbage class.
"""
