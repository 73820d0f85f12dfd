"""`method=background`: a decoder trained on auxiliary images (Yang et al. 2019, arXiv 1902.08552).

    auxiliary image x -> classifier -> p -> truncated, rescaled log p = v -> decoder -> image
        -> mean squared error to x -> decoder

    v_i = max(0, 1 + log p_i / c) for the m largest p_i, else 0

The decoder is the inverse of the classifier on the auxiliary images ("background knowledge"), such
as letters for a classifier of digits. It uses data and queries only. It is an upper bound for
methods without data.

Differences from the paper:

- The paper decodes outputs for images of the attacked users. Here only a class is given. Its target
  vectors are those of the auxiliary images that the classifier assigns to this class with the
  highest confidence (`targets=outputs`), or the conditioning vector (`targets=vector`).
- The paper's public code adds c = 50 to log p and shifts the m entries, so that the smallest is at
  least 0. Here entries below exp(-c) are 0, which bounds v for any class vector.
- The layers are those of this framework's generator, without the paper's tanh.

Shape suffixes: n auxiliary images, B batch, N classes, K stored vectors per class, C channels,
H height, W width, V values of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.config.rules import BATCH, POSITIVE, STEPS, WIDTH, Count, Names
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.methods.auxiliary import AuxiliaryInversion
from netinv_lightning.inversion.methods.vector_decoder import VectorDecoder
from netinv_lightning.training.distributed import Stream

MOST_VECTORS, MOST_ENTRIES = 64, 1_000_000
"""Largest number of stored target vectors per class, and of their entries over all classes."""


class BackgroundInversion(AuxiliaryInversion):
    """Decodes output vectors of the classifier, by a decoder trained on auxiliary images.

    Args:
        conditioning: Draws the conditions.
        classifier: The network to invert; only its scores are used.
        auxiliary: Returns the auxiliary images, uint8 [n, C, H, W].
        seed: Seed of the decoder and of its batches.
        log_every: Steps between two reports.
        steps: Training steps of the decoder.
        batch_size: Images per step.
        lr: Highest learning rate of Adam; it falls along a cosine.
        width: Channels of the decoder's first layers.
        top: m, the number of largest scores that are kept; null for all.
        rescale: c; a score p becomes 1 + log(p) / c, at least 0.
        targets: `outputs`: each image decodes one of the classifier's most confident outputs for
            auxiliary images of its class; `vector`: it decodes its conditioning vector.
    """

    final_lr = 0.05

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        auxiliary: Callable[[], Tensor],
        seed: int,
        log_every: int,
        *,
        steps: Annotated[int, STEPS] = 600,
        batch_size: Annotated[int, BATCH] = 64,
        lr: Annotated[float, POSITIVE] = 1e-2,
        width: Annotated[int, WIDTH] = 24,
        top: Annotated[int | None, Count(1, 100_000)] = None,
        rescale: Annotated[float, POSITIVE] = 20.0,
        targets: Annotated[str, Names(("outputs", "vector"))] = "outputs",
    ) -> None:
        super().__init__(
            conditioning, classifier, auxiliary,
            seed=seed, steps=steps, batch_size=batch_size, lr=lr, log_every=log_every,
        )  # fmt: skip
        N = classifier.spec.num_classes
        if top is not None and top > N:
            raise ValueError(f"top={top}: must be at most the {N} classes")
        self.top, self.rescale, self.targets = top, rescale, targets
        self.networks = nn.ModuleDict(
            {
                "decoder": VectorDecoder(classifier.spec, N, width, seed),
                "outputs": ConfidentOutputs(N),
            }
        )

    @property
    def decoder(self) -> VectorDecoder:
        decoder = self.networks["decoder"]
        assert isinstance(decoder, VectorDecoder)
        return decoder

    @property
    def outputs(self) -> ConfidentOutputs:
        outputs = self.networks["outputs"]
        assert isinstance(outputs, ConfidentOutputs)
        return outputs

    def prepare(self) -> None:
        """Query the classifier with the auxiliary images, and store its surest outputs."""
        super().prepare()
        self.outputs.store(log_scores(self.logits_nN, self.classifier.multi_label))

    def score(self, step: int, stream: Stream) -> tuple[Tensor, Tensor]:
        index_B = (stream.uniform(self.batch_size) * len(self.images_nCHW)).long()
        x_BCHW, logits_BN = self.auxiliary_images(index_B), self.logits_nN[index_B]
        made_BCHW = self.decoder(self.vectors(log_scores(logits_BN, self.classifier.multi_label)))
        loss = F.mse_loss(made_BCHW, x_BCHW)
        # The share of reconstructions that get the label of their original
        same = self.accuracy(made_BCHW, logits_BN.argmax(dim=1))
        return loss, torch.stack([loss.detach(), same])

    def vectors(self, log_BN: Tensor) -> Tensor:
        """Return the decoder's inputs [B, N] for the logarithms of scores."""
        return truncated(log_BN, self.top, self.rescale)

    @torch.no_grad()
    def draw(self, condition: Condition, g: int = 0) -> Tensor:
        log_BN = condition.target_BN.clamp_min(1e-30).log()
        pick_B = torch.rand(len(log_BN)).to(log_BN.device)
        if self.targets == "outputs" and not self.classifier.multi_label:
            log_BN = self.outputs(condition.label_B, pick_B, log_BN)
        return self.decoder(self.vectors(log_BN))


class ConfidentOutputs(nn.Module):
    """The outputs for the auxiliary images that the classifier is surest about, for each class.

    Args:
        N: Classes.
    """

    log_NKN: Tensor
    count_N: Tensor

    def __init__(self, N: int) -> None:
        super().__init__()
        K = max(1, min(MOST_VECTORS, MOST_ENTRIES // N**2))
        self.register_buffer("log_NKN", torch.zeros(N, K, N))
        self.register_buffer("count_N", torch.zeros(N, dtype=torch.long))

    def store(self, log_nN: Tensor) -> None:
        """Store the K outputs of each class with the largest score."""
        best_n, label_n = log_nN.max(dim=1)
        for label in label_n.unique().tolist():
            of_class = (label_n == label).nonzero().flatten()
            surest = of_class[best_n[of_class].argsort(descending=True)][: self.log_NKN.shape[1]]
            self.log_NKN[label, : len(surest)] = log_nN[surest]
            self.count_N[label] = len(surest)

    def forward(self, label_B: Tensor, pick_B: Tensor, otherwise_BN: Tensor) -> Tensor:
        """Return a stored output [B, N] of each label.

        Args:
            label_B: Labels.
            pick_B: Numbers in [0, 1) that pick one of the stored outputs of the label.
            otherwise_BN: What is returned for labels without a stored output.
        """
        count_B = self.count_N[label_B]
        picked_BN = self.log_NKN[label_B, (pick_B * count_B).long()]
        return torch.where(count_B[:, None] > 0, picked_BN, otherwise_BN)


def log_scores(logits_BN: Tensor, multi_label: bool) -> Tensor:
    """Return the logarithms of the scores: softmax, or a sigmoid per label."""
    return F.logsigmoid(logits_BN) if multi_label else logits_BN.log_softmax(dim=1)


def truncated(log_BN: Tensor, top: int | None, rescale: float) -> Tensor:
    """Return max(0, 1 + log p / c) for the `top` largest scores p of each row, and 0 elsewhere."""
    v_BN = (1 + log_BN / rescale).clamp_min(0)
    if top is None or top >= v_BN.shape[1]:
        return v_BN
    kept_Bm = log_BN.topk(top, dim=1).indices
    return torch.zeros_like(v_BN).scatter(1, kept_Bm, v_BN.gather(1, kept_Bm))
