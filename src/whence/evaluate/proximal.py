"""The proximal objective of `pbrf`, and how it is solved for many training points side by side.

    objective(θ) = (1/N) Σ_i D_i(θ) + ε L(z_m, θ) + Σ_ℓ (λ_ℓ/2) ‖θ_ℓ − θˢ_ℓ‖²        D_i, or L_i

What is solved for is θ_ℓ − θˢ_ℓ of the tracked layers, by `solvers.lbfgs` in the metric of an inverse of G + Λ, until
the full gradient of the objective is at most ``tolerance`` of ε‖∇L(z_m)‖, which is its length at θˢ under the Bregman
objective. The metric shortens the way and is no part of the answer: where the gradient vanishes, it does so in any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.evaluate.examples import rows
from whence.evaluate.models import MEMORY, Stack, State, at, example_losses, mapped, models_at_once
from whence.layers import TrackedLayer, as_parameters
from whence.solvers.algebra import Product, norm
from whence.solvers.lbfgs import VECTORS, Minimum, minimise
from whence.tasks.outputs import divergences, outputs
from whence.types import TENSORS, Batch, Data, Gradients, Progress, Task

Objective = Literal["bregman", "loss"]


@dataclass(frozen=True)
class Members:
    """Solves side by side."""

    points: Batch
    weight: Float[Tensor, " s"]
    """ε, −ε or 0."""
    norm: Float[Tensor, " s"]
    """ε‖∇L(z_m)‖."""

    def take(self, some: Tensor) -> Members:
        return Members(rows(self.points, some), self.weight[some], self.norm[some])


class Problem:
    """The objective, as a function of each member's move away from θˢ, layer → ``[s o i]``.

    Args:
        dampings: λ of each layer.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[TrackedLayer],
        dampings: Mapping[str, float],
        data: Data,
        task: Task,
        objective: Objective,
    ) -> None:
        self.model, self.layers, self.dampings, self.task, self.objective = model, layers, dampings, task, objective
        first = layers[0].parameters()[0]
        self.device = first.device
        self.origin = {layer.name: first.new_zeros(layer.outputs, layer.inputs) for layer in layers}
        own = dict(model.named_parameters())
        self.theta = {name: own[name].detach().clone() for name in as_parameters(layers, self.origin)}
        """θˢ of the tracked parameters."""
        self.batches = [batch.to(self.device) for unit in data.units for batch in data.batches(unit.number)]
        self.count = data.sequences

    def at_once(self) -> int:
        """How many members fit into memory."""
        largest = max(self.batches, key=lambda batch: batch.real.numel())
        passes = models_at_once(self.model, self.task, largest, self.theta) // 2
        held = VECTORS * sum(tensor.numel() * tensor.element_size() for tensor in self.theta.values())
        return max(1, min(passes, MEMORY // held))

    def zeros(self, members: int) -> Gradients:
        """θˢ itself, ``members`` times."""
        return {name: zero.expand(members, *zero.shape).clone() for name, zero in self.origin.items()}

    def parameters(self, moves: Gradients) -> Stack:
        """The tracked parameters of each member; differentiable."""
        moved = torch.func.vmap(lambda own: as_parameters(self.layers, own))(moves)
        return {name: self.theta[name] + tensor for name, tensor in moved.items()}

    def gradient(self, moves: Gradients, members: Members) -> Gradients:
        """The full gradient of each member's objective: one pass over the data."""
        leaves = {name: part.detach().requires_grad_() for name, part in moves.items()}
        with torch.enable_grad():
            near = [self.dampings[name] / 2 * part.square().flatten(1).sum(1) for name, part in leaves.items()]
            rest = members.weight * self._of_points(self.parameters(leaves), members.points)
            (rest + torch.stack(near).sum(0)).sum().backward()
            for batch in self.batches:  # apart, so that one batch's graph is held
                mapped(self._of_data(batch), self.parameters(leaves)).sum().backward()
        return {name: _grad(part) for name, part in leaves.items()}

    def norms(self, points: Batch, at_once: int | None) -> Float[Tensor, " m"]:
        """‖∇L(z_m)‖ of each point at θˢ, in the tracked layers."""
        found = []
        for some in torch.arange(len(points), device=self.device).split(at_once or self.at_once()):
            leaves = {name: part.requires_grad_() for name, part in self.zeros(len(some)).items()}
            with torch.enable_grad():
                self._of_points(self.parameters(leaves), rows(points, some)).sum().backward()
            found.append(norm({name: _grad(part) for name, part in leaves.items()}))
        return torch.cat(found)

    def _of_data(self, batch: Batch) -> Callable[[State], Tensor]:
        """(1/N) Σ over a batch of D, or of L, as a function of one member's parameters."""
        with torch.no_grad():
            reference = outputs(self.task, self.model, batch) if self.objective == "bregman" else None

        def value(own: State) -> Tensor:
            moved = at(self.model, own)
            if reference is None:
                return example_losses(self.task, moved, batch).sum() / self.count
            h = outputs(self.task, moved, batch)
            return divergences(self.task, h, reference, batch).sum() / self.count

        return value

    def _of_points(self, stack: Stack, points: Batch) -> Float[Tensor, " s"]:
        """L(z_m) at each member's parameters."""
        parts = [getattr(points, name)[:, None] for name in TENSORS]

        def value(own: State, *point: Tensor) -> Tensor:
            return example_losses(self.task, at(self.model, own), Batch.of(*point)).sum()

        return mapped(value, stack, *parts)


def solve(
    problem: Problem,
    members: Members,
    precondition: Product,
    tolerance: float,
    most: int,
    progress: Progress | None = None,
) -> Minimum:
    """Each member's move away from θˢ, with the length of the gradient there."""
    return minimise(
        lambda moves, some: problem.gradient(moves, members.take(some)),
        problem.zeros(len(members.weight)),
        tolerance * members.norm,
        precondition=precondition,
        most=most,
        progress=progress,
    )


def _grad(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad
