"""All metrics of one set of images, against the classifier that they invert, networks that it never saw, and real images.

Real training images are what distributions are compared with, in the features of the verifiers: those of the classifier under
attack favour adversarial images. Real test images judge the verifiers (the ceiling of transfer) and, one half of them, the
classifier that is trained on generated images (CAS); the other half may be measured itself, as a control.
Each network sees each image once.

Shape suffixes: B batch, n images, C channels, H height, W width, N classes, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from netinv_lightning import metric_names as names
from netinv_lightning.classifiers.features import BATCH, FeatureSet, extract_features
from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.networks import CNN
from netinv_lightning.data.datamodule import ImageDataModule
from netinv_lightning.errors import InputError, nearest
from netinv_lightning.evaluation.image_sets import (
    Images,
    check_images,
    check_real,
    halves_of_test,
    of_split,
)
from netinv_lightning.metrics.accuracy import InversionAccuracy
from netinv_lightning.metrics.cas import ClassificationAccuracyScore
from netinv_lightning.metrics.diversity import ClassCosine, Duplicates, Vendi
from netinv_lightning.metrics.fidelity import (
    ClassLPIPS,
    TwoSample,
    frechet_distance,
    kernel_distance,
    lpips_missing,
)
from netinv_lightning.metrics.manifold import NEIGHBOURS, Manifold
from netinv_lightning.metrics.stability import Stability
from netinv_lightning.training.seeds import random_order

ALL = ("accuracy", "stability", "transfer", "diversity", "manifold", "fid", "lpips", "c2st", "cas")
"""Groups of metrics by name."""
STABILITY_IMAGES = 2000
LPIPS_IMAGES = 1000
MANIFOLD_IMAGES = 10_000
REAL_IMAGES = 10_000
"""At most so many real images are taken of each split, each class by its share."""
VENDI_FEATURES, VENDI_ENTRIES = 2048, 2**26
"""Most features, and most entries of the matrices of all classes, for which the Vendi score is computed."""
COMPARED = ("transfer", "manifold", "fid", "c2st")
"""Groups that need verifiers."""
MANIFOLD_NAMES = {
    "precision": names.PRECISION,
    "density": names.DENSITY,
    "recall": names.RECALL,
    "coverage": names.COVERAGE,
}
NO_REAL_IMAGES = "no real images: set data.root (or NETINV_DATA) to the folder that holds them"
NO_TEST_IMAGES = (
    "no real test images: name them with data.test_path, or hold some out with data.val_fraction"
)


class Measurement:
    """Measures sets of images: `measurement(images)` gives metric names (`netinv_lightning.metric_names`) and numbers.

    What cannot be measured is left out, and `skipped` tells why: a group of metrics by its name in `metrics`, and after a
    measurement also single metrics by theirs. It measures whole sets, and so talks to no other process.

    Args:
        classifier: The classifier under attack.
        verifiers: Networks that it was not trained with and that the images were not made from, by name.
        real: The real images; None where they are not at hand.
        metrics: Groups of metrics, of `ALL`.
        seed: Of every random choice.

    Raises:
        InputError: if a group has no such name, a verifier is the classifier under attack, or shapes do not fit together.
    """

    def __init__(
        self,
        classifier: FrozenClassifier,
        verifiers: Mapping[str, FrozenClassifier],
        real: ImageDataModule | None,
        metrics: Sequence[str] = ALL,
        seed: int = 0,
    ) -> None:
        self.classifier, self.real, self.seed = classifier, real, seed
        self.device = classifier.mean_C11.device
        for name, verifier in verifiers.items():
            _check_verifier(name, verifier, classifier)
        self.verifiers = {name: verifier.to(self.device) for name, verifier in verifiers.items()}
        if real is not None:
            check_real(real, classifier.spec)
        for group in metrics:
            if group not in ALL:
                raise InputError(
                    f"measure.metrics={group}: no such group of metrics; {nearest(group, ALL)}"
                )
        self._always_skipped = {
            group: reason for group in metrics if (reason := self._reason_to_skip(group))
        }
        self.groups = tuple(
            group for group in ALL if group in metrics and group not in self._always_skipped
        )
        if "transfer" in self.groups and not self._has_test:
            self._always_skipped[names.TRANSFER_CEILING] = (
                NO_TEST_IMAGES if real is not None else NO_REAL_IMAGES
            )
        if "diversity" in self.groups:
            self._always_skipped |= self._vendi_skipped()
        self.skipped = dict(self._always_skipped)

    @property
    def minimum(self) -> int:
        """The least number of images that all chosen metrics can be computed from."""
        return max((self._minimum_of(group) for group in self.groups), default=1)

    @torch.no_grad()
    def __call__(self, images: Images) -> dict[str, float]:
        """Measures a set.

        Raises:
            InputError: if there are too few images, or they are not images of the classifier's shape in [0, 1].
        """
        self.check(images)
        images = images.to(self.device)
        seen = {name: self._features(network, images) for name, network in self._networks().items()}
        values: dict[str, float] = {}
        for group in self.groups:
            values |= self._measured(group)(images, seen)
        undefined = {
            name: "has no value for these images"
            for name, value in values.items()
            if not math.isfinite(value)
        }
        self.skipped = self._always_skipped | undefined
        return {name: value for name, value in values.items() if name not in undefined}

    def check(self, images: Images) -> None:
        """Refuses what cannot be measured.

        Raises:
            InputError: if there are too few images, or they are not images of the classifier's shape in [0, 1].
        """
        if (n := len(images.labels_n)) < self.minimum:
            group = max(self.groups, key=self._minimum_of)
            raise InputError(
                f"samples={n}: too few images, measure.metrics={group} needs {self.minimum} or more; give more, or leave {group} out"
            )
        check_images(images, self.classifier.spec)

    # Groups of metrics

    def _measured(self, group: str) -> Callable[[Images, dict[str, FeatureSet]], dict[str, float]]:
        measured: Callable[[Images, dict[str, FeatureSet]], dict[str, float]] = getattr(
            self, f"_{group}"
        )
        return measured

    def _accuracy(self, images: Images, seen: dict[str, FeatureSet]) -> dict[str, float]:
        value = self._agreement(images, seen[""].logits_nN)
        confusion_NN = value["confusion_NN"].double()
        per_class_N = confusion_NN.diagonal() / confusion_NN.sum(dim=1)
        return {
            names.INVERSION_ACCURACY: float(value["accuracy"]),
            names.INVERSION_CONFIDENCE: float(value["confidence"]),
            names.INVERSION_MARGIN: float(value["margin"]),
            names.INVERSION_KL: float(value["kl"]),
            **{
                names.class_accuracy(label): float(a)
                for label, a in zip(self.classifier.spec.class_names, per_class_N, strict=True)
            },
        }

    def _stability(self, images: Images, seen: dict[str, FeatureSet]) -> dict[str, float]:
        chosen_m = self._choice(len(images.labels_n), STABILITY_IMAGES)
        metric = self._metric(Stability, seed=self.seed)
        for part_B in chosen_m.split(BATCH):
            metric.update(
                _fast(images.images_nCHW[part_B]), images.labels_n[part_B], self.classifier
            )
        return {
            names.stability(disturbance): float(value)
            for disturbance, value in metric.compute().items()
        }

    def _transfer(self, images: Images, seen: dict[str, FeatureSet]) -> dict[str, float]:
        reached = {
            name: float(self._agreement(images, seen[name].logits_nN)["accuracy"])
            for name in self.verifiers
        }
        return _with_mean(names.TRANSFER_ACCURACY, reached) | _with_mean(
            names.TRANSFER_CEILING, self._ceiling
        )

    def _diversity(self, images: Images, seen: dict[str, FeatureSet]) -> dict[str, float]:
        duplicates = self._metric(Duplicates)
        duplicates.update(images.images_nCHW, images.labels_n)
        values = {names.DUPLICATES: float(duplicates.compute())}
        for network, of in seen.items():
            for name, value in self._alikeness(of.features_nD, images.labels_n).items():
                values[names.of_network(name, network) if network else name] = value
        return values

    def _alikeness(self, f_nD: Tensor, label_n: Tensor) -> dict[str, float]:
        N, D = self.classifier.spec.num_classes, f_nD.shape[1]
        cosine = self._metric(ClassCosine, N, D)
        cosine.update(f_nD, label_n)
        computed = cosine.compute()
        values = {
            names.INTRA_CLASS_COSINE: float(computed["intra"]),
            names.INTER_CLASS_COSINE: float(computed["inter"]),
        }
        if D > VENDI_FEATURES:
            return values
        of_classes = N * (D + 1) ** 2 <= VENDI_ENTRIES
        vendi = self._metric(Vendi, N if of_classes else 1, D)
        vendi.update(f_nD, label_n if of_classes else torch.zeros_like(label_n))
        computed = vendi.compute()
        values[names.VENDI] = float(computed["pooled"])
        return values | ({names.VENDI_CLASS: float(computed["class_mean"])} if of_classes else {})

    def _vendi_skipped(self) -> dict[str, str]:
        """Scores whose matrices would be too large."""
        skipped, N = {}, self.classifier.spec.num_classes
        for network, of in self._networks().items():
            D = of.feature_dims[of.feature_layers[-1]]
            too_large = {
                names.VENDI: D > VENDI_FEATURES,
                names.VENDI_CLASS: D > VENDI_FEATURES or N * (D + 1) ** 2 > VENDI_ENTRIES,
            }
            for name in (name for name, is_so in too_large.items() if is_so):
                skipped[names.of_network(name, network) if network else name] = (
                    f"{D} features and {N} classes are too many for it"
                )
        return skipped

    def _manifold(self, images: Images, seen: dict[str, FeatureSet]) -> dict[str, float]:
        values = {}
        chosen_m = self._choice(len(images.labels_n), MANIFOLD_IMAGES)
        for verifier, metric in self._manifolds.items():
            metric.reset()
            metric.update(seen[verifier].features_nD[chosen_m])
            computed = metric.compute()
            for key, name in MANIFOLD_NAMES.items():
                values[names.of_network(name, verifier)] = float(computed[key])
        return values

    def _fid(self, images: Images, seen: dict[str, FeatureSet]) -> dict[str, float]:
        values = {}
        for verifier, real_mD in self._reference.items():
            f_nD = seen[verifier].features_nD
            fid = frechet_distance(real_mD, sync_on_compute=False)
            fid.update(f_nD.double(), real=False)
            kid = kernel_distance(real_mD, len(f_nD), self.seed, sync_on_compute=False)
            kid.update(f_nD, real=False)
            values[names.of_network(names.FID, verifier)] = float(fid.compute())
            values[names.of_network(names.KID, verifier)] = float(kid.compute()[0])
        return values

    def _lpips(self, images: Images, seen: dict[str, FeatureSet]) -> dict[str, float]:
        chosen_m = self._choice(len(images.labels_n), LPIPS_IMAGES)
        metric = self._metric(ClassLPIPS)
        metric.update(images.images_nCHW[chosen_m], images.labels_n[chosen_m])
        return {names.LPIPS: float(metric.compute())}

    def _c2st(self, images: Images, seen: dict[str, FeatureSet]) -> dict[str, float]:
        values = {}
        for verifier, real_mD in self._reference.items():
            metric = self._metric(TwoSample, real_mD, self.seed)
            metric.update(seen[verifier].features_nD)
            values[names.of_network(names.C2ST, verifier)] = float(metric.compute())
        return values

    def _cas(self, images: Images, seen: dict[str, FeatureSet]) -> dict[str, float]:
        spec, judges = self.classifier.spec, self._judges
        make_network = partial(
            CNN,
            spec.num_classes,
            spec.channels,
            spec.image_size,
            stages=((16,), (32,), (64,)),
            hidden=64,
        )
        metric = self._metric(
            ClassificationAccuracyScore,
            make_network,
            judges.images_nCHW,
            judges.labels_n,
            self.seed,
        )
        chosen_m = self._choice(len(images.labels_n), REAL_IMAGES)
        metric.update(images.images_nCHW[chosen_m], images.labels_n[chosen_m])
        return {names.CAS: float(metric.compute())}

    # What they are made of

    def _metric(self, make: Callable[..., Metric], *args: Any, **keywords: Any) -> Metric:
        return make(*args, **keywords, sync_on_compute=False).to(self.device)

    def _agreement(self, images: Images, logits_nN: Tensor) -> dict[str, Tensor]:
        N = self.classifier.spec.num_classes
        targets_nN = (
            F.one_hot(images.labels_n, N) if images.targets_nN is None else images.targets_nN
        )
        metric = self._metric(InversionAccuracy, num_classes=N)
        metric.update(logits_nN, images.labels_n, targets_nN)
        computed: dict[str, Tensor] = metric.compute()
        return computed

    def _networks(self) -> dict[str, FrozenClassifier]:
        """The networks whose logits or features the chosen groups need; the classifier under attack has no name."""
        needs = set(self.groups)
        attacked = {"": self.classifier} if needs & {"accuracy", "diversity"} else {}
        return attacked | (self.verifiers if needs & {*COMPARED, "diversity"} else {})

    def _features(self, network: FrozenClassifier, images: Images) -> FeatureSet:
        layer = network.feature_layers[-1]
        return extract_features(network, images.images_nCHW, layer=layer, device=self.device)

    def _choice(self, n: int, most: int) -> Tensor:
        """All of n images in a random order, or `most` of them."""
        return random_order(n, self.seed)[:most].to(self.device)

    @cached_property
    def _ceiling(self) -> dict[str, float]:
        """Share of the real test images that each verifier labels as they are labelled."""
        if not self._has_test:
            return {}
        assert self.real is not None
        test = of_split(self.real.test, REAL_IMAGES, self.seed).to(self.device)
        logits = {
            name: self._features(verifier, test).logits_nN
            for name, verifier in self.verifiers.items()
        }
        return {
            name: float(self._agreement(test, logits_nN)["accuracy"])
            for name, logits_nN in logits.items()
        }

    @cached_property
    def _judges(self) -> Images:
        """The half of the real test images that judges what was trained on generated ones."""
        assert self.real is not None
        half, _ = halves_of_test(self.real)
        return of_split(half, REAL_IMAGES, self.seed).to(self.device)

    @cached_property
    def _reference(self) -> dict[str, Tensor]:
        """Each verifier's features of real training images, [m, D]."""
        assert self.real is not None
        train = of_split(self.real.train, REAL_IMAGES, self.seed).to(self.device)
        return {
            name: self._features(verifier, train).features_nD
            for name, verifier in self.verifiers.items()
        }

    @cached_property
    def _manifolds(self) -> dict[str, Metric]:
        return {name: self._metric(Manifold, real_mD) for name, real_mD in self._reference.items()}

    @property
    def _has_test(self) -> bool:
        return self.real is not None and len(self.real.test[1]) > 1

    # What they need

    def _reason_to_skip(self, group: str) -> str | None:
        """Why a group cannot be measured, whatever the images are."""
        if group in COMPARED and not self.verifiers:
            return (
                "no verifiers: name networks that the inversion never saw in application.verifiers"
            )
        if group in ("manifold", "fid", "c2st", "cas"):
            if self.real is None:
                return NO_REAL_IMAGES
            if group == "cas":
                return None if self._has_test else NO_TEST_IMAGES
            if (there := len(self.real.train[1])) < (needed := self._minimum_of(group)):
                return f"only {there} real training images, {needed} are needed"
        return lpips_missing() if group == "lpips" else None

    def _minimum_of(self, group: str) -> int:
        """Images that a group needs: pairs, k + 1 for k neighbours, more than features for a covariance of full rank."""
        dims = [
            verifier.feature_dims[verifier.feature_layers[-1]]
            for verifier in self.verifiers.values()
        ]
        least = {
            "diversity": 2,
            "lpips": 2,
            "manifold": NEIGHBOURS + 1,
            "fid": max(dims, default=0) + 1,
            "c2st": 20,
        }
        return self.classifier.spec.num_classes if group == "cas" else least.get(group, 1)


def _fast(x_BCHW: Tensor) -> Tensor:
    """In the memory order in which convolutions are fastest."""
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def _with_mean(name: str, by_network: dict[str, float]) -> dict[str, float]:
    if not by_network:
        return {}
    return {name: sum(by_network.values()) / len(by_network)} | {
        names.of_network(name, network): value for network, value in by_network.items()
    }


def _check_verifier(name: str, verifier: FrozenClassifier, classifier: FrozenClassifier) -> None:
    key, own, its = (
        f"application.verifiers={name}",
        classifier.network.state_dict(),
        verifier.network.state_dict(),
    )
    if own.keys() == its.keys() and all(
        torch.equal(own[weight].to(its[weight].device), its[weight]) for weight in own
    ):
        raise InputError(
            f"{key}: is the classifier that is inverted (the same weights); name networks that the inversion never saw"
        )
    for fact in ("num_classes", "channels", "image_size"):
        if (there := getattr(verifier.spec, fact)) != (here := getattr(classifier.spec, fact)):
            raise InputError(
                f"{key}: has {fact}={there}, the classifier that is inverted {fact}={here}; they must be equal"
            )
