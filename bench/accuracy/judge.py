"""Every estimator on one problem, against PBRF with the same λ a layer: correlations a query, averaged; seconds.

A query is a test example, f its log-likelihood. Estimators run as a user would run them, in float32; what they are held
against, PBRF and the exact solve, in float64. Seconds are processor seconds for all queries: what a curvature costs to
fit, to solve and to score the training points. EK-FAC's fit is counted in whatever is preconditioned by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.accuracy.methods import DAMPING, Estimate, asked_of, fitted, queries_of, scored_by, solved_by
from bench.accuracy.tasks import SWEEP, Problem
from bench.accuracy.wide import Wide
from bench.timing import timed
from whence.curvature import Curvature
from whence.curvature.ggn import GaussNewton
from whence.curvature.inverse import Lissa
from whence.curvature.inverse.exact import FEW
from whence.data.queries import QueryBatch
from whence.errors import WhenceError
from whence.evaluate.pbrf import Responses
from whence.evaluate.statistics import mean_over_queries, pearson, spearman
from whence.jobs.query import query_gradients
from whence.jobs.refine import make_inverse
from whence.jobs.score import self_influence

FITTED = ("diagonal", "kfac", "ekfac")
FEW_LABELS = 10
"""Outputs up to which EK-FAC is also fitted at every label in turn, without sampling noise."""
SOLVED = ("ekfac_refined", "astra", "lissa", "cg", "exact")

Say = Callable[[str], None]


def judge(problem: Problem, say: Say) -> dict[str, Any]:
    """One task's entry of accuracy.json."""
    draw = torch.Generator().manual_seed(1)
    points = torch.randperm(problem.data.sequences, generator=draw)[: problem.points].tolist()
    asked = torch.randperm(problem.test.sequences, generator=draw)[: problem.queries].tolist()
    ekfac = fitted(problem, "ekfac")
    say(f"{problem.name}: trained, {problem.trained.to_dict()}")
    wide = Wide.of(problem, ekfac, asked)
    say(f"{problem.name}: exact matrix in {wide.seconds:.0f} s")
    found, notes = estimates(problem, queries_of(problem.test, asked), say)
    _exact(problem, wide, found, notes)
    truths: dict[float, Responses] = {}
    records: dict[str, dict[str, Any]] = {}
    for multiple in problem.solved_at:
        truths[multiple], spent = timed(lambda multiple=multiple: wide.responses(multiple, points, problem.most))
        records[str(multiple)] = _truth(truths[multiple], spent)
        if not truths[multiple].converged:
            half = wide.responses(multiple, points, problem.most // 2)
            records[str(multiple)]["halfway"] = _halfway(half, truths[multiple])
        say(f"{problem.name}: pbrf at {multiple}: {truths[multiple].to_dict()['gradient_norm']}")
    truth = truths[DAMPING].response.numpy()
    agreement = {name: _agreement(one.scores[:, points].numpy(), truth) for name, one in found.items()}
    return {
        "task": problem.name,
        "note": problem.note,
        "trained": problem.trained.to_dict(),
        "weights": sum(block.eigenvalues.numel() for block in ekfac.blocks.values()),
        "train": problem.data.sequences,
        "points": problem.points,
        "queries": problem.queries,
        "damping": DAMPING,
        "lambda": ekfac.dampings,
        "residual_of_exact": wide.residual(DAMPING),
        "pearson_with_pbrf": {name: one["pearson"]["value"] for name, one in agreement.items()},
        "seconds": {name: one.seconds for name, one in found.items()} | {"pbrf": records[str(DAMPING)]["seconds"]},
        "agreement": agreement,
        "solves": {name: one.report for name, one in found.items() if one.report},
        "notes": notes,
        "pbrf": records,
        "sweep": _sweep(problem, wide, found["gradient_dot"].scores, asked, points, truths, say),
    }


def estimates(problem: Problem, queries: list[QueryBatch], say: Say) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Every method at the paper's damping, and why one gave no answer."""
    found: dict[str, Estimate] = {}
    notes: dict[str, str] = {}
    model, task = problem.model, problem.task
    identity, spent = timed(lambda: fitted(problem, "identity"))
    dot, more = timed(lambda: scored_by(problem, identity, query_gradients(identity, model, queries, task=task)))
    own, norms = timed(lambda: self_influence(identity, problem.data, model=model, task=task))
    assert own is not None
    found["gradient_dot"] = Estimate(dot, spent + more)
    found["cosine"] = Estimate(dot / own.sqrt().clamp(min=1e-30), spent + more + norms)  # a query's own length is free
    ekfac, spent_on_it = timed(lambda: fitted(problem, "ekfac"))
    for name in FITTED:
        made, fitting = (ekfac, spent_on_it) if name == "ekfac" else timed(lambda name=name: fitted(problem, name))
        curvature = made.with_damping(ekfac.dampings)  # all invert the same Λ
        scores, more = timed(lambda c=curvature: scored_by(problem, c, asked_of(problem, c, queries)))
        found[name] = Estimate(scores, fitting + more)
    if problem.outputs <= FEW_LABELS:
        made, fitting = timed(lambda: fitted(problem, "ekfac", labels="expected").with_damping(ekfac.dampings))
        scores, more = timed(lambda: scored_by(problem, made, asked_of(problem, made, queries)))
        found["ekfac_expected"] = Estimate(scores, fitting + more)
    for name in SOLVED:
        if name == "exact" and problem.data.sequences * problem.outputs > FEW:
            notes[name] = "has too many rows to be direct"
            continue
        say(f"{problem.name}: {name}")
        before = 0.0 if name == "lissa" else spent_on_it
        try:
            found[name] = solved_by(
                problem, make_inverse(name, ekfac, model, task=task, data=problem.data), ekfac, queries
            )
        except WhenceError as error:
            notes[name] = str(error)
            continue
        found[name] = replace(found[name], seconds=found[name].seconds + before)
    if problem.deep:
        lissa = Lissa(ekfac, GaussNewton(model, ekfac.tracked(model), task, problem.data))
        depth = min(lissa.rule.depth, problem.deep * problem.data.sequences)
        notes["lissa"] = f"its rule asks for {lissa.rule.depth:,} steps of {lissa.rule.batch} sequences"
        say(f"{problem.name}: lissa, {depth} steps; {notes['lissa']}")
        try:
            found["lissa_deep"] = solved_by(problem, replace(lissa, depth=depth), ekfac, queries)
        except WhenceError as error:
            notes["lissa_deep"] = str(error)
    return found, notes


def _exact(problem: Problem, wide: Wide, found: dict[str, Estimate], notes: dict[str, str]) -> None:
    """Where whence's own exact solve has too many rows to be direct, that of `bench.accuracy.exact` stands in."""
    if "exact" in found:
        return
    scores, spent = timed(lambda: wide.scores(DAMPING))
    found["exact"] = Estimate(scores, spent + wide.seconds)
    notes["exact"] = f"direct, in float64, by bench/accuracy/exact.py; whence's own {notes['exact']}"


def _sweep(
    problem: Problem,
    wide: Wide,
    dot: Tensor,
    asked: Sequence[int],
    points: list[int],
    truths: Mapping[float, Responses],
    say: Say,
) -> dict[str, Any]:
    """The ablation exact → block-diagonal → EK-FAC → K-FAC over damping, and what a user can see of it."""
    queries = queries_of(problem.test, asked)
    ekfac, kfac = fitted(problem, "ekfac"), fitted(problem, "kfac")
    expected = fitted(problem, "ekfac", labels="expected") if problem.outputs <= FEW_LABELS else None
    rows: dict[float, dict[str, Tensor]] = {}
    seen: dict[float, dict[str, Any]] = {}
    for multiple in SWEEP:
        say(f"{problem.name}: sweep, {multiple}")
        curvature = ekfac.with_damping(multiple)
        twin = kfac.with_damping(curvature.dampings)
        rows[multiple] = {
            "exact": wide.scores(multiple),
            "block_diagonal": wide.block_scores(multiple),
            "ekfac": scored_by(problem, curvature, asked_of(problem, curvature, queries)),
            "kfac": scored_by(problem, twin, asked_of(problem, twin, queries)),
            "gradient_dot": dot,
        }
        if expected is not None:
            same = expected.with_damping(curvature.dampings)
            rows[multiple]["ekfac_expected"] = scored_by(problem, same, asked_of(problem, same, queries))
        seen[multiple] = {}
        for name in ("ekfac_refined", *(("lissa",) if problem.deep else ())):
            try:
                one = solved_by(problem, _inverse(problem, name, curvature), curvature, queries)
            except WhenceError as error:
                seen[multiple][name] = {"refused": str(error)}
                continue
            rows[multiple][name] = one.scores
            seen[multiple][name] = one.report
    first = rows[DAMPING]["exact"]
    return {
        str(multiple): {
            "pearson_with_exact": {name: _mean(found[name], found["exact"]) for name in found},
            "pearson_with_pbrf": {
                name: _mean(scores[:, points], truths[multiple].response) for name, scores in found.items()
            }
            if multiple in truths
            else {},
            "ekfac_with_refined": _mean(found["ekfac"], found["ekfac_refined"]),
            "ekfac_with_exact_at_the_papers": _mean(found["ekfac"], first),
            "exact_with_exact_at_the_papers": _mean(found["exact"], first),
            "solves": seen[multiple],
        }
        for multiple, found in rows.items()
    }


def _inverse(problem: Problem, name: str, ekfac: Curvature) -> Any:
    return make_inverse(name, ekfac, problem.model, task=problem.task, data=problem.data)


def _truth(found: Responses, seconds: float) -> dict[str, Any]:
    left_out = ("response", "points", "seconds")
    return {k: v for k, v in found.to_dict().items() if k not in left_out} | {"seconds": seconds}


def _halfway(half: Responses, found: Responses) -> dict[str, Any]:
    """How far the responses still went with the second half of the gradients: what is left to doubt."""
    moved = float((found.response - half.response).norm() / found.response.norm())
    return {"gradients": half.settings["most"], "difference": moved, "pearson": _mean(half.response, found.response)}


def _agreement(found: Any, truth: Any) -> dict[str, Any]:
    both = {"pearson": pearson(found, truth), "spearman": spearman(found, truth)}
    return {name: mean_over_queries(values).to_dict() for name, values in both.items()}


def _mean(found: Tensor, truth: Tensor) -> float:
    return float(np.nanmean(pearson(found.double().numpy(), truth.double().numpy())))
