"""Point removal and point addition: what a ranking of the training points is worth, by retraining and test accuracy.

    remove_worst   the most harmful go first     a good ranking keeps or raises accuracy
    remove_best    the most helpful go first     a good ranking loses accuracy soonest
    add_best       only the most helpful stay    a good ranking is soonest good again

Rankings: influence on the mean loss of the validation set (one query), the loss of each point, its self-influence,
and chance (several draws). Labels are those with 10 % flipped; the test set is clean. A removed point has weight
zero and all else stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.mislabelled.detect import DAMPINGS, TASK, accuracy, trained
from bench.mislabelled.sets import Flippable
from whence.data import TensorData
from whence.jobs.fit import fit
from whence.jobs.valuation.values import value

REMOVED = (0.1, 0.2, 0.3)
KEPT = (0.1, 0.3)
DRAWS, SEEDS = 2, 2


def worth(problem: Flippable, net: nn.Module, data: TensorData) -> dict[float, np.ndarray]:
    """Raw influence of each training point on minus the mean loss of the validation set: higher is more helpful.

    At several dampings, because the ranking of a net that was stopped early depends on it.
    """
    curvature = fit(net, data, task=TASK, layers="all")
    return {
        lam: value(curvature.with_damping(lam), data, problem.valid, model=net, task=TASK).raw[0].double().numpy()
        for lam in DAMPINGS
    }


def curves(problem: Flippable, data: TensorData, rankings: dict[str, np.ndarray], full: float) -> dict[str, Any]:
    """Test accuracy along each curve for each ranking (most helpful first), a mean over training seeds."""
    count = data.sequences
    orders = {name: [np.argsort(-values, kind="stable")] for name, values in rankings.items()}
    orders["random"] = [np.random.default_rng(draw).permutation(count) for draw in range(DRAWS)]
    wanted: list[tuple[str, str, float, Tensor]] = []
    for name, several in orders.items():
        for order in several:
            for share in REMOVED:
                k = round(share * count)
                wanted.append(("remove_worst", name, share, _kept(order[: count - k], count)))
                wanted.append(("remove_best", name, share, _kept(order[k:], count)))
            wanted += [("add_best", name, share, _kept(order[: round(share * count)], count)) for share in KEPT]
    weights = torch.stack([row for *_, row in wanted])
    rates = np.mean([_rates(problem, data, weights, seed) for seed in range(SEEDS)], axis=0)
    found: dict[str, Any] = {"all": round(full, 4), "training_seeds": SEEDS, "random_draws": DRAWS}
    for (curve, name, share, _), rate in zip(wanted, rates, strict=True):
        found.setdefault(curve, {}).setdefault(name, {}).setdefault(f"{share:g}", []).append(rate)
    for curve in ("remove_worst", "remove_best", "add_best"):
        for points in found[curve].values():
            points.update({share: round(float(np.mean(values)), 4) for share, values in points.items()})
    return found


def _rates(problem: Flippable, data: TensorData, weights: Tensor, seed: int) -> Sequence[float]:
    return [accuracy(net, problem.test) for net in trained(problem, data, weights, seed)]


def _kept(rows: np.ndarray, count: int) -> Tensor:
    weights = torch.zeros(count, dtype=torch.float64)
    weights[torch.from_numpy(rows.copy())] = 1
    return weights
