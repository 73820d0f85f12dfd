"""Out-of-distribution detectors of a trained classifier.

A detector gives one score per image; a higher score means more out-of-distribution.

    fit_data = collect_fit_data(classifier, training_images, labels, validation_images, seed=0)
    detector = fit_detector("knn", fit_data)
    scores_n = detector.score(images_nCHW)

No detector uses test images: tuned detectors are tuned on validation images against noise.

Baselines and taxonomy follow the slides of Taparia, "Neural Network Inversion" (supervised research
project, IIT Bombay), section on OOD detection. Their SMOOD is `msp`, their LC is `lc`, their OODL
is `oodl`. In their taxonomy `lc`, `odin` and `oodl` are model-based; `mahalanobis`, `knn` and `vim`
distance-based; `gmm` density-based; `autoencoder` semi-supervised; `cluster` unsupervised. Each
class cites its own source.

MSP, MaxLogit, Energy, GEN, entropy, ODIN, KNN, ViM, RMD, Gram and the detectors in
`logits_detectors`, `feature_detectors` and `shaped_features` come from pytorch-ood. The other
detectors are implemented here: pytorch-ood has no linear classifier, no layer search and no
autoencoder; its GMM has full covariances (see `GMM` for why ours are diagonal); and its Mahalanobis
detector inverts the covariance in float32, which fails for dependent features or for more features
than images (its issues 8 and 81).

Measured AUROCs are in `experiments/ood`. An AUROC of 0 against noise is not a sign error: mnist_cnn
classifies noise as the digit 8, with more confidence than it has for any real digit.
"""

from netinv_lightning.classifiers.features import FeatureSet, extract_features
from netinv_lightning.ood.detectors.fit_data import FitData, collect_fit_data, tuning_noise
from netinv_lightning.ood.detectors.registry import (
    DETECTORS,
    Detector,
    extract_for,
    fit_detector,
    fit_detectors,
    score_all,
)

__all__ = [
    "DETECTORS",
    "Detector",
    "FeatureSet",
    "FitData",
    "collect_fit_data",
    "extract_features",
    "extract_for",
    "fit_detector",
    "fit_detectors",
    "score_all",
    "tuning_noise",
]
