r"""Stochastic Neumann iterations: LiSSA, and with EK-FAC as preconditioner ASTRA.

    r = b − (G_S + Λ) x        m ← γ m + M⁻¹ r        x ← x + α m

    LiSSA   M = I, γ = 0, x₀ = 0         Agarwal et al. 2017; Koh & Liang 2017 (their scale is 1/α)
    ASTRA   M = EK-FAC + Λ, γ = 0.9, x₀ = M⁻¹ b, α halved every 50 steps      Wang et al. 2025, arXiv:2507.14740

G_S is the curvature of a random batch S, drawn anew each step and shared by all queries. Both are gradient descent on
½ xᵀAx − bᵀx. They converge to the solution itself when S is everything, and to a neighbourhood of it otherwise.

**Divergence.** For a stable step ‖x‖ never exceeds ‖b‖/λ_min; an iterate that is ten times as long, or not finite,
raises. A step is unstable where α times the top eigenvalue of some batch's M⁻¹A exceeds 2(1 + γ).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from whence.errors import NumericalError
from whence.solvers.algebra import Product, norm, plus, times
from whence.types import Gradients

BatchProduct = Callable[[int, Gradients], Gradients]
"""(step number, x) → G_S x, undamped, over that step's batch."""
SLACK = 10.0


def neumann(
    product: BatchProduct,
    rhs: Gradients,
    dampings: Mapping[str, float],
    *,
    steps: int,
    step_size: float,
    precondition: Product | None = None,
    momentum: float = 0.0,
    halve_every: int | None = None,
    start: Gradients | None = None,
) -> Gradients:
    """Iterate towards (G + Λ)⁻¹ b, all queries sharing each batch.

    Args:
        product: What depends on the step alone, not on x: the same call gives the same answer.
        step_size: α.
        momentum: γ.
        halve_every: Steps after which α is halved, again and again; None keeps it.
        start: x₀; zero by default.

    Raises:
        NumericalError: If it diverges, naming the step and the top eigenvalue that it would suit.
    """
    x = times(rhs, 0.0) if start is None else dict(start)
    moving: Gradients | None = None
    longest = norm(rhs) / min(dampings.values())
    if start is not None:
        longest = torch.maximum(longest, norm(start))
    for step in range(steps):
        image = product(step, x)
        left = {name: rhs[name] - image[name] - dampings[name] * part for name, part in x.items()}
        move = left if precondition is None else precondition(left)
        moving = move if moving is None or momentum == 0 else plus(move, moving, momentum)
        size = step_size if halve_every is None else step_size * 0.5 ** (step // halve_every)
        x = plus(x, moving, size)
        _refuse_divergence(norm(x), longest, step, size, momentum)
    return x


def refuse_useless(residuals: Float[Tensor, " q"], start: float, step_size: float) -> None:
    """Raise where the answer is far worse than none: the batch was too small for the step.

    Args:
        residuals: ‖b − A x‖ / ‖b‖ at the end.
        start: The same where the iteration began: 1 for x = 0.
    """
    worst = float(residuals.max())
    if not worst <= SLACK * max(1.0, start):
        raise NumericalError(
            f"the iteration ended with a residual of {worst:.3g} times the right-hand side",
            hint=f"use larger batches, a step below {step_size:.3g}, more damping, or conjugate gradient",
        )


def _refuse_divergence(length: Tensor, longest: Tensor, step: int, size: float, momentum: float) -> None:
    if bool((length <= SLACK * longest).all()):
        return
    query = int((~(length <= SLACK * longest)).nonzero()[0, 0])
    suits = 2 * (1 + momentum) / size
    shown = float(length[query])
    raise NumericalError(
        f"query {query} diverged at step {step + 1}: its answer is {shown if math.isfinite(shown) else 'not finite'} "
        f"long, where {float(longest[query]):.3g} is the most there can be; a step of {size:.3g} suits top "
        f"eigenvalues below {suits:.3g}, and some batch's is larger",
        hint="use a smaller step or larger batches, more damping, or conjugate gradient (`cg`)",
    )
