"""(G + Λ)⁻¹ by any estimator: what turns a query's gradient into the direction that it asks about.

    fitted          the fitted curvature itself              no pass over the data
    ekfac_refined   five products of preconditioned CG       the best answer in their span (see `solvers.cg`)
    sampled         the Fisher at sampled labels, inverted exactly; for some thousand sequences
    sampled_refined five products of CG preconditioned by that
    cg              CG preconditioned by EK-FAC, to a tolerance
    exact           a direct solve where one side of R is small, else CG to the last digits that the dtype has
    astra           EK-FAC-preconditioned stochastic Neumann iterations with momentum
    lissa           the same without preconditioner, tuned from trace and top eigenvalue

All of them invert the same G + Λ: Λ is λ_ℓ in layer ℓ, of the fitted curvature. G is an `Operator`'s. To add one: a
file with a `Solver`, and a line in `INVERSES`.
"""

from __future__ import annotations

from collections.abc import Callable

from whence.curvature.inverse.astra import Astra
from whence.curvature.inverse.cg import ConjugateGradient
from whence.curvature.inverse.exact import Exact
from whence.curvature.inverse.lissa import Lissa
from whence.curvature.inverse.sampled import Sampled
from whence.curvature.inverse.solver import Inverse, Report, Solver

INVERSES: dict[str, Callable[..., Solver]] = {
    "ekfac_refined": ConjugateGradient.few,
    "sampled": Sampled,
    "sampled_refined": Sampled.refined,
    "cg": ConjugateGradient,
    "exact": Exact,
    "astra": Astra,
    "lissa": Lissa,
}
"""Name → (curvature, operator) → a solver with its usual settings. The fitted curvature needs no entry."""

__all__ = ["INVERSES", "Astra", "ConjugateGradient", "Exact", "Inverse", "Lissa", "Report", "Sampled", "Solver"]
