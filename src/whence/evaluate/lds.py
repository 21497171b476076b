"""LDS, the linear datamodeling score: do sums of scores order retrained models as retraining does?

    draw random subsets of the training set, train a model on each, measure f of every query;
    for each query, Spearman over subsets between the measured f and the sum of the scores of the subset's members

Park et al. 2023, arXiv:2303.14186. The number depends on the protocol as much as on the method (fraction,
seeds, subsets, recipe), so every setting is part of the result. More seeds take training noise out of the
measured side, and so raise every method's score.
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
from whence.errors import DataError
from whence.evaluate.retrain import Bank, predicted, subsets
from whence.evaluate.statistics import Difference, Mean, mean_over_queries, paired, spearman


@dataclass(frozen=True)
class Lds:
    """The score of each method over the same subsets and queries."""

    per_query: Mapping[str, Float[Array, " q"]]
    means: Mapping[str, Mean]
    differences: Mapping[str, Difference]
    """Method → how far the best one is above it, over the same queries."""
    settings: Mapping[str, Any]
    """Everything the number depends on."""

    def lines(self) -> list[str]:
        """The table as text, best first, and the protocol below it."""
        width = max(map(len, self.means))
        order = sorted(self.means, key=lambda name: -self.means[name].value)
        lines = [f"{name:<{width}}  {self.means[name]}" for name in order]
        lines += [
            f"{order[0]} above {name}: {self.differences[name]}" for name in order[1:] if name in self.differences
        ]
        return [*lines, *(f"{name} = {value}" for name, value in self.settings.items())]

    def to_dict(self) -> dict[str, Any]:
        """JSON's types only."""
        return {
            "lds": {name: mean.to_dict() for name, mean in self.means.items()},
            "per_query": {name: [_number(x) for x in values] for name, values in self.per_query.items()},
            "best_above": {name: difference.to_dict() for name, difference in self.differences.items()},
            "settings": dict(self.settings),
        }


def lds(
    scores: Mapping[str, Float[Tensor, "q n"]],
    bank: Bank,
    queries: Sequence[QueryBatch],
    *,
    count: int = 200,
    fraction: float = 0.5,
    seeds: int = 1,
    seed: int = 0,
) -> Lds:
    """The linear datamodeling score of several methods, on models of one bank.

    Args:
        scores: Method → raw scores, positive where training more on an example raises the query's f.
        count: Subsets.
        fraction: Share of the training examples kept in each.
        seeds: Models trained on each subset, whose f is averaged.
        seed: Of the subsets.

    Raises:
        DataError: If scores are not one for each query and example.
    """
    weights = subsets(count, bank.size, fraction=fraction, seed=seed)
    measured = bank.measure(weights, queries, seeds=range(seeds)).T.numpy()
    per_query = {}
    for name, table in scores.items():
        if table.shape != (len(measured), bank.size):
            raise DataError(f"{name}: scores {tuple(table.shape)} are not [{len(measured)} queries, {bank.size}]")
        per_query[name] = spearman(predicted(table, weights).T.numpy(), measured)
    means = {name: mean_over_queries(values) for name, values in per_query.items()}
    best = max(means, key=lambda name: means[name].value)
    settings = {
        "subsets": count,
        "fraction": fraction,
        "seeds": seeds,
        "subset seed": seed,
        "examples": bank.size,
        "queries": len(measured),
        **bank.task.settings,
        **bank.recipe.settings,
    }
    others = {name: paired(per_query[best], values) for name, values in per_query.items() if name != best}
    return Lds(per_query, means, others, settings)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
