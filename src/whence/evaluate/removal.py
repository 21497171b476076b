"""Removal: take out what a method says a query owes most, retrain, and see what becomes of the query.

    rise = L_query without the top k − L_query with everything = f(1) − f(w)        in nats, averaged over seeds

QLD, the query loss difference, is the mean rise over queries at the top 1 %. A rise only means something beside
that of a random k; both are reported, and the paired difference over queries.

For data valuation the examples are ordered once for all queries: `value_curve` removes them from the worst end,
or adds them from the best, and retrains at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray as Array
from torch import Tensor

from whence.data.queries import QueryBatch
from whence.errors import DataError, InvalidSetting
from whence.evaluate.models import Stack
from whence.evaluate.retrain import Bank, leave_out
from whence.evaluate.statistics import Difference, Mean, mean_over_queries, paired

RANDOM = "random"


@dataclass(frozen=True)
class Removal:
    """How much each query's own loss rises without its top k, by method."""

    rises: Mapping[str, Float[Array, " q"]]
    """Method → nats; ``random`` among them, the mean over its draws."""
    means: Mapping[str, Mean]
    above_random: Mapping[str, Difference]
    settings: Mapping[str, Any]

    def lines(self) -> list[str]:
        """The table as text, the largest rise first, and the protocol below it."""
        width = max(map(len, self.means))
        lines = []
        for name in sorted(self.means, key=lambda name: -self.means[name].value):
            beside = f"   above random {self.above_random[name]}" if name in self.above_random else ""
            lines.append(f"{name:<{width}}  {self.means[name]} nats{beside}")
        return [*lines, *(f"{name} = {value}" for name, value in self.settings.items())]

    def to_dict(self) -> dict[str, Any]:
        """JSON's types only."""
        return {
            "rise": {name: mean.to_dict() for name, mean in self.means.items()},
            "per_query": {name: values.tolist() for name, values in self.rises.items()},
            "above_random": {name: difference.to_dict() for name, difference in self.above_random.items()},
            "settings": dict(self.settings),
        }


def removal(
    scores: Mapping[str, Float[Tensor, "q n"]],
    bank: Bank,
    queries: Sequence[QueryBatch],
    *,
    share: float = 0.01,
    draws: int = 8,
    seeds: int = 1,
    seed: int = 0,
) -> Removal:
    """Retrain without each query's top share by each method, and without as many drawn at random.

    Args:
        scores: Method → raw scores; the highest are removed. A model is trained for each query and method.
        share: Of the training examples, at least one of them.
        draws: Random removals, the same for all queries.
        seeds: Models trained on each, averaged.
        seed: Of the random removals.

    Raises:
        DataError: If scores are not one for each query and example; InvalidSetting: if nothing would be left.
    """
    k = max(1, round(share * bank.size))
    if k >= bank.size or draws < 1:
        raise InvalidSetting(f"removing {k} of {bank.size} examples, {draws} random draws", hint="lower the share")
    before = bank.measure(bank.everything, queries, seeds=range(seeds))[0]
    rises: dict[str, Array] = {}
    for name, table in scores.items():
        if table.shape != (len(before), bank.size):
            raise DataError(f"{name}: scores {tuple(table.shape)} are not [{len(before)} queries, {bank.size}]")
        top = table.cpu().topk(k, dim=1).indices.tolist()
        after = bank.measure(leave_out(top, bank.size), queries, seeds=range(seeds))
        rises[name] = (before - after.diagonal()).numpy()
    drawn = [np.random.default_rng([seed, draw]).choice(bank.size, k, replace=False).tolist() for draw in range(draws)]
    after = bank.measure(leave_out(drawn, bank.size), queries, seeds=range(seeds))
    rises[RANDOM] = (before - after.mean(0)).numpy()
    settings = {
        "removed": k,
        "examples": bank.size,
        "share": share,
        "random draws": draws,
        "seeds": seeds,
        "queries": len(before),
        **bank.task.settings,
        **bank.recipe.settings,
    }
    means = {name: mean_over_queries(values) for name, values in rises.items()}
    return Removal(rises, means, {name: paired(rises[name], rises[RANDOM]) for name in scores}, settings)


def value_curve(
    values: Float[Tensor, " n"],
    bank: Bank,
    judge: Callable[[Stack], Float[Tensor, " s"]],
    fractions: Sequence[float],
    *,
    way: Literal["remove", "add"] = "remove",
    seeds: int = 1,
) -> Float[Tensor, " f"]:
    """What a model trained on part of the data is worth, as the part changes.

    Args:
        values: Of each example, higher is better. Ties go by number.
        judge: Models → a number each, such as accuracy on a test set.
        fractions: ``remove``: how much of the data is taken out, the lowest values first. ``add``: how much is
            trained on, the highest values first.
        seeds: Averaged.
    """
    order = torch.sort(values.double().cpu(), stable=True, descending=way == "add").indices
    weights = torch.full((len(fractions), bank.size), float(way == "remove"), dtype=torch.float64)
    for row, fraction in enumerate(fractions):
        weights[row, order[: round(fraction * bank.size)]] = float(way == "add")
    if not weights.any(dim=1).all():
        raise InvalidSetting(f"one of the fractions {list(fractions)} leaves nothing to train on")
    judged = [judge(bank.models(weights, seed=seed)).double().cpu() for seed in range(seeds)]
    return torch.stack(judged).mean(0)
