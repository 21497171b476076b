"""(G + Λ)⁻¹ by any estimator: what turns a query's gradient into the direction that it asks about.

    fitted          the fitted curvature itself              no pass over the data
    ekfac_refined   five products of preconditioned CG       the best answer in their span (see `solvers.cg`)
    sampled         the Fisher at sampled labels, inverted exactly; for some thousand sequences
    sampled_refined five products of CG preconditioned by that
    cg              CG preconditioned by EK-FAC, to a tolerance
    exact           a direct solve; refused where neither side of R is small
    astra           EK-FAC-preconditioned stochastic Neumann iterations with momentum
    lissa           the same without preconditioner, tuned from trace and top eigenvalue

All of them invert the same G + Λ: Λ is λ_ℓ in layer ℓ, of the fitted curvature. G is an `Operator`'s. To add one: a
file with a `Solver`, and a line in `INVERSES`.
"""

from __future__ import annotations

from collections.abc import Callable

from whence.curvature.inverse.astra import Astra
from whence.curvature.inverse.cg import ConjugateGradient
from whence.curvature.inverse.exact import Exact, refuse_large
from whence.curvature.inverse.lissa import Lissa
from whence.curvature.inverse.sampled import Sampled, refuse_many
from whence.curvature.inverse.solver import Cost, Inverse, Report, Solver
from whence.curvature.operator import Operator

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

TOO_LARGE: dict[str, Callable[[Operator], None]] = {
    "exact": refuse_large,
    "sampled": refuse_many,
    "sampled_refined": refuse_many,
}
"""Name → what refuses an operator that cannot be solved so: the same as the solver, before anything is fitted."""

__all__ = [
    "INVERSES",
    "TOO_LARGE",
    "Astra",
    "ConjugateGradient",
    "Cost",
    "Exact",
    "Inverse",
    "Lissa",
    "Report",
    "Sampled",
    "Solver",
]
