"""The proximal objective of `pbrf`, and how it is solved for many training points side by side.

    objective(θ) = (1/N) Σ_i D_i(θ) + ε L(z_m, θ) + Σ_ℓ (λ_ℓ/2) ‖θ_ℓ − θˢ_ℓ‖²        D_i, or L_i

Adam over batches in one order for all, in variables that make one learning rate fit every point and parameter:
u = (θ − θˢ) / (ε · rms(∇L(z_m)) / λ), in which no coordinate need go much further than one. The learning rate falls
geometrically over a round, so that every scale has its turn; rounds repeat, longer and gentler, until the full
gradient of the objective is at most ``tolerance`` of ε‖∇L(z_m)‖, what it is at θˢ (of the Bregman objective).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.evaluate.examples import rows
from whence.evaluate.models import Stack, State, at, example_losses, mapped, models_at_once
from whence.layers import TrackedLayer, as_parameters
from whence.tasks.outputs import divergences, outputs
from whence.types import Batch, Data, Task

Objective = Literal["bregman", "loss"]

FIRST_RATE = 0.1
"""Of a round's steps, in units of u."""
DECAY = 1e-4
"""What is left of the learning rate at the end of a round."""
BETAS = (0.9, 0.99)


@dataclass(frozen=True)
class Members:
    """Solves side by side."""

    points: Batch
    weight: Tensor
    """ε, −ε or 0 ``[s]``."""
    scale: dict[str, Tensor]
    """Parameter → θ − θˢ for one unit of u ``[s]``, over ε."""
    unit: Tensor
    """What the objective is divided by ``[s]``, so that its gradient in u begins near one."""
    norm: Tensor
    """ε‖∇L(z_m)‖ ``[s]``."""

    def take(self, some: Tensor) -> Members:
        scale = {name: value[some] for name, value in self.scale.items()}
        return Members(rows(self.points, some), self.weight[some], scale, self.unit[some], self.norm[some])


class Problem:
    """The objective, as a function of the tracked parameters."""

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[TrackedLayer],
        dampings: Mapping[str, float],
        data: Data,
        task: Task,
        objective: Objective,
        epsilon: float,
    ) -> None:
        self.model, self.task, self.objective, self.epsilon = model, task, objective, epsilon
        own = dict(model.named_parameters())
        device = self.device = next(iter(own.values())).device
        dtype = next(iter(own.values())).dtype
        filled = {
            layer.name: torch.full((layer.outputs, layer.inputs), dampings[layer.name], dtype=dtype, device=device)
            for layer in layers
        }
        self.damping = as_parameters(layers, filled)
        """λ of every element of every tracked parameter."""
        self.theta = {name: own[name].detach().clone() for name in self.damping}
        """θˢ of the tracked parameters."""
        self.batches = [batch.to(device) for unit in data.units for batch in data.batches(unit.number)]
        self.count = data.sequences

    def at_once(self) -> int:
        largest = max(self.batches, key=lambda batch: batch.real.numel())
        return max(1, models_at_once(self.model, self.task, largest, self.theta) // 2)

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

    def of_point(self, own: State, *point: Tensor) -> Tensor:
        """L(z_m) at one member's parameters; the point's tensors are that of a batch of one."""
        return example_losses(self.task, at(self.model, own), Batch(*point)).sum()

    def point_losses(self, stack: State, points: Batch) -> Float[Tensor, " s"]:
        parts = [getattr(points, name)[:, None] for name in Batch.__slots__]
        return mapped(self.of_point, dict(stack), *parts)

    def proximity(self, stack: State) -> Float[Tensor, " s"]:
        """Σ_ℓ (λ_ℓ/2) ‖θ_ℓ − θˢ_ℓ‖² of each member."""
        parts = [
            (self.damping[name] / 2 * (tensor - self.theta[name]).square()).flatten(1).sum(1)
            for name, tensor in stack.items()
        ]
        return torch.stack(parts).sum(0)

    def gradient(self, stack: State, members: Members) -> Stack:
        """The full gradient of each member's objective in θ: one pass over the data."""
        leaves = {name: t.detach().requires_grad_() for name, t in stack.items()}
        with torch.enable_grad():
            rest = members.weight * self.point_losses(leaves, members.points) + self.proximity(leaves)
            rest.sum().backward()
            for batch in self.batches:
                mapped(self.of_data(batch), leaves).sum().backward()
        return {name: t.grad for name, t in leaves.items() if t.grad is not None}

    def scales(self, points: Batch, at_once: int | None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Of each point: how far each parameter may go, the objective's unit, and ‖∇L(z_m)‖."""
        rms, norms = [], []
        for some in torch.arange(len(points), device=self.device).split(at_once or self.at_once()):
            leaves = {name: t.expand(len(some), *t.shape).clone().requires_grad_() for name, t in self.theta.items()}
            with torch.enable_grad():
                self.point_losses(leaves, rows(points, some)).sum().backward()
            grads = {name: _grad(t).flatten(1) for name, t in leaves.items()}
            rms.append({name: grad.square().mean(1).sqrt() for name, grad in grads.items()})
            norms.append(torch.cat(list(grads.values()), dim=1).norm(dim=1))
        slope = {name: torch.cat([part[name] for part in rms]) for name in self.theta}
        if self.objective == "loss":  # θˢ need not be a minimum of J: all go as far as its own gradient may take them
            drift = self._mean_gradient()
            slope = {name: value + drift[name] / self.epsilon for name, value in slope.items()}
        stiff = {name: self.damping[name].mean() for name in self.theta}
        reach = {name: slope[name] / stiff[name] for name in self.theta}
        widest = torch.stack(list(reach.values())).amax(0)
        # A parameter that a point's own gradient misses is still moved by the others.
        reach = {name: torch.maximum(value, 1e-3 * widest).clamp_min(1e-12) for name, value in reach.items()}
        worth = torch.stack([reach[name] * slope[name] for name in self.theta]).amax(0)
        norm = torch.cat(norms)
        floor = torch.finfo(norm.dtype).tiny
        return reach, worth.clamp_min(floor), norm.clamp_min(floor)

    def _mean_gradient(self) -> dict[str, Tensor]:
        """Root mean square of ∇J at θˢ, by parameter."""
        leaves = {name: t[None].clone().requires_grad_() for name, t in self.theta.items()}
        with torch.enable_grad():
            for batch in self.batches:
                mapped(self.of_data(batch), leaves).sum().backward()
        return {name: _grad(t).square().mean().sqrt() for name, t in leaves.items()}


def solve(
    problem: Problem, members: Members, tolerance: float, steps: int, rounds: int, seed: int
) -> tuple[Stack, Float[Tensor, " s"]]:
    """The parameters where each solve ended, and the gradient norm there as a share of ε‖∇L(z_m)‖."""
    best = {name: t.expand(len(members.weight), *t.shape).clone() for name, t in problem.theta.items()}
    reached = torch.full_like(members.norm, math.inf)
    order = _order(len(problem.batches), seed)
    left = torch.arange(len(reached), device=reached.device)
    for number in range(rounds):
        some = members.take(left)
        start = {name: t[left] for name, t in best.items()}
        ended = _round(problem, some, start, round(steps * 1.5**number), FIRST_RATE * 0.3**number, order)
        grads = problem.gradient(ended, some)
        norms = torch.cat([grad.flatten(1) for grad in grads.values()], dim=1).norm(dim=1) / some.norm
        better = ~(norms >= reached[left])  # NaN counts: it is refused by whoever asked
        for name, tensor in best.items():
            tensor[left[better]] = ended[name][better]
        reached[left] = torch.where(better, norms, reached[left])
        left = (reached > tolerance).nonzero()[:, 0]
        if len(left) == 0:
            break
    return best, reached


def _round(
    problem: Problem, members: Members, start: Stack, steps: int, rate: float, order: Callable[[int], int]
) -> Stack:
    """Adam from ``start`` with a learning rate that falls from ``rate`` to `DECAY` of it."""
    width = {name: problem.epsilon * members.scale[name].view(-1, *[1] * (t.dim() - 1)) for name, t in start.items()}
    u = {name: torch.zeros_like(t).requires_grad_() for name, t in start.items()}
    optimiser = torch.optim.Adam(list(u.values()), lr=rate, betas=BETAS, eps=1e-10)
    for step in range(steps):
        batch = problem.batches[order(step)]
        optimiser.zero_grad()
        with torch.enable_grad():
            stack = {name: start[name] + width[name] * tensor for name, tensor in u.items()}
            value = mapped(problem.of_data(batch), stack) * len(problem.batches)
            value = value + members.weight * problem.point_losses(stack, members.points) + problem.proximity(stack)
            (value / members.unit).sum().backward()
        for group in optimiser.param_groups:
            group["lr"] = rate * DECAY ** (step / steps)
        optimiser.step()
    return {name: (start[name] + width[name] * tensor).detach() for name, tensor in u.items()}


def _order(batches: int, seed: int) -> Callable[[int], int]:
    """Which batch a step takes: every epoch all of them, in an order of its own that all solves share."""
    shuffled: dict[int, np.ndarray[Any, Any]] = {}

    def batch(step: int) -> int:
        epoch, place = divmod(step, batches)
        if epoch not in shuffled:
            shuffled[epoch] = np.random.default_rng([seed, epoch]).permutation(batches)
        return int(shuffled[epoch][place])

    return batch


def _grad(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad
