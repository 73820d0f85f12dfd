"""Out-of-distribution detection with post-hoc detectors and classifiers with a garbage class.

Suhail, Tang and Sethi 2024 (arXiv 2411.17777, section 5.2). `detectors` has one file per detector,
`garbage` trains classifiers with a garbage class, `comparison` evaluates all of them, and
`perturbation_study` tests whether detectors notice perturbed images.
"""
