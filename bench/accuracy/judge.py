"""Every estimator on one problem, against PBRF with the same λ a layer: Pearson a query, averaged; processor seconds.

A query is a test example, f its log-likelihood. Seconds are for all queries: what a curvature costs to fit, to solve
and to score the training points, and for PBRF its solves. EK-FAC's fit is counted in whatever is preconditioned by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.accuracy.tasks import Problem
from whence.curvature import Curvature
from whence.curvature.ggn import GaussNewton
from whence.curvature.inverse import INVERSES, Inverse
from whence.data.queries import QueryBatch
from whence.errors import WhenceError
from whence.evaluate.pbrf import pbrf
from whence.evaluate.statistics import mean_over_queries, pearson, spearman
from whence.influence.query import Queries
from whence.jobs.fit import fit
from whence.jobs.query import query_gradients
from whence.jobs.refine import make_inverse, query_vectors, refined_queries
from whence.jobs.score import score, self_influence

DAMPING = 0.1
SWEEP = (0.01, 0.1, 1.0, 10.0)
FITTED = ("diagonal", "kfac", "ekfac")
SOLVED = ("ekfac_refined", "astra", "lissa", "cg", "exact")


def judge(problem: Problem, say: Callable[[str], None]) -> dict[str, Any]:
    """One task's entry of accuracy.json."""
    draw = torch.Generator().manual_seed(1)
    points = torch.randperm(problem.data.sequences, generator=draw)[: problem.points].tolist()
    asked = torch.randperm(problem.test.sequences, generator=draw)[: problem.queries].tolist()
    queries = _queries(problem, asked)
    ekfac = _fit(problem, "ekfac")
    scores, seconds, notes = estimates(problem, queries, points, say)
    say(f"{problem.name}: pbrf")
    truth, seconds["pbrf"] = timed(
        lambda: pbrf(
            problem.model,
            ekfac.tracked(problem.model),
            ekfac.dampings,
            problem.data,
            problem.task,
            queries,
            points,
            blocks=ekfac.blocks,
            steps=problem.steps,
        )
    )
    response = truth.response.double().numpy()
    rows = {name: found.double().numpy() for name, found in scores.items()}
    say(f"{problem.name}: ablation")
    sweep = {str(value): _ablation(problem, ekfac, queries, value) for value in SWEEP} if problem.ablate else {}
    return {
        "task": problem.name,
        "note": problem.note,
        "trained": {k: v for k, v in vars(problem.trained).items() if k != "model"},
        "points": problem.points,
        "queries": problem.queries,
        "train": problem.data.sequences,
        "damping": DAMPING,
        "pearson_with_pbrf": {name: float(np.nanmean(pearson(found, response))) for name, found in rows.items()},
        "interval": {name: _interval(pearson(found, response)) for name, found in rows.items()},
        "spearman_with_pbrf": {name: float(np.nanmean(spearman(found, response))) for name, found in rows.items()},
        "pearson_with_exact": {
            name: float(np.nanmean(pearson(found, rows["exact"]))) for name, found in rows.items() if "exact" in rows
        },
        "damping_sweep": sweep,
        "seconds": seconds,
        "notes": notes,
        "pbrf": {k: v for k, v in truth.to_dict().items() if k not in ("response", "points")},
    }


def estimates(
    problem: Problem, queries: list[QueryBatch], points: list[int], say: Callable[[str], None]
) -> tuple[dict[str, Tensor], dict[str, float], dict[str, str]]:
    """Method → scores ``[q m]`` of the points, seconds, and what a solver had to say."""
    scores, seconds, notes = {}, {}, {}
    model, task, data = problem.model, problem.task, problem.data
    say(f"{problem.name}: gradient_dot")
    identity, spent = timed(lambda: _fit(problem, "identity"))
    dot, more = timed(lambda: _score(problem, identity, query_gradients(identity, model, queries, task=task)))
    own, norms = timed(lambda: self_influence(identity, data, model=model, task=task))
    scores["gradient_dot"], seconds["gradient_dot"] = dot[:, points], spent + more
    scores["cosine"] = (dot / own.sqrt().clamp(min=1e-30))[:, points]
    seconds["cosine"] = spent + more + norms
    ekfac, fitted = timed(lambda: _fit(problem, "ekfac"))
    for name in FITTED:
        say(f"{problem.name}: {name}")
        made, fitting = (ekfac, fitted) if name == "ekfac" else timed(lambda name=name: _fit(problem, name))
        curvature = made.with_damping(ekfac.dampings)  # all invert the same Λ
        found, more = timed(lambda c=curvature: _score(problem, c, _asked(problem, c, queries)))
        scores[name], seconds[name] = found[:, points], fitting + more
    for name in SOLVED:
        say(f"{problem.name}: {name}")
        try:
            inverse = _inverse(problem, name, ekfac)
            (found, reports), spent = timed(lambda inverse=inverse: _solved(problem, inverse, ekfac, queries))
        except WhenceError as error:
            notes[name] = str(error)
            continue
        scores[name] = found[:, points]
        seconds[name] = spent + (0 if name == "lissa" else fitted)
        notes[name] = "; ".join(str(report) for report in reports)
    return scores, seconds, notes


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its processor seconds."""
    began = time.process_time()
    found = call()
    return found, time.process_time() - began


def _fit(problem: Problem, curvature: str) -> Curvature:
    return fit(
        problem.model, problem.data, task=problem.task, layers=problem.layers, curvature=curvature, damping=DAMPING
    )


def _score(problem: Problem, curvature: Curvature, queries: Queries) -> Tensor:
    found = score(curvature, queries, problem.data, model=problem.model, task=problem.task)
    assert found is not None
    return found.total


def _asked(problem: Problem, curvature: Curvature, queries: list[QueryBatch]) -> Queries:
    return query_gradients(curvature, problem.model, queries, task=problem.task, rank="full")


def _inverse(problem: Problem, name: str, ekfac: Curvature) -> Inverse:
    return make_inverse(name, ekfac, problem.model, task=problem.task, data=problem.data)


def _solved(
    problem: Problem, inverse: Inverse, ekfac: Curvature, queries: list[QueryBatch]
) -> tuple[Tensor, list[Any]]:
    solved, reports = refined_queries(inverse, ekfac, problem.model, queries, task=problem.task, rank="full")
    return _score(problem, ekfac, solved), reports


def _ablation(problem: Problem, ekfac: Curvature, queries: list[QueryBatch], value: float) -> dict[str, float]:
    """How close block-diagonal G, EK-FAC and K-FAC are to the exact solve at another damping."""
    damped = ekfac.with_damping(value)
    truth, _ = _solved(problem, _inverse(problem, "exact", damped), damped, queries)
    kfac = _fit(problem, "kfac").with_damping(damped.dampings)
    found = {"block_diagonal": _blocks(problem, damped, queries)}
    for name, curvature in (("ekfac", damped), ("kfac", kfac)):
        found[name] = _score(problem, curvature, _asked(problem, curvature, queries))
    exact = truth.double().numpy()
    return {name: float(np.nanmean(pearson(scores.double().numpy(), exact))) for name, scores in found.items()}


def _blocks(problem: Problem, ekfac: Curvature, queries: list[QueryBatch]) -> Tensor:
    """Scores with each layer's own block of G solved exactly, the blocks between layers left out."""
    model, task = problem.model, problem.task
    layers = ekfac.tracked(model)
    grads, measured = query_vectors(model, layers, queries, range(problem.queries), task)
    solved = {}
    for layer in layers:
        name = layer.name
        alone = replace(ekfac, blocks={name: ekfac.blocks[name]}, reads={name: ekfac.reads[name]}).with_damping(
            {name: ekfac.dampings[name]}
        )
        inverse = INVERSES["exact"](alone, GaussNewton(model, (layer,), task, problem.data))
        solved[name] = inverse.solve({name: grads[name]})[name]
    return _score(problem, ekfac, Queries(solved, torch.zeros(problem.queries), measured, None))


def _queries(problem: Problem, asked: list[int]) -> list[QueryBatch]:
    place = {sequence: number for number, sequence in enumerate(asked)}
    return [
        QueryBatch(batch, torch.tensor([place[int(one)] for one in batch.ids]), torch.ones(len(batch)))
        for batch in problem.test.gather(asked)
    ]


def _interval(values: Any) -> list[float]:
    interval = mean_over_queries(values).interval
    return [interval.low, interval.high]
