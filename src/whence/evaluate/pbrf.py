r"""PBRF: the proximal Bregman response, what an influence score approximates without linearising the model.

    θˢ(ε) = argmin (1/N) Σ_i D_{L_i}(h(θ,x_i), h(θˢ,x_i)) + ε L(z_m, θ) + Σ_ℓ (λ_ℓ/2) ‖θ_ℓ − θˢ_ℓ‖²

    response_m = (f(θˢ(ε)) − f(θˢ(−ε))) / 2ε      → −∇fᵀ (G + Λ)⁻¹ ∇L(z_m), a raw score, as ε → 0

D is the Bregman divergence of the loss in output space (`tasks.outputs`). Each layer has the λ_ℓ of the curvature
that is judged; every parameter outside the tracked layers is frozen; one solve of a training point serves all
queries; many points, both signs and the ε = 0 control are solved side by side. The control's f is subtracted from
either side (in the half difference it cancels) and its drift, like each solve's final gradient norm, is reported.

Solved from θˢ to a stated gradient norm: see `proximal`.

With ``objective="loss"`` L_i takes the place of D_{L_i}: Bae et al.'s proximal step, where θˢ need not be a minimum.

Sources: Bae et al. 2022, arXiv:2209.05364; Grosse et al. 2023, arXiv:2308.03296, section 3.3.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from whence.curvature.inverse import Inverse
from whence.data.queries import QueryBatch
from whence.errors import InvalidSetting, NumericalError
from whence.evaluate.examples import collect, rows
from whence.evaluate.models import evaluating, measure
from whence.evaluate.proximal import Members, Objective, Problem, solve
from whence.layers import TrackedLayer
from whence.solvers.algebra import Product
from whence.types import Data, Progress, Task

SHARE_OF_A_COPY = 0.1
TINY = 1e-300
"""In place of the gradient norm of a point that has none."""


@dataclass(frozen=True)
class Responses:
    """What solving for each training point did to each query, in nats of f."""

    points: tuple[int, ...]
    epsilon: float
    plus: Float[Tensor, "q m"]
    """f at θˢ(ε)."""
    minus: Float[Tensor, "q m"]
    """f at θˢ(−ε)."""
    control: Float[Tensor, " q"]
    """f at ε = 0: θˢ itself under the Bregman objective, but for rounding."""
    before: Float[Tensor, " q"]
    """f at θˢ."""
    gradient_norms: Float[Tensor, "m 2"]
    """Of the objective where each solve (ε, −ε) stopped, as a share of ε‖∇L(z_m)‖."""
    tolerance: float
    seconds: float
    settings: Mapping[str, Any]

    @property
    def response(self) -> Float[Tensor, "q m"]:
        """df/dε by half the difference: on the scale and with the sign of raw scores."""
        return (self.plus - self.minus) / (2 * self.epsilon)

    @property
    def removal(self) -> Float[Tensor, "q m"]:
        """f(−ε) − f(0), control subtracted: what taking out ε of the point does to f, in nats."""
        return self.minus - self.control[:, None]

    @property
    def asymmetry(self) -> float:
        """Size of the even part of the response beside the odd one, control subtracted: 0 where f moves linearly."""
        even = self.plus + self.minus - 2 * self.control[:, None]
        odd = self.plus - self.minus
        return float(even.norm() / odd.norm()) if bool(odd.any()) else 0.0

    @property
    def drift(self) -> float:
        """How far the control moved f at most, in nats: 0 where θˢ stays put."""
        return float((self.control - self.before).abs().max())

    @property
    def converged(self) -> bool:
        """Whether every solve reached the stated gradient norm."""
        return self.short == 0

    @property
    def short(self) -> int:
        """How many solves stopped short of it."""
        return int((self.gradient_norms > self.tolerance).sum())

    def to_dict(self) -> dict[str, Any]:
        """JSON's types only."""
        return {
            "points": list(self.points),
            "epsilon": self.epsilon,
            "response": self.response.tolist(),
            "asymmetry": self.asymmetry,
            "control_drift": self.drift,
            "gradient_norm": {
                "tolerance": self.tolerance,
                "largest": float(self.gradient_norms.max()),
                "median": float(self.gradient_norms.median()),
                "solves": self.gradient_norms.numel(),
                "short": self.short,
                "converged": self.converged,
            },
            "seconds": self.seconds,
            "settings": dict(self.settings),
        }


def pbrf(
    model: nn.Module,
    layers: Sequence[TrackedLayer],
    dampings: Mapping[str, float],
    data: Data,
    task: Task,
    queries: Sequence[QueryBatch],
    points: Sequence[int],
    *,
    inverse: Inverse | None = None,
    epsilon: float | None = None,
    objective: Objective = "bregman",
    tolerance: float = 2e-3,
    most: int = 300,
    at_once: int | None = None,
    progress: Progress | None = None,
) -> Responses:
    """Solve the proximal Bregman objective for each of some training points, and measure every query there.

    Args:
        layers: What may move; the rest of the model is frozen. `Curvature.tracked` gives a curvature's.
        dampings: λ of each layer: `Curvature.dampings`.
        data: The N examples of the mean. Every step of a solve reads all of them.
        points: Sequence numbers of z_m.
        inverse: The metric of the steps, a fitted curvature or any other solver of (G + Λ)⁻¹: a good one makes a solve
            shorter, and none changes where it ends. Λ⁻¹ when not given.
        epsilon: Weight added to z_m and taken from it; a tenth of a copy, 0.1/N, when not given. A whole copy moves
            an overfitted model far from linearly (`Responses.asymmetry` says how far).
        tolerance: Of the final gradient norm, as a share of ε‖∇L(z_m)‖.
        most: Gradients a solve may take. What has not converged by then is said so in the result, not refused.
        at_once: Solves side by side; as many as fit into memory when not given. Changes speed alone.
        progress: Told after each gradient how many were taken, of the most that all solves may take; those side by
            side share them.

    Raises:
        InvalidSetting: If the task has no known outputs, or a number is not positive.
        NumericalError: If a solve becomes NaN or inf; names the point.
    """
    count = data.sequences
    epsilon = SHARE_OF_A_COPY / count if epsilon is None else epsilon
    for name, value in {"epsilon": epsilon, "tolerance": tolerance, "most": most}.items():
        if not value > 0:
            raise InvalidSetting(f"{name} must be positive, not {value}")
    if not points:
        raise InvalidSetting("no training point was chosen to solve for")
    began = time.perf_counter()
    problem = Problem(model, layers, dampings, data, task, objective)
    metric = _undamped(dampings) if inverse is None else inverse.solve
    with evaluating(model):
        at_solutions, reached, taken = _solve_all(
            problem, data, queries, list(points), metric, epsilon, tolerance, most, at_once, progress
        )
    last = len(points) - 1
    before = measure(task, model, {name: t[None] for name, t in problem.theta.items()}, queries)[0]
    settings = {
        "objective": objective,
        "epsilon": epsilon,
        "tolerance": tolerance,
        "most": most,
        "metric": "damping" if inverse is None else inverse.name,
        "examples": count,
        "dtype": str(next(iter(problem.theta.values())).dtype).removeprefix("torch."),
        "gradients_taken": {"largest": int(taken.max()), "median": int(taken.median())},
        "control_gradient_norm": float(reached[-1]),
    }
    return Responses(
        points=tuple(int(point) for point in points),
        epsilon=epsilon,
        plus=at_solutions[:, : last + 1],
        minus=at_solutions[:, last + 1 : -1],
        control=at_solutions[:, -1],
        before=before,
        gradient_norms=reached[:-1].view(2, -1).T,
        tolerance=tolerance,
        seconds=time.perf_counter() - began,
        settings=settings,
    )


def _undamped(dampings: Mapping[str, float]) -> Product:
    """Λ⁻¹."""
    return lambda grads: {name: part / dampings[name] for name, part in grads.items()}


def _solve_all(
    problem: Problem,
    data: Data,
    queries: Sequence[QueryBatch],
    points: Sequence[int],
    metric: Product,
    epsilon: float,
    tolerance: float,
    most: int,
    at_once: int | None,
    progress: Progress | None,
) -> tuple[Float[Tensor, "q s"], Float[Tensor, " s"], Int64[Tensor, " s"]]:
    """Query measurements, gradient norms and their number: ε for every point, then −ε, then the control."""
    chosen = collect(data, points).to(problem.device)
    norm = epsilon * problem.norms(chosen, at_once).clamp_min(TINY)
    each = list(range(len(points)))
    place = torch.tensor([*each, *each, int(norm.argmax())], device=problem.device)
    sign = torch.tensor([1.0] * len(points) + [-1.0] * len(points) + [0.0], device=problem.device)
    weight = (epsilon * sign).to(next(iter(problem.theta.values())))
    found, norms, taken = [], [], []
    chunks = torch.arange(len(place)).split(at_once or problem.at_once())
    for number, part in enumerate(chunks):
        member = place[part]
        members = Members(rows(chosen, member), weight[part], norm[member])
        ended = solve(problem, members, metric, tolerance, most, _of_chunk(progress, number, len(chunks)))
        reached = ended.norms / members.norm
        _refuse_nonfinite(reached, member, data, points)
        stack = problem.parameters(ended.x)
        found.append(measure(problem.task, problem.model, stack, queries, at_once=at_once))
        norms.append(reached.cpu())
        taken.append(ended.evaluations.cpu())
    return torch.cat(found).T, torch.cat(norms), torch.cat(taken)


def _of_chunk(progress: Progress | None, number: int, chunks: int) -> Progress | None:
    """Progress of one group of solves side by side, among all: each may take as many gradients."""
    return None if progress is None else lambda taken, most: progress(number * most + taken, chunks * most)


def _refuse_nonfinite(reached: Tensor, member: Tensor, data: Data, points: Sequence[int]) -> None:
    bad = (~torch.isfinite(reached)).nonzero()
    if len(bad):
        point = int(points[int(member[int(bad[0, 0])])])
        raise NumericalError(
            f"the solve for {data.name(point)} became NaN or inf",
            hint="take a smaller epsilon or a larger damping",
        )
