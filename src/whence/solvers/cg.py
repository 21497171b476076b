r"""Preconditioned conjugate gradient for many right-hand sides that share their products.

    α = ⟨r, z⟩ / ⟨p, A p⟩     x ← x + α p     r ← r − α A p     z = M⁻¹ r     β = ⟨r, z⟩' / ⟨r, z⟩     p ← z + β p

Each query has its own α and β, so its iterates are those it would have by itself; what is shared is the pass
over the data that gives all the products A p. A query that has converged leaves, and costs nothing more.

**Where it starts.** From x = 0 the first direction is M⁻¹ b, the preconditioner's own answer, taken with the best
step. After k products x is the best (in the norm of A) of all combinations of M⁻¹b, (M⁻¹A) M⁻¹b, … of k terms. To
*start at* M⁻¹ b costs a product for its residual and leaves a subset of these to choose from: never better. So the
warm start from EK-FAC is had for nothing, and ``start`` is for answers from elsewhere, such as another damping's.

Rounding is amplified from step to step (the directions lose their orthogonality), so that two runs over data cut
otherwise agree to the tolerance, not to the last digit; after five steps they still agree to nearly all of them.

Sources: Hestenes & Stiefel 1952; Shewchuk 1994; the link to Lanczos: Saad, Iterative Methods, section 6.7.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from whence.errors import NumericalError
from whence.solvers.algebra import Product, dot, norm, plus, rows
from whence.types import Gradients


@dataclass(frozen=True)
class Solution:
    """An answer, and how good it is."""

    x: Gradients
    residuals: Float[Tensor, " q"]
    """‖b − A x‖ / ‖b‖, as the recurrence has it: rounding makes the true one a little larger."""
    iterations: Int64[Tensor, " q"]
    products: int
    """Passes over the data, shared by all queries."""
    per_query: Int64[Tensor, " q"]
    """Products that each query took part in."""
    alphas: list[Float[Tensor, " q"]] = field(default_factory=list, repr=False)
    """Steps of each iteration; NaN once a query has converged."""
    betas: list[Float[Tensor, " q"]] = field(default_factory=list, repr=False)


def conjugate_gradient(
    product: Product,
    rhs: Gradients,
    *,
    precondition: Product | None = None,
    start: Gradients | None = None,
    tolerance: float,
    most: int,
) -> Solution:
    """Solve A x = b for every query.

    Args:
        product: x → A x, symmetric and positive definite (damped).
        precondition: r → M⁻¹ r, symmetric and positive definite; None for the identity.
        start: Where to begin, if not at zero; costs a product.
        tolerance: A query stops when its relative residual is at most this.
        most: Products at most, the start's included.

    Raises:
        NumericalError: If ⟨p, A p⟩ is not positive: A is not what it should be, or the numbers overflowed.
    """
    precondition = precondition or (lambda vector: vector)
    size = norm(rhs)
    x = {name: torch.zeros_like(part) if start is None else start[name].clone() for name, part in rhs.items()}
    r = dict(rhs) if start is None else plus(rhs, product(start), -1.0)
    products = 0 if start is None else 1
    left = norm(r)
    iterations = torch.zeros(len(size), dtype=torch.int64, device=size.device)
    live = (left > tolerance * size).nonzero()[:, 0]
    r = rows(r, live)
    z = precondition(r)
    p, rz = z, dot(r, z)
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    while len(live) and products < most:
        image = product(p)
        products += 1
        bend = dot(p, image)
        _refuse_unless_positive(bend)
        alpha = rz / bend
        for name, part in x.items():
            part[live] += alpha[:, None, None].to(part) * p[name]
        r = plus(r, image, -alpha)
        left[live] = norm(r)
        iterations[live] += 1
        z = precondition(r)
        rz, before = dot(r, z), rz
        beta = rz / before
        p = plus(z, p, beta)
        alphas.append(torch.full_like(size, torch.nan).index_copy(0, live, alpha))
        betas.append(torch.full_like(size, torch.nan).index_copy(0, live, beta))
        more = (left[live] > tolerance * size[live]).nonzero()[:, 0]
        if len(more) < len(live):
            live, r, p, rz = live[more], rows(r, more), rows(p, more), rz[more]
    relative = left / size.clamp(min=torch.finfo(torch.float64).tiny)
    taken = iterations + (0 if start is None else 1)
    return Solution(x, relative, iterations, products, taken, alphas, betas)


def _refuse_unless_positive(bend: Float[Tensor, " q"]) -> None:
    if bool((bend > 0).all()):
        return
    worst = float(bend[~(bend > 0)][0])
    raise NumericalError(
        f"conjugate gradient met a direction of curvature {worst:g}, in a matrix that should be positive definite",
        hint="run in float32 or float64, or raise the damping",
    )
