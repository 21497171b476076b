"""Which damping predicts retraining: LDS of EK-FAC, refined and not, and of the exact solve, on models trained anew.

PBRF has the damping in its definition, so that no damping can be wrong by it: more of it makes the question easier.
What a damping is worth is seen where the question is another's: random halves of the training set, the same recipe from
the same start, and f of held-out queries there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from bench.accuracy.judge import Say
from bench.accuracy.methods import fitted, queries_of, scored_by, solved_by
from bench.accuracy.tasks import SWEEP, Problem
from bench.accuracy.wide import Wide
from bench.timing import timed
from whence.evaluate.examples import collect
from whence.evaluate.lds import lds
from whence.evaluate.retrain import Bank
from whence.jobs.query import query_gradients
from whence.jobs.refine import make_inverse

SUBSETS, QUERIES = 100, 40


def lds_over_damping(problem: Problem, say: Say) -> dict[str, Any]:
    """One task's entry under ``retrained`` of accuracy.json."""
    draw = torch.Generator().manual_seed(2)
    asked = torch.randperm(problem.test.sequences, generator=draw)[:QUERIES].tolist()
    problem = replace(problem, queries=len(asked))
    queries = queries_of(problem.test, asked)
    identity, ekfac = fitted(problem, "identity"), fitted(problem, "ekfac")
    wide = Wide.of(problem, ekfac, asked)
    scores = {
        "gradient_dot": scored_by(
            problem, identity, query_gradients(identity, problem.model, queries, task=problem.task)
        )
    }
    for multiple in SWEEP:
        say(f"{problem.name}: scores at {multiple}")
        damped = ekfac.with_damping(multiple)
        asked_for = query_gradients(damped, problem.model, queries, task=problem.task, rank="full")
        scores[f"ekfac {multiple}"] = scored_by(problem, damped, asked_for)
        refined = make_inverse("ekfac_refined", damped, problem.model, task=problem.task, data=problem.data)
        scores[f"ekfac_refined {multiple}"] = solved_by(problem, refined, damped, queries).scores
        scores[f"exact {multiple}"] = wide.scores(multiple)
    trained = problem.trained
    bank = Bank(problem.model, problem.task, collect(problem.data), trained.recipe, start=lambda _: trained.start)
    say(f"{problem.name}: {SUBSETS} retrainings")
    found, spent = timed(lambda: lds(scores, bank, queries, count=SUBSETS))
    return {"task": problem.name, "lds": found.to_dict()["lds"], "settings": dict(found.settings), "seconds": spent}
