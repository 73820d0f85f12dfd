"""`method=admm`: inversion layer by layer, without the gradient of the network (Wong 2017).

    minimise  smoothness / 2 |D x|^2   over x in [0, 1], a_k, z_k
    with      z_k = A_k a_{k-1} + b_k,   a_k = gate_k(z_k),   a_0 = x,   z_K in the class's set

    one step:  z_K <- set of the class -> a_{K-1} <- linear solve -> z_{K-1} <- prox of the gate
                   -> ... -> x <- linear solve -> [0, 1] -> multipliers += violations

The constraints are split by the alternating direction method of multipliers, so that every variable
has a problem of its own, which has an exact solution: a linear system for the inputs of an affine
map, a proximal operator for the inputs of a gate (`inversion/proximal.py`). The pass from the
logits to the pixels needs no chain rule and no step size. The class's set contains the logits in
which the class leads by `margin`.

Source: Wong, "Neural network inversion beyond gradient descent" (2017). The paper's text was not
available for this implementation: the splitting is the standard one for such a chain, and may
differ from the paper's in its order and weights. The gates are not convex, so that convergence is
not guaranteed. Every `restart` steps the splitting therefore begins again at its last image, with
all constraints of the layers satisfied. The image with the largest margin of all steps is returned.

Shape suffixes: B batch, C channels, H height, W width, N classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from netinv_lightning.classifiers.frozen import FrozenClassifier
from netinv_lightning.classifiers.log_odds import log_odds
from netinv_lightning.config.rules import NOT_NEGATIVE, STEPS, Count
from netinv_lightning.errors import InputError
from netinv_lightning.inversion.conditioning import Condition, Conditioning
from netinv_lightning.inversion.cost import CostMeter
from netinv_lightning.inversion.layer_chain import Affine, Chain, chain_of
from netinv_lightning.inversion.methods.batchwise import BatchwiseInversion
from netinv_lightning.inversion.objective import named_loss
from netinv_lightning.inversion.proximal import lead, prox_gate

Project = Callable[[Tensor], Tensor]
"""Projection of logits [B, N] onto the allowed ones."""


class AffineSolver:
    """Solves min_a |a - p|^2 + |A a + b - q|^2 + smoothness |D a|^2.

    A map without convolutions and without D is solved exactly, by the Cholesky factor of I + A A^T;
    otherwise by conjugate gradients that start at the last solution.

    Args:
        affine: The affine map.
        solver_steps: Steps of conjugate gradients.
        smoothness: Weight of the squared differences D a of neighbours.
    """

    def __init__(self, affine: Affine, solver_steps: int, smoothness: float = 0.0) -> None:
        self.affine, self.solver_steps, self.smoothness = affine, solver_steps, smoothness
        self.factor_nn: Tensor | None = None
        if affine.matrix_nm is not None and not smoothness:
            eye_nn = torch.eye(len(affine.matrix_nm), device=affine.bias.device)
            self.factor_nn = torch.linalg.cholesky(eye_nn + affine.matrix_nm @ affine.matrix_nm.T)

    def __call__(self, p: Tensor, q: Tensor, start: Tensor) -> Tensor:
        right = p + self.affine.adjoint(q - self.affine.bias)
        if self.factor_nn is not None:
            solved = torch.cholesky_solve(right.flatten(1).T, self.factor_nn).T
            return solved.reshape(right.shape)
        return self._conjugate_gradients(right, start)

    def _conjugate_gradients(self, right: Tensor, a: Tensor) -> Tensor:
        def inner(left: Tensor, other: Tensor) -> Tensor:
            return (left * other).sum(dim=tuple(range(1, left.dim())), keepdim=True)

        residual = right - self._normal(a)
        direction, square = residual, inner(residual, residual)
        for _ in range(self.solver_steps):
            image = self._normal(direction)
            length = square / inner(direction, image).clamp_min(1e-20)
            a, residual = a + length * direction, residual - length * image
            new = inner(residual, residual)
            direction, square = residual + new / square.clamp_min(1e-20) * direction, new
        return a

    def _normal(self, a: Tensor) -> Tensor:
        """Return (I + A^T A + smoothness D^T D) a."""
        out = a + self.affine.adjoint(self.affine.linear(a))
        return out + self.smoothness * roughness(a) if self.smoothness else out


def roughness(x_BCHW: Tensor) -> Tensor:
    """Return D^T D x, where D x are the differences of neighbours along each side."""
    out = torch.zeros_like(x_BCHW)
    for dim in range(2, x_BCHW.dim()):
        difference = x_BCHW.diff(dim=dim)
        out.narrow(dim, 1, difference.shape[dim]).add_(difference)
        out.narrow(dim, 0, difference.shape[dim]).sub_(difference)
    return out


class Splitting:
    """The variables of ADMM for a batch.

    Args:
        chain: The network.
        x_BCHW: The first images. All constraints but that on the logits hold at the start.
        project: Projection of the logits onto the allowed ones.
        solver_steps: Steps of conjugate gradients.
        smoothness: Weight of the squared differences of neighbouring pixels.

    Attributes:
        image_BCHW: The images in [0, 1].
    """

    def __init__(
        self,
        chain: Chain,
        x_BCHW: Tensor,
        project: Project,
        solver_steps: int,
        smoothness: float = 0.0,
    ) -> None:
        self.chain, self.project, self.image_BCHW = chain, project, x_BCHW
        self.solvers = [
            AffineSolver(affine, solver_steps, smoothness if k == 0 else 0.0)
            for k, affine in enumerate(chain.affines)
        ]
        self.a, self.z = [x_BCHW], []
        for k, affine in enumerate(chain.affines):
            self.z.append(affine(self.a[k]))
            self.a += [gate(self.z[k]) for gate in chain.gates[k : k + 1]]
        # Scaled multipliers: of z_k = A_k a_{k-1} + b_k; and of a_k = gate_k(z_k) and a_0 = image.
        self.u = [torch.zeros_like(z) for z in self.z]
        self.w = [torch.zeros_like(a) for a in self.a]

    @torch.no_grad()
    def step(self) -> Tensor:
        """Take one step; return the violation of the affine constraints, a mean square."""
        a, z, u, w = self.a, self.z, self.u, self.w
        affines, gates = self.chain.affines, self.chain.gates
        z[-1] = self.project(affines[-1](a[-1]) + u[-1])
        for k in range(len(gates), 0, -1):
            gate, before = gates[k - 1], affines[k - 1]
            a[k] = self.solvers[k](gate(z[k - 1]) + w[k], z[k] - u[k], a[k])
            z[k - 1] = prox_gate(gate, before(a[k - 1]) + u[k - 1], a[k] - w[k])
        a[0] = self.solvers[0](self.image_BCHW - w[0], z[0] - u[0], a[0])
        self.image_BCHW = (a[0] + w[0]).clamp(0, 1)
        w[0] = w[0] + a[0] - self.image_BCHW
        violations = [affine(a[k]) - z[k] for k, affine in enumerate(affines)]
        for k, violation in enumerate(violations):
            u[k] = u[k] + violation
        for k, gate in enumerate(gates, start=1):
            w[k] = w[k] + gate(z[k - 1]) - a[k]
        return torch.stack([violation.square().mean() for violation in violations]).mean()


class AdmmInversion(BatchwiseInversion):
    """Inverts the network layer by layer, by linear systems and proximal operators.

    It takes networks that are a chain of fully connected layers, convolutions, BatchNorm, ReLU or
    LeakyReLU, and pooling.

    Args:
        conditioning: Draws the conditions of each batch. Only their labels are used.
        classifier: The network to invert; it is never changed.
        log_every: Steps between two reports.
        steps: Steps of ADMM for each batch.
        margin: Difference by which the logit of the class should lead. A large one moves the image
            further in each step.
        solver_steps: Steps of conjugate gradients for each convolution.
        smoothness: Weight of the squared differences of neighbouring pixels.
        restart: Steps after which the splitting begins again at its last image.
        init_std: Standard deviation of the first pixels about the mean training pixel.

    Raises:
        InputError: if the network is multi-label, or no such chain.
    """

    reads_targets = False

    def __init__(
        self,
        conditioning: Conditioning,
        classifier: FrozenClassifier,
        log_every: int,
        *,
        steps: Annotated[int, STEPS] = 90,
        margin: Annotated[float, NOT_NEGATIVE] = 15.0,
        solver_steps: Annotated[int, Count(1, 1000)] = 3,
        smoothness: Annotated[float, NOT_NEGATIVE] = 1.0,
        restart: Annotated[int, STEPS] = 30,
        init_std: Annotated[float, NOT_NEGATIVE] = 0.1,
    ) -> None:
        if classifier.multi_label:
            raise InputError(
                "method=admm: needs one label per image, but this network is multi-label. Set "
                "method=gradient, which takes any network"
            )
        objective = named_loss("violation")
        super().__init__(
            conditioning, classifier, objective,
            steps=steps, lr=1.0, init_std=init_std, log_every=log_every,
        )  # fmt: skip
        self.margin, self.solver_steps, self.smoothness = margin, solver_steps, smoothness
        self.restart = restart
        chain_of(classifier, "admm")  # refuses other networks

    @torch.no_grad()
    def _optimise(self, condition: Condition, seed: int, meter: CostMeter) -> Tensor:
        chain, classifier = chain_of(self.classifier, "admm"), self.classifier
        label_B = condition.label_B.to(self.device)
        start_BCHW = self._near_mean(len(label_B), seed)

        def split(x_BCHW: Tensor) -> Splitting:
            def project(logits_BN: Tensor) -> Tensor:
                return lead(logits_BN, label_B, self.margin)

            return Splitting(chain, x_BCHW, project, self.solver_steps, self.smoothness)

        splitting = split(start_BCHW)
        best_BCHW = start_BCHW
        best_B = torch.full(label_B.shape, -torch.inf, device=self.device)
        record = self._start_recording(len(label_B), meter)
        for step in range(1, self.steps + 1):
            if step > 1 and (step - 1) % self.restart == 0:
                splitting = split(splitting.image_BCHW)
            violation = splitting.step()
            self._count_passes(len(label_B))
            margin_B = log_odds(classifier(splitting.image_BCHW), label_B)
            better_B = margin_B > best_B
            best_B = torch.maximum(best_B, margin_B)
            chosen_B = better_B.view(-1, *[1] * (start_BCHW.dim() - 1))
            best_BCHW = torch.where(chosen_B, splitting.image_BCHW, best_BCHW)
            record(step, torch.stack([violation, violation, (best_B > 0).float().mean()]))
        return best_BCHW

    def _count_passes(self, images: int) -> None:
        """Count a step: each affine map and its adjoint are applied in every solver step."""
        passes, count = self.solver_steps + 1, self.classifier.forward_count
        count.forwards += passes * images
        count.backwards += passes * images
