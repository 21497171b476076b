"""The proximal objective of `pbrf`, and how it is solved for many training points side by side.

    objective(θ) = (1/N) Σ_i D_i(θ) + ε L(z_m, θ) + Σ_ℓ (λ_ℓ/2) ‖θ_ℓ − θˢ_ℓ‖²        D_i, or L_i

Adam from θˢ over batches in one order for all, in `Coordinates` in units of the point's own gradient there, so that
one learning rate fits every point and layer. The rate falls geometrically over a round, so that every scale has its
turn; rounds repeat, longer, gentler and on more batches a step, until the full gradient of the objective is at most
``tolerance`` of ε‖∇L(z_m)‖, which is its length at θˢ under the Bregman objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.evaluate.coordinates import Coordinates
from whence.evaluate.examples import rows
from whence.evaluate.models import Stack, State, at, example_losses, mapped, models_at_once
from whence.tasks.outputs import divergences, outputs
from whence.types import Batch, Data, Task

Objective = Literal["bregman", "loss"]

MORE_BATCHES = 4
"""Times as many batches a step in each further round, up to all of them: their noise keeps a solve from closing in."""
FIRST_RATE = 0.1
"""Of a round's steps, in units of the point's gradient."""
DECAY = 1e-3
"""What is left of the learning rate at the end of a round."""
BETAS = (0.9, 0.9)
"""A short memory for squares: they fall by orders of magnitude while a solve closes in."""
EPS = 1e-4
"""Of Adam, beside gradients that begin near one: what is rounding at θˢ must not be made into whole steps."""


@dataclass(frozen=True)
class Members:
    """Solves side by side."""

    points: Batch
    weight: Tensor
    """ε, −ε or 0 ``[s]``."""
    scale: dict[str, Tensor]
    """Layer → u of one step of unit length, over ε ``[s]``."""
    unit: Tensor
    """What the objective is divided by ``[s]``, so that its gradient in those steps begins near one."""
    norm: Tensor
    """ε‖∇L(z_m)‖ ``[s]``."""

    def take(self, some: Tensor) -> Members:
        scale = {name: value[some] for name, value in self.scale.items()}
        return Members(rows(self.points, some), self.weight[some], scale, self.unit[some], self.norm[some])


class Problem:
    """The objective, as a function of the coordinates of each member."""

    def __init__(
        self, model: nn.Module, space: Coordinates, data: Data, task: Task, objective: Objective, epsilon: float
    ) -> None:
        self.model, self.space, self.task, self.objective, self.epsilon = model, space, task, objective, epsilon
        self.device = next(model.parameters()).device
        self.batches = [batch.to(self.device) for unit in data.units for batch in data.batches(unit.number)]
        self.count = data.sequences

    def at_once(self) -> int:
        """How many members fit into memory; half of what a plain training step would fit."""
        largest = max(self.batches, key=lambda batch: batch.real.numel())
        return max(1, models_at_once(self.model, self.task, largest, self.space.theta) // 2)

    def of_data(self, batch: Batch) -> Callable[[State], Tensor]:
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

    def of_points(self, stack: Stack, points: Batch) -> Float[Tensor, " s"]:
        """L(z_m) at each member's parameters."""
        parts = [getattr(points, name)[:, None] for name in Batch.__slots__]

        def value(own: State, *point: Tensor) -> Tensor:
            return example_losses(self.task, at(self.model, own), Batch(*point)).sum()

        return mapped(value, stack, *parts)

    def gradient(self, u: Stack, members: Members) -> Stack:
        """The full gradient of each member's objective in u: one pass over the data."""
        leaves = {name: t.detach().requires_grad_() for name, t in u.items()}
        with torch.enable_grad():
            rest = members.weight * self.of_points(self.space.parameters(leaves), members.points)
            (rest + self.space.proximity(leaves)).sum().backward()
            self._data_backward(leaves)
        return {name: _grad(t) for name, t in leaves.items()}

    def _data_backward(self, leaves: Stack) -> None:
        for batch in self.batches:
            mapped(self.of_data(batch), self.space.parameters(leaves)).sum().backward()

    def scales(self, points: Batch, at_once: int | None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Of each point: the length of a step by layer, the objective's unit, and ‖∇L(z_m)‖."""
        rms, norms = [], []
        for some in torch.arange(len(points), device=self.device).split(at_once or self.at_once()):
            leaves = {name: t.requires_grad_() for name, t in self.space.zeros(len(some)).items()}
            with torch.enable_grad():
                self.of_points(self.space.parameters(leaves), rows(points, some)).sum().backward()
            grads = {name: _grad(t) for name, t in leaves.items()}
            rms.append({name: _rms(grad) for name, grad in grads.items()})
            norms.append(self.space.norm(grads))
        slope = {name: torch.cat([part[name] for part in rms]) for name in rms[0]}
        if self.objective == "loss":  # θˢ need not be a minimum of J: all go as far as its gradient may take them
            drift = self._mean_slope()
            slope = {name: value + drift[name] / self.epsilon for name, value in slope.items()}
        widest = torch.stack(list(slope.values())).amax(0)
        norm = torch.cat(norms)
        floor = torch.finfo(norm.dtype).tiny ** 0.25  # of a point without a gradient
        # A layer that a point's own gradient misses is still moved by the others.
        scale = {name: torch.maximum(value, 1e-3 * widest).clamp_min(floor) for name, value in slope.items()}
        return scale, widest.square().clamp_min(floor**2), norm.clamp_min(floor)

    def _mean_slope(self) -> dict[str, Tensor]:
        """Size of ∇J at θˢ, by layer."""
        leaves = {name: t.requires_grad_() for name, t in self.space.zeros(1).items()}
        with torch.enable_grad():
            self._data_backward(leaves)
        return {name: _rms(_grad(t)) for name, t in leaves.items()}


def solve(
    problem: Problem, members: Members, tolerance: float, steps: int, rounds: int, seed: int
) -> tuple[Stack, Float[Tensor, " s"]]:
    """The parameters where each solve ended, and the gradient norm there as a share of ε‖∇L(z_m)‖."""
    best = problem.space.zeros(len(members.weight))
    reached = torch.full_like(members.norm, math.inf)
    order = _order(len(problem.batches), seed)
    left = torch.arange(len(reached), device=reached.device)
    for number in range(rounds):
        some = members.take(left)
        start = {name: t[left] for name, t in best.items()}
        every = min(len(problem.batches), MORE_BATCHES**number)
        ended = _round(problem, some, start, round(steps * 1.5**number), FIRST_RATE * 0.3**number, order, every)
        norms = problem.space.norm(problem.gradient(ended, some)) / some.norm
        better = ~(norms >= reached[left])  # NaN counts: it is refused by whoever asked
        for name, tensor in best.items():
            tensor[left[better]] = ended[name][better]
        reached[left] = torch.where(better, norms, reached[left])
        left = (reached > tolerance).nonzero()[:, 0]
        if len(left) == 0:
            break
    with torch.no_grad():
        return problem.space.parameters(best), reached


def _round(
    problem: Problem,
    members: Members,
    start: Stack,
    steps: int,
    rate: float,
    order: Callable[[int], int],
    every: int,
) -> Stack:
    """Adam from ``start``, ``every`` batches a step, with a rate that falls from ``rate`` to `DECAY` of it."""
    width = {name: problem.epsilon * value[:, None, None] for name, value in members.scale.items()}
    moves = {name: torch.zeros_like(t).requires_grad_() for name, t in start.items()}
    optimiser = torch.optim.Adam(list(moves.values()), lr=rate, betas=BETAS, eps=EPS)
    unit = problem.epsilon**2 * members.unit
    share = len(problem.batches) / every

    def coordinates() -> Stack:
        return {name: start[name] + width[name] * tensor for name, tensor in moves.items()}

    for step in range(steps):
        optimiser.zero_grad()
        with torch.enable_grad():
            u = coordinates()
            rest = members.weight * problem.of_points(problem.space.parameters(u), members.points)
            ((rest + problem.space.proximity(u)) / unit).sum().backward()
            for number in range(step * every, (step + 1) * every):  # apart, so that one batch's graph is held
                value = problem.of_data(problem.batches[order(number)])
                (share * mapped(value, problem.space.parameters(coordinates())) / unit).sum().backward()
        for group in optimiser.param_groups:
            group["lr"] = rate * DECAY ** (step / steps)
        optimiser.step()
    return {name: tensor.detach() for name, tensor in coordinates().items()}


def _order(batches: int, seed: int) -> Callable[[int], int]:
    """Which batch comes when: every epoch all of them, in an order of its own that all solves share."""
    shuffled: dict[int, np.ndarray[Any, Any]] = {}

    def batch(number: int) -> int:
        epoch, place = divmod(number, batches)
        if epoch not in shuffled:
            shuffled[epoch] = np.random.default_rng([seed, epoch]).permutation(batches)
        return int(shuffled[epoch][place])

    return batch


def _grad(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def _rms(grad: Float[Tensor, "s o i"]) -> Float[Tensor, " s"]:
    return grad.flatten(1).square().mean(1).sqrt()
