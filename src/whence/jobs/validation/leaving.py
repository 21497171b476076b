"""``whence validate retrain``: models trained without some examples, one at a time or several together.

Each is retrained from where training began, the definition, and trained on from the model as it is (warm start). For
one at a time the way from the definition down to the score is walked in five steps (`evaluate.decomposition`); a
proximal solve is of one example, so that several together have the two ends of that way alone. Their score is the sum
of their scores: to first order that is what leaving them out does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from whence.evaluate.decomposition import decompose, ladder
from whence.evaluate.retrain import leave_out
from whence.evaluate.statistics import mean_over_queries, pearson
from whence.jobs.chosen import Chosen
from whence.jobs.validation.agreement import agreement_of, table
from whence.jobs.validation.estimates import estimates, linearised
from whence.jobs.validation.judged import Judged
from whence.jobs.validation.points import drawn, response
from whence.jobs.validation.protocol import Protocol, bank_of, described


def leaving_out(of: Judged, protocol: Protocol, count: int) -> tuple[dict[str, Any], list[str]]:
    """What the check found, and its lines for a person."""
    return (_one_by_one if protocol.together == 1 else _together)(of, protocol, count)


def _one_by_one(of: Judged, protocol: Protocol, count: int) -> tuple[dict[str, Any], list[str]]:
    points, n = [one for (one,) in drawn(of, count)], of.data.sequences
    cold, warm = bank_of(of, protocol), bank_of(of, protocol, warm=True)
    solves = {name: response(of, points, objective=name, epsilon=1 / n) for name in ("loss", "bregman")}
    linear, solved = linearised(of, Chosen(of.data, points))
    made = estimates(of, Chosen(of.data, points))
    spread = {name: _spread(values, points, n) for name, values in (made.scores | {"linearised": linear}).items()}
    two = spread["linearised"], spread[of.method]
    rungs = ladder(cold, warm, solves["loss"], solves["bregman"], *two, of.parts, seeds=range(protocol.seeds))
    steps = decompose(rungs)
    agreement = {name: agreement_of(values, -rungs["retrained"]) for name, values in made.scores.items()}
    lines = [f"leaving out each of {len(points)} {of.unit}", *table(agreement, made.seconds), "", *steps.lines()]
    found = {
        **made.to_dict(),
        "agreement": agreement,
        "points": points,
        "decomposition": steps.to_dict(),
        "linearised": [one.to_dict() for one in solved],
        "solves": {name: solve.to_dict() for name, solve in solves.items()},
        **described(cold, of, protocol),
    }
    return found, lines


def _together(of: Judged, protocol: Protocol, count: int) -> tuple[dict[str, Any], list[str]]:
    groups, n = drawn(of, count, protocol.together), of.data.sequences
    cold, warm = bank_of(of, protocol), bank_of(of, protocol, warm=True)
    seeds, weights = range(protocol.seeds), leave_out(groups, n)
    members = sorted(one for group in groups for one in group)
    made = estimates(of, Chosen(of.data, members))
    whole = {name: _spread(values, members, n) for name, values in made.scores.items()}
    summed = {name: torch.stack([values[:, group].sum(1) for group in groups], 1) for name, values in whole.items()}
    retrained, warmed = (bank.change(weights, of.parts, seeds=seeds).T for bank in (cold, warm))
    agreement = {name: agreement_of(values, -retrained) for name, values in summed.items()}
    after = {name: agreement_of(values, -warmed) for name, values in summed.items()}
    rungs = {"retrained": retrained, "warm start": warmed, "estimator": -summed[of.method] / n}
    found = {
        **made.to_dict(),
        "agreement": agreement,
        "agreement_with_warm_start": after,
        "points": groups,
        "decomposition": {"gaps": [], **_rungs(rungs)},
        **described(cold, of, protocol),
    }
    what = f"leaving out each of {len(groups)} groups of {protocol.together} {of.unit}"
    lines = [
        what,
        *table(agreement, made.seconds),
        "",
        "trained on from the model instead",
        *table(after, made.seconds),
    ]
    return found, lines


def _rungs(rungs: Mapping[str, Tensor]) -> dict[str, Any]:
    top, *others = ((name, values.double().cpu().numpy()) for name, values in rungs.items())
    agree = {name: mean_over_queries(pearson(values, top[1])).to_dict() for name, values in others}
    return {"pearson_with_retraining": agree, "rungs": {name: values.tolist() for name, values in rungs.items()}}


def _spread(values: Tensor, points: Sequence[int], count: int) -> Tensor:
    whole = torch.zeros(len(values), count, dtype=torch.float64)
    whole[:, list(points)] = values.double().cpu()
    return whole
