"""Why an influence score is not leave-one-out retraining: five steps down the ladder of truth, one gap each.

    retrained from the start without z    minus the same with z          the definition
      ↓ warm start       train on from θˢ instead
    warm start
      ↓ proximity        stay near θˢ: (λ/2)‖θ − θˢ‖²
    proximal
      ↓ non-convergence  θˢ is no minimum: Bregman divergences in place of losses
    PBRF
      ↓ linearisation    one linear solve with the exact Gauss-Newton matrix
    linearised
      ↓ solver           an approximate solve: EK-FAC, LiSSA, CG
    estimator

Every rung is the change of each query's f, in nats, when one training point is taken out (weight 1 → 0, which is
ε = −1/N), control subtracted.

Source: Bae et al. 2022, arXiv:2209.05364, section 4; there the rungs are compared by their outputs, here by f.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array
from torch import Tensor

from whence.data.queries import QueryBatch
from whence.errors import DataError, InvalidSetting
from whence.evaluate.pbrf import Responses
from whence.evaluate.retrain import Bank, leave_out
from whence.evaluate.statistics import Mean, mean_over_queries, pearson, spearman

RUNGS = ("retrained", "warm start", "proximal", "pbrf", "linearised", "estimator")
GAPS = ("warm start", "proximity", "non-convergence", "linearisation", "solver")


@dataclass(frozen=True)
class Gap:
    """What one step down costs."""

    name: str
    above: str
    below: str
    difference: float
    """Root mean square of the difference over queries and points, in nats."""
    share: float
    """The same over the root mean square of the rung above."""
    pearson: Mean
    """Between the two rungs, over points, averaged over queries."""
    spearman: Mean


@dataclass(frozen=True)
class Decomposition:
    """The rungs, the gaps between them, and how each rung agrees with the definition."""

    rungs: Mapping[str, Float[Array, "q m"]]
    gaps: tuple[Gap, ...]
    with_retraining: Mapping[str, Mean]
    """Rung → Pearson with retraining from the start, over points, averaged over queries."""

    def lines(self) -> list[str]:
        """The table as text."""
        head = f"{'gap':<16}{'difference':>12}{'share':>8}  {'Pearson':<24}{'Spearman':<24}"
        rows = [
            f"{gap.name:<16}{gap.difference:>12.3g}{gap.share:>8.2f}  {gap.pearson!s:<24}{gap.spearman!s:<24}".rstrip()
            for gap in self.gaps
        ]
        agreement = [f"{name} with retraining: {mean}" for name, mean in self.with_retraining.items()]
        return [head.rstrip(), *rows, *agreement]

    def to_dict(self) -> dict[str, Any]:
        """JSON's types only; the rungs are there for a figure."""
        return {
            "gaps": [
                {
                    "gap": gap.name,
                    "above": gap.above,
                    "below": gap.below,
                    "difference_nats": gap.difference,
                    "share": gap.share,
                    "pearson": gap.pearson.to_dict(),
                    "spearman": gap.spearman.to_dict(),
                }
                for gap in self.gaps
            ],
            "pearson_with_retraining": {name: mean.to_dict() for name, mean in self.with_retraining.items()},
            "rungs": {name: values.tolist() for name, values in self.rungs.items()},
        }


def decompose(rungs: Mapping[str, Float[Tensor, "q m"]]) -> Decomposition:
    """The gaps between the rungs of `RUNGS`, from the change of f that each says taking a point out makes.

    Raises:
        DataError: If a rung is missing, or they are not of one shape.
    """
    missing = [name for name in RUNGS if name not in rungs]
    if missing or len({tuple(rungs[name].shape) for name in RUNGS}) != 1:
        raise DataError(f"the ladder needs {', '.join(RUNGS)}, all of one shape", hint="see `ladder`")
    values = {name: rungs[name].double().cpu().numpy() for name in RUNGS}
    gaps = tuple(
        _gap(name, above, below, values) for name, above, below in zip(GAPS, RUNGS[:-1], RUNGS[1:], strict=True)
    )
    top = values[RUNGS[0]]
    return Decomposition(values, gaps, {name: mean_over_queries(pearson(values[name], top)) for name in RUNGS[1:]})


def ladder(
    cold: Bank,
    warm: Bank,
    proximal: Responses,
    bregman: Responses,
    linearised: Float[Tensor, "q n"],
    estimator: Float[Tensor, "q n"],
    queries: Sequence[QueryBatch],
    *,
    seeds: Sequence[int] = (0,),
) -> dict[str, Float[Tensor, "q m"]]:
    """Every rung for the training points that were solved for.

    Args:
        cold: Retrains from where training began.
        warm: Trains on from θˢ, over the same examples.
        proximal: `pbrf` with ``objective="loss"`` and ε = 1/N.
        bregman: `pbrf` with ``objective="bregman"``, same points and ε.
        linearised: Raw scores by an exact solve with the Gauss-Newton matrix.
        estimator: Raw scores of the estimator that is judged.
        seeds: Of the retrainings, averaged.

    Raises:
        InvalidSetting: If the two solves are of other points, or their ε is not 1/N.
    """
    count = cold.size
    for solve in (proximal, bregman):
        if solve.points != bregman.points or abs(solve.epsilon * count - 1) > 1e-9:
            raise InvalidSetting(
                "the solves are not of the same points taken out whole", hint=f"give both epsilon = 1/{count}"
            )
    points = list(bregman.points)
    weights = leave_out([[point] for point in points], count)
    return {
        "retrained": cold.change(weights, queries, seeds=seeds).T,
        "warm start": warm.change(weights, queries, seeds=seeds).T,
        "proximal": proximal.removal,
        "pbrf": bregman.removal,
        "linearised": -linearised[:, points].double().cpu() / count,
        "estimator": -estimator[:, points].double().cpu() / count,
    }


def _gap(name: str, above: str, below: str, values: Mapping[str, Array]) -> Gap:
    a, b = values[above], values[below]
    difference, size = float(np.sqrt(np.square(a - b).mean())), float(np.sqrt(np.square(a).mean()))
    agreement = (mean_over_queries(measure(a, b)) for measure in (pearson, spearman))
    return Gap(name, above, below, difference, difference / size if size > 0 else float("nan"), *agreement)
