"""`method=nullspace`: root-finding with the Jacobian, and random moves in its null space.

    x ~ noise -> g(x) -> x + J+ (y - g(x)) + (I - J+ J) u -> clamp to [0, 1] -> again

y are the prescribed outputs, u ~ N(0, s^2). J [K, D] is the Jacobian of the K outputs g with
respect to the D pixels, J+ = J' (J J')^-1 its pseudo-inverse. The first term is Newton's step of
least norm. The second term does not change the outputs to first order, because J (I - J+ J) = 0:
there are D - K directions in which an image can move while its scores stay the same. The images
therefore look like noise and have the prescribed scores. They are the adversarial pole of the
verdict: perfect for the classifier, meaningless for others.

The method follows the forward pass method and the null spaces of "Inverting Neural Networks: New
Methods to Generate Neural Network Inputs from Prescribed Outputs" (2026, arXiv:2603.20461, abstract
and introduction). Three things differ. The null space is that of the Jacobian of the whole network,
so that any differentiable network can be inverted; theirs is that of each linear layer. Images stay
in [0, 1]: pixels at a bound that would leave it are left out of the step. The output is the
log-odds of the requested class, g = f_label - log sum_k exp(f_k) over the other classes k, or, if
all scores are prescribed, g_k = f_k - f_label, because scores do not change if all logits f rise by
one amount.

Shape suffixes: B batch, K prescribed outputs, N classes, C channels, H height, W width, D pixels.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.log_odds import log_odds
from netinv_lightning.config.rules import NOT_NEGATIVE, STEPS, Count, Number
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.label_sets import sets_agree
from netinv_lightning.inversion.methods.batchwise import BatchwiseInversion
from netinv_lightning.inversion.objective import Objective
from netinv_lightning.training.distributed import Stream

DAMPING = 1e-6
"""Added to J J', as a share of its mean diagonal entry, so that it is invertible."""
BOUND_ROUNDS = 2
"""How often a step is computed again without the pixels that cannot follow it."""
LEAST_SCORE = 1e-4
"""Share of the prescribed scores that is spread over all classes, so that none is 0."""
SHARES = (1.0, 0.5, 0.25, 0.1)
"""Shares of Newton's step of which the best is taken, because networks are linear only nearby."""
MOVING_SHARE = 2 / 3
"""Share of the steps that have null-space moves; the others only correct the outputs."""


class NullSpaceInversion(BatchwiseInversion):
    """Solves for images with prescribed scores, and moves them along the null space.

    Args:
        conditioning: Draws the conditions of each batch.
        classifier: The network to invert; it is never changed.
        log_every: Steps between two reports.
        micro_batch: Images that the classifier processes at once; None for all.
        steps: Steps of root-finding.
        confidence: Prescribed score of the requested class, so that there is one output, its
            log-odds. For a multi-label network the score of each label that is on. Null for the
            scores of the condition, so that each class has an output.
        outputs: Largest number of outputs in a step: those of the highest scores. Each costs a
            backward pass per step.
        null_std: Standard deviation of the null-space moves in the first step, in units of the
            pixel range. It falls linearly to 0.
        init_std: Standard deviation of the first pixels about 0.5.
        largest_step: Largest root mean square change of an image in a step of root-finding; a
            larger step is replaced by one towards nearer outputs.

    Raises:
        InputError: for tables with one-hot features.
        ValueError: if a value is out of range. The message starts with `<argument>=<value>:`.
    """

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        log_every: int = 10,
        micro_batch: int | None = None,
        *,
        steps: Annotated[int, STEPS] = 60,
        confidence: Annotated[float | None, Number(0, 1, above=True, below=True)] = 0.999,
        outputs: Annotated[int, Count(1, 100_000)] = 20,
        null_std: Annotated[float, NOT_NEGATIVE] = 0.1,
        init_std: Annotated[float, NOT_NEGATIVE] = 0.3,
        largest_step: Annotated[float, Number(0, 1, above=True)] = 0.2,
    ) -> None:
        if classifier.spec.groups:
            raise InputError(
                "method=nullspace: changes each feature by itself, but this classifier has one-hot "
                "features (classifier.groups). Choose method=gradient"
            )
        # The objective only provides the names for logging.
        super().__init__(
            conditioning, classifier, Objective({"kl": {"weight": 1.0}}),
            steps=steps, lr=1.0, init_std=init_std, log_every=log_every,
        )  # fmt: skip
        self.confidence, self.outputs, self.null_std = confidence, outputs, null_std
        self.largest_step, self.micro_batch = largest_step, micro_batch

    def _optimise(self, condition: Condition, seed: int, meter: CostMeter) -> Tensor:
        B, stream = len(condition.label_B), Stream(seed, self.device)
        x_BCHW = 0.5 + self.init_std * stream.normal(B, *self.classifier.spec.shape)
        x_BCHW = x_BCHW.clamp(0, 1)
        wanted_BN = self._prescribed(condition)
        record = self._start_recording(B, meter)
        for step in range(1, self.steps + 1):
            left = max(0.0, 1 - (step - 1) / (MOVING_SHARE * self.steps))
            move_BCHW = self.null_std * left * stream.normal(*x_BCHW.shape)
            logits_BN, x_BCHW = self._step(x_BCHW, move_BCHW, wanted_BN, condition.label_B)
            record(step, self._values(logits_BN, condition))
        return x_BCHW

    def _prescribed(self, condition: Condition) -> Tensor:
        """Return the prescribed values y of the outputs, [B, K] or, with scores of all, [B, N]."""
        target_BN, N = condition.target_BN, self.classifier.spec.num_classes
        if self.classifier.multi_label:
            sharp = self.confidence or 1 - LEAST_SCORE
            return (2 * (target_BN > 0.5).float() - 1) * math.log(sharp / (1 - sharp))
        if self.confidence is None:
            y_BN = ((1 - LEAST_SCORE) * target_BN + LEAST_SCORE / N).log()
            return y_BN - y_BN.gather(1, condition.label_B[:, None])
        return target_BN.new_full(
            (len(target_BN), 1), math.log(self.confidence / (1 - self.confidence))
        )

    def _step(
        self, x_BCHW: Tensor, move_BCHW: Tensor, wanted_BN: Tensor, label_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logits [B, N] of the images, and the images after one step."""
        parts = [
            self._step_of_part(*part)
            for part in zip(
                *(
                    rows.split(self.micro_batch or len(x_BCHW))
                    for rows in (x_BCHW, move_BCHW, wanted_BN, label_B)
                ),
                strict=True,
            )
        ]
        logits, images = zip(*parts, strict=True)
        return torch.cat(logits), torch.cat(images)

    def _step_of_part(
        self, x_BCHW: Tensor, move_BCHW: Tensor, wanted_BN: Tensor, label_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits_BN, residual_BK, jacobian_BKD = self._linearise(x_BCHW, wanted_BN, label_B)
        x_BD = x_BCHW.flatten(1)
        size_B = least_norm_step(jacobian_BKD, residual_BK).square().mean(dim=1).sqrt()
        reached_B = self.largest_step / size_B.clamp_min(self.largest_step)
        newton_BD = bounded_step(jacobian_BKD, reached_B[:, None] * residual_BK, x_BD)
        newton_BD = self._best_share(x_BCHW, newton_BD, wanted_BN, label_B)[:, None] * newton_BD
        moved_BD = x_BD + newton_BD + null_space_part(jacobian_BKD, move_BCHW.flatten(1))
        return logits_BN, moved_BD.clamp(0, 1).view_as(x_BCHW)

    @torch.no_grad()
    def _best_share(
        self, x_BCHW: Tensor, newton_BD: Tensor, wanted_BN: Tensor, label_B: Tensor
    ) -> Tensor:
        """Return the share of Newton's step after which the outputs lack least, [B]."""
        step_BCHW, lacks = newton_BD.view_as(x_BCHW), []
        for share in SHARES:
            logits_BN = self.classifier((x_BCHW + share * step_BCHW).clamp(0, 1)).float()
            lacks.append((wanted_BN - self._outputs(logits_BN, label_B)).norm(dim=1))
        return torch.tensor(SHARES, device=x_BCHW.device)[torch.stack(lacks).argmin(dim=0)]

    @torch.enable_grad()
    def _linearise(
        self, x_BCHW: Tensor, wanted_BN: Tensor, label_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits f, the residual y - g of the outputs [B, K], and the Jacobian [B, K, D]."""
        x_BCHW = x_BCHW.detach().requires_grad_()
        logits_BN = self.classifier(x_BCHW).float()
        outputs_BN = self._outputs(logits_BN, label_B)
        missing_BN = wanted_BN - outputs_BN.detach()
        chosen_BK = self._chosen(outputs_BN.detach(), label_B)
        outputs_BK = outputs_BN.gather(1, chosen_BK)
        rows = [
            torch.autograd.grad(output_B.sum(), x_BCHW, retain_graph=True)[0].flatten(1)
            for output_B in outputs_BK.unbind(dim=1)
        ]
        return (
            logits_BN.detach(),
            missing_BN.gather(1, chosen_BK),
            torch.stack(rows, dim=1),
        )

    def _outputs(self, logits_BN: Tensor, label_B: Tensor) -> Tensor:
        """Return g: logits of sets of labels, log-odds of all classes, or that of the label."""
        if self.classifier.multi_label:
            return logits_BN
        if self.confidence is None:
            return logits_BN - logits_BN.gather(1, label_B[:, None])
        return log_odds(logits_BN, label_B)[:, None]

    def _chosen(self, outputs_BN: Tensor, label_B: Tensor) -> Tensor:
        """Return the indices [B, K] of the highest outputs, without the label's own log-odds."""
        count = min(self.outputs, outputs_BN.shape[1])
        if self.confidence is None and not self.classifier.multi_label:
            outputs_BN = outputs_BN.scatter(1, label_B[:, None], -math.inf)
            count = min(count, outputs_BN.shape[1] - 1)
        return outputs_BN.topk(count, dim=1).indices

    def _values(self, logits_BN: Tensor, condition: Condition) -> Tensor:
        """Return the values to log, [V]: the divergence two times, and the accuracy."""
        if self.classifier.multi_label:
            agree_B = sets_agree(logits_BN, condition.target_BN)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits_BN, condition.target_BN, reduction="sum"
            ) / len(logits_BN)
        else:
            agree_B = logits_BN.argmax(dim=1) == condition.label_B
            loss = torch.nn.functional.kl_div(
                logits_BN.log_softmax(dim=1), condition.target_BN, reduction="batchmean"
            )
        return torch.stack([loss, loss, agree_B.float().mean()])


def least_norm_step(jacobian_BKD: Tensor, residual_BK: Tensor) -> Tensor:
    """Return J+ r = J' (J J')^-1 r, the step [B, D] of least norm that changes the outputs by r."""
    gram_BKK = (jacobian_BKD @ jacobian_BKD.transpose(1, 2)).double()
    diagonal_BK = gram_BKK.diagonal(dim1=1, dim2=2)
    damping_B = DAMPING * diagonal_BK.mean(dim=1).clamp_min(1e-20)
    gram_BKK = gram_BKK + torch.diag_embed(damping_B[:, None].expand_as(diagonal_BK))
    weight_BK = torch.linalg.solve(gram_BKK, residual_BK.double()).to(jacobian_BKD.dtype)
    return torch.einsum("bkd,bk->bd", jacobian_BKD, weight_BK)


def null_space_part(jacobian_BKD: Tensor, move_BD: Tensor) -> Tensor:
    """Return (I - J+ J) u, the part [B, D] of a move that changes no output to first order."""
    change_BK = torch.einsum("bkd,bd->bk", jacobian_BKD, move_BD)
    return move_BD - least_norm_step(jacobian_BKD, change_BK)


def bounded_step(jacobian_BKD: Tensor, residual_BK: Tensor, x_BD: Tensor) -> Tensor:
    """Return the step of least norm among the pixels that can follow it, [B, D].

    A pixel cannot follow it if it is 0 and would become smaller, or 1 and would become larger.
    """
    step_BD = least_norm_step(jacobian_BKD, residual_BK)
    for _ in range(BOUND_ROUNDS):
        blocked_BD = ((x_BD <= 0) & (step_BD < 0)) | ((x_BD >= 1) & (step_BD > 0))
        jacobian_BKD = jacobian_BKD * ~blocked_BD[:, None]
        step_BD = least_norm_step(jacobian_BKD, residual_BK)
    return step_BD
