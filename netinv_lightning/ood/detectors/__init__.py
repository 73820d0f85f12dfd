"""Post-hoc detectors: from a trained classifier as it is to one number an image, higher = more out-of-distribution (A5).

    known = gather(classifier, training_images, training_labels, validation_images, seed=0)
    detector = fit("knn", known)
    scores_n = detector.score(images_nCHW)

Nothing here sees an image of a test split: what is tuned is tuned on validation images against stand-ins for outliers. The slides'
SMOOD is `msp`, their LC `lc`, their OODL `oodl` (A5-1 to A5-4); sources beside those named with each: the slides' two references,
"Network Inversion and Applications Thereof" and "Out of Distribution Detection Based on Deep Learning: A Review" (A5-9).

Of the slides' kinds (A5-6), as we sort them: scores of the logits, `lc`, `odin` and `oodl` are model-based; `mahalanobis`, `knn` and
`vim` distance-based; `gmm` is density-based; `autoencoder` is their semi-supervised and `cluster` their unsupervised kind.
`uncertainty` is the estimate of the authors' later paper (arXiv 2505.23448).

AUROC of 1,000 MNIST test images, fitted on 4,000 training images, one seed. `odin` and `oodl` are tuned on noise of the same kinds.
`uncertainty`, `gmm`, `cluster` and `autoencoder` met another draw of noise; on it msp, energy, lc, mahalanobis, knn and vim differ from
the table by at most 0.002.

                 mnist_cnn: uniform  Gaussian  FashionMNIST     mnist_mlp: uniform  Gaussian  FashionMNIST
    msp                      0.000     0.000         0.790                  0.996     0.995         0.953
    max_logit                0.000     0.000         0.705                  0.989     0.988         0.896
    energy                   0.000     0.000         0.689                  0.966     0.968         0.853
    gen                      0.000     0.000         0.745                  0.977     0.978         0.887
    uncertainty              0.000     0.000         0.789                  0.996     0.996         0.952
    odin                     0.000     0.000         0.739                  0.997     0.997         0.955
    lc                       0.000     0.000         0.690                  0.992     0.991         0.884
    mahalanobis              1.000     1.000         0.999                  1.000     1.000         0.995
    knn                      0.959     0.956         0.989                  0.999     0.999         0.982
    vim                      1.000     1.000         0.998                  1.000     1.000         0.992
    gmm                      1.000     1.000         0.998                  1.000     1.000         0.991
    cluster                  1.000     1.000         0.988                  0.999     0.998         0.987
    autoencoder              1.000     1.000         0.994                  1.000     1.000         0.994
    oodl                     1.000     1.000         0.963                  1.000     1.000         0.950

The zeros are no flipped sign: mnist_cnn takes all noise for the digit 8, more confidently than any digit, and so does mnist_resnet.

The published scores come from pytorch-ood (0.4.0 of 2026-10-05, six releases in 2026, Apache-2.0; all that it needs, torch,
torchvision, scipy, numpy and scikit-learn, is here anyway): MSP, MaxLogit, Energy, GEN, ODIN, KNN and ViM. Own code is the rest: it
has no linear classifier, no layer search and no autoencoder, its GMM has one full covariance a class (`Mixture` tells why ours are
diagonal), and its Mahalanobis inverts the covariance in float32, which fails where features depend on one another or are more than
the images (its issues 8 and 81).
"""

from netinv_lightning.classifiers.features import Seen, look
from netinv_lightning.ood.detectors.detector import DETECTORS, Detector, fit, score_all
from netinv_lightning.ood.detectors.known import Known, gather, noise

__all__ = ["DETECTORS", "Detector", "Known", "Seen", "fit", "gather", "look", "noise", "score_all"]
