r"""The two ends of a spectrum, read off conjugate gradient's own steps, and what LiSSA's rule makes of them.

CG is Lanczos in disguise: its α and β are a tridiagonal matrix whose eigenvalues (Ritz values) approach those of
M⁻¹A from inside, the largest first.

    T_jj = 1/α_j + β_{j−1}/α_{j−1}        T_{j,j+1} = √β_j / α_j

**The rule** (Klochkov & Liu 2024, arXiv:2409.17357: step, batch and depth follow from trace and top eigenvalue;
the constants are derived here). One step x ← x + η (b − (G_S + Λ) x) on a random batch S multiplies the error by
I − η(G_S + Λ), and with E G_i² ⪯ C tr(G) G over sequences i,

    E (I − ηA_S)² ⪯ (I − ηA)² + η² C tr(G)/|S| · G ⪯ I − ηΛ      if  η ≤ 1/λ_max(A)  and  |S| ≥ η C tr(G)

so that T steps shrink it by (1 − ηλ)^T. The step is 1/λ_max(A), the batch 2η tr(G) (C = 2 for unequal sequences),
the depth ln(1/tolerance)/(ηλ); the published table of that work (λ = 5) has ηλT from 2 to 2.5: tolerance 0.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whence.solvers.algebra import Product, random_like
from whence.solvers.cg import Solution, conjugate_gradient
from whence.types import Gradients

MARGIN = 1.1
"""Ritz values come from inside the spectrum: after ten products the largest is short by a few per cent."""


def ritz_values(solution: Solution, query: int = 0) -> Float[Tensor, " k"]:
    """Eigenvalues of M⁻¹A as one query's CG saw them, ascending."""
    count = int(solution.iterations[query])
    alphas = torch.stack(solution.alphas)[:count, query]
    betas = torch.stack(solution.betas)[:count, query]
    diagonal = 1 / alphas
    diagonal[1:] += betas[:-1] / alphas[:-1]
    beside = betas[:-1].sqrt() / alphas[:-1]
    return torch.linalg.eigvalsh(diagonal.diag() + beside.diag(1) + beside.diag(-1))


def top_eigenvalue(
    product: Product, like: Gradients, *, precondition: Product | None = None, products: int = 10, seed: int = 0
) -> float:
    """λ_max of M⁻¹A, from one random vector; a few per cent above the largest Ritz value. Cost: ``products``."""
    solution = conjugate_gradient(
        product, random_like(like, 1, seed), precondition=precondition, tolerance=1e-12, most=products
    )
    return MARGIN * float(ritz_values(solution)[-1])


@dataclass(frozen=True)
class Rule:
    """How LiSSA is run."""

    step: float
    """η."""
    batch: int
    """Sequences a step."""
    depth: int
    """Steps that the rule asks for."""
    top: float
    """λ_max(G + Λ)."""
    trace: float
    """tr(G)."""


def rule(top: float, trace: float, dampings: Mapping[str, float], sequences: int, *, tolerance: float = 0.1) -> Rule:
    """Step, batch and depth from the spectrum.

    Args:
        top: λ_max(G + Λ).
        trace: tr(G): the sum of EK-FAC's eigenvalues, which is exact for the labels that it sampled.
        sequences: N; the batch is no larger.
        tolerance: What is left of the error along the least damped direction.
    """
    step = 1 / top
    batch = min(sequences, max(1, math.ceil(2 * step * trace)))
    depth = math.ceil(math.log(1 / tolerance) / (step * min(dampings.values())))
    return Rule(step, batch, depth, top, trace)
