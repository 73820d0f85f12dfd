"""`method=evolution`: inversion of a black box by an evolution strategy, from its outputs alone.

    c_k ~ N(m, s^2 C), k = 1, ..., P -> image = sigmoid(low frequencies of c_k) -> views
        -> black box -> fitness_k = D_KL(target || scores) + w sum_j sh(d(image, image_j))^2
        -> ranks of the fitness -> m, s, C

Evolutionary inversion finds inputs by a population instead of a gradient (Jensen et al. 1999,
"Inversion of feedforward neural networks", Proceedings of the IEEE 87(9)). Three things differ from
their algorithm. CMA-ES with a diagonal covariance (Hansen 2016, arXiv:1604.00772; library `cma`)
replaces their mutation and selection. It searches the lowest frequencies of the discrete cosine
transform instead of all pixels. Each requested image has a population of its own. All populations
advance together, and niching keeps those of one class apart: sh(d) = max(0, 1 - d / r) is the
sharing function of Goldberg and Richardson (1987, "Genetic algorithms with sharing for multimodal
function optimization"), d the root mean square difference to the mean image of another population.

With labels only, the fitness is the share of noisy copies of a candidate that do not get the
requested label, so that populations move away from the decision boundary, as in boundary repulsion
(Kahla et al. 2022, arXiv:2203.01925, which needs a generator trained on public images). Populations
start at random images that have the requested label; random images of all populations are shared.

Shape suffixes: B batch, P population, K coefficients, N classes, C channels, H height, W width,
n images, D pixels of an image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.rules import NOT_NEGATIVE, POSITIVE, Count, Names
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.augmentation import Augmentation
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cosine_basis import CosineBasis
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.label_sets import sets_agree
from netinv_lightning.inversion.methods.batchwise import BatchwiseInversion
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.training.distributed import Stream

PART_PIXELS = 1 << 24
"""Pixels of the images that are in memory at once."""
CONTRASTS = (0.5, 1.0, 2.0, 4.0)
"""Factors of `init_std` for the random images that populations start from, with labels only."""


class EvolutionInversion(BatchwiseInversion):
    """Evolves a population for each image, from the scores or labels of the classifier alone.

    Args:
        conditioning: Draws the conditions of each batch.
        classifier: The black box. Its outputs are used, but no gradients, layers or weights.
        augmentation: Random views of the candidates, which the classifier sees.
        log_every: Generations between two reports.
        micro_batch: Images that the classifier processes at once; None for as many as fit.
        steps: Generations of each population.
        population: Candidates per generation; null for 4 + 3 ln(coefficients).
        basis: `dct` (low frequencies) or `pixel` (one coefficient per pixel). Tables have one
            coefficient per feature.
        frequencies: Frequencies per side of the basis `dct`.
        init_std: Standard deviation of the first means of the populations, before the sigmoid.
        sigma: First step size: standard deviation of a population, before the sigmoid.
        niche: Weight w of the penalty for images that are close to others of their class.
        niche_distance: Root mean square difference r without penalty, in units of the pixel range.
        access: `scores` or `labels`; null for what the classifier returns. With `labels` only the
            predicted labels of a classifier that returns scores are used.
        copies: With labels, the noisy copies of each candidate.
        copy_std: With labels, standard deviation of the noise of the copies, before the sigmoid.
        starts: With labels, the random images per batch among which the populations start.

    Raises:
        InputError: if scores are requested of a classifier that returns labels.
        ValueError: if a value is out of range. The message starts with `<argument>=<value>:`.
    """

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        augmentation: Augmentation | None = None,
        log_every: int = 10,
        micro_batch: int | None = None,
        *,
        steps: Annotated[int, Count(1, 1_000_000)] = 60,
        population: Annotated[int | None, Count(4, 65_536)] = None,
        basis: Annotated[str, Names(("dct", "pixel"))] = "dct",
        frequencies: Annotated[int, Count(1, 4096)] = 8,
        init_std: Annotated[float, NOT_NEGATIVE] = 1.0,
        sigma: Annotated[float, POSITIVE] = 0.5,
        niche: Annotated[float, NOT_NEGATIVE] = 1.0,
        niche_distance: Annotated[float, POSITIVE] = 0.2,
        access: Annotated[str | None, Names(("scores", "labels"))] = None,
        copies: Annotated[int, Count(1, 10_000)] = 5,
        copy_std: Annotated[float, NOT_NEGATIVE] = 0.5,
        starts: Annotated[int, Count(1, 10_000_000)] = 5000,
    ) -> None:
        if access == "scores" and classifier.access == "labels":
            raise InputError(
                "method.access=scores: this classifier returns labels only. Leave it out, or set "
                "method.access=labels"
            )
        self.access = access or ("labels" if classifier.access == "labels" else "scores")
        # The objective only provides the names for logging.
        super().__init__(
            conditioning, classifier.limited_to(self.access), Objective({"kl": {"weight": 1.0}}),
            steps=steps, lr=1.0, init_std=init_std, log_every=log_every,
        )  # fmt: skip
        self.basis = CosineBasis(classifier, frequencies if basis == "dct" else None)
        self.augmentation, self.micro_batch = augmentation or Augmentation(), micro_batch
        self.population, self.sigma = population, sigma
        self.niche, self.niche_distance = niche, niche_distance
        self.copies, self.copy_std, self.starts = copies, copy_std, starts

    @torch.no_grad()
    def _optimise(self, condition: Condition, seed: int, meter: CostMeter) -> Tensor:
        B, stream = len(condition.label_B), Stream(seed, self.device)
        strategies = self._strategies(self._first_means(condition, stream), seed)
        record = self._start_recording(B, meter)
        for step in range(1, self.steps + 1):
            c_BPK = np.stack([strategy.ask() for strategy in strategies])
            loss_BP, agree_BP = self._judge(self._tensor(c_BPK), condition, stream)
            fitness_BP = loss_BP + self._closeness(self._tensor(c_BPK), strategies, condition)
            for strategy, c_PK, fitness_P in zip(
                strategies, c_BPK, fitness_BP.tolist(), strict=True
            ):
                strategy.tell(c_PK, fitness_P)
            record(step, torch.stack([loss_BP.mean(), loss_BP.mean(), agree_BP.mean()]))
        return torch.cat([*self._images(self._means(strategies))])

    def _strategies(self, mean_BK: Tensor, seed: int) -> list[Any]:
        """Return a CMA-ES for each image; NumPy's global random state is not used."""
        import cma  # an extra, which only this method needs

        source = np.random.RandomState(seed % 2**32)
        options = {
            "CMA_diagonal": True, "popsize": self.population, "randn": source.randn,
            "seed": np.nan, "verbose": -9,
        }  # fmt: skip
        if self.population is None:
            del options["popsize"]
        return [
            cma.CMAEvolutionStrategy(mean_K, self.sigma, dict(options))
            for mean_K in mean_BK.double().cpu().numpy()
        ]

    def _first_means(self, condition: Condition, stream: Stream) -> Tensor:
        """Return random means [B, K]; with labels, those of images with the requested labels."""
        B, K = len(condition.label_B), self.basis.dimensions
        if self.access == "scores":
            return self.init_std * stream.normal(B, K)
        contrast_n1 = torch.tensor(CONTRASTS, device=self.device).repeat(self.starts)
        c_nK = contrast_n1[: self.starts, None] * self.init_std * stream.normal(self.starts, K)
        label_nN = torch.cat([self.classifier(x_nCHW) for x_nCHW in self._images(c_nK)])
        target_BN = self._label_rows(condition)
        # Each population starts at one of the images that agree with most of its labels.
        agree_Bn = -torch.cdist(target_BN, label_nN, p=1) + 0.5 * stream.uniform(B, self.starts)
        return c_nK[agree_Bn.argmax(dim=1)]

    def _label_rows(self, condition: Condition) -> Tensor:
        """Return the requested labels as zeros and ones, [B, N]."""
        if self.classifier.multi_label:
            return condition.target_BN
        return F.one_hot(condition.label_B, self.classifier.spec.num_classes).float()

    def _judge(self, c_BPK: Tensor, condition: Condition, stream: Stream) -> tuple[Tensor, Tensor]:
        """Return the loss of each candidate, and whether it agrees with its condition, [B, P]."""
        B, P, K = c_BPK.shape
        copies = self.copies if self.access == "labels" else 1
        noisy_BPVK = c_BPK[:, :, None].expand(-1, -1, copies, -1)
        if self.access == "labels":
            noisy_BPVK = noisy_BPVK + self.copy_std * stream.normal(B, P, copies, K)
        losses, agree = [], []
        row_n = torch.arange(B, device=self.device).repeat_interleave(P * copies)
        first = 0
        for x_nCHW in self._images(noisy_BPVK.flatten(0, 2)):
            rows = row_n[first : first + len(x_nCHW)]
            first += len(x_nCHW)
            logits_nN = self.classifier(self.augmentation(x_nCHW, stream)).float()
            agree.append(self._agrees(logits_nN, condition, rows))
            losses.append(
                1 - agree[-1]
                if self.access == "labels"
                else self._divergence(logits_nN, condition.target_BN[rows])
            )
        loss_BPV, agree_BPV = (torch.cat(parts).view(B, P, copies) for parts in (losses, agree))
        return loss_BPV.mean(dim=2), agree_BPV.mean(dim=2)

    def _divergence(self, logits_nN: Tensor, target_nN: Tensor) -> Tensor:
        """Return D_KL(target || scores) of each image, [n]; the sum over labels, if they are many.

        It is that of the term `kl` of the objective, for each image.
        """
        if self.classifier.multi_label:
            return F.binary_cross_entropy_with_logits(logits_nN, target_nN, reduction="none").sum(
                dim=1
            )
        return F.kl_div(logits_nN.log_softmax(dim=1), target_nN, reduction="none").sum(dim=1)

    def _agrees(self, logits_nN: Tensor, condition: Condition, rows: Tensor) -> Tensor:
        """Return 1 for each image that the classifier assigns to its class or set, else 0, [n]."""
        if self.classifier.multi_label:
            return sets_agree(logits_nN, condition.target_BN[rows]).float()
        return (logits_nN.argmax(dim=1) == condition.label_B[rows]).float()

    def _closeness(self, c_BPK: Tensor, strategies: list[Any], condition: Condition) -> Tensor:
        """Return the penalty of each candidate for other populations of its class, [B, P]."""
        B, P, _ = c_BPK.shape
        same_BB = (condition.label_B[:, None] == condition.label_B).float().fill_diagonal_(0)
        if not self.niche or not bool(same_BB.any()):
            return torch.zeros(B, P, device=self.device)
        mean_BD = torch.cat([*self._images(self._means(strategies))]).flatten(1)
        row_n = torch.arange(B, device=self.device).repeat_interleave(P)
        shared, first = [], 0
        for x_nCHW in self._images(c_BPK.flatten(0, 1)):
            distance_nB = torch.cdist(x_nCHW.flatten(1), mean_BD) / mean_BD.shape[1] ** 0.5
            sharing_nB = F.relu(1 - distance_nB / self.niche_distance).square()
            rows = row_n[first : first + len(x_nCHW)]
            first += len(x_nCHW)
            shared.append((sharing_nB * same_BB[rows]).sum(dim=1))
        return self.niche * torch.cat(shared).view(B, P)

    def _images(self, c_nK: Tensor) -> Iterator[Tensor]:
        """Yield the images of coefficients, in parts that fit into memory."""
        pixels = math.prod(self.classifier.spec.shape)
        at_once = max(1, min(self.micro_batch or len(c_nK), PART_PIXELS // pixels))
        for part_nK in c_nK.split(at_once):
            yield self.basis(part_nK)

    def _means(self, strategies: list[Any]) -> Tensor:
        return self._tensor(np.stack([strategy.mean for strategy in strategies]))

    def _tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(array).float().to(self.device)
