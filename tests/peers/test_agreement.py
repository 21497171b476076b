"""The same numbers from other software, under matched conventions: empirical labels, equal absolute damping.

The factors between their units and ours are those of ``docs/conventions.md``; a test that needed another factor
would be a mistake on one side. A peer that is not installed is skipped: ``bench/peers.txt`` says how to install.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.peers import others
from tests.peers.cases import CASES, Case, relative
from torch import Tensor

DAMPING = 0.1
WITHIN = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = pytest.mark.parametrize("dtype", WITHIN, ids=["float32", "float64"])
KINDS = pytest.mark.parametrize("kind", ["kfac", "ekfac"])
MODELS = pytest.mark.parametrize("model", CASES)


def need(peer: str) -> None:
    pytest.importorskip(peer, reason=f"{peer} is not installed (see bench/peers.txt)")


def layers_of(gradients: dict[str, Tensor]) -> Tensor:
    """All layers as one vector a query."""
    return torch.cat([gradient.flatten(1) for gradient in gradients.values()], 1)


@MODELS
@KINDS
@DTYPES
def test_the_reference_written_out_agrees(model, kind, dtype):
    case = CASES[model](dtype)
    train, queries = case.reference(), case.reference("queries")
    matrices = {name: getattr(train, kind)(name) for name in case.names}

    scores, own = case.scored(case.fitted(kind, DAMPING))

    assert relative(scores, train.scores(queries, matrices, DAMPING)) < WITHIN[dtype]
    assert relative(own, train.scores(train, matrices, DAMPING).diagonal()) < WITHIN[dtype]


@MODELS
@DTYPES
def test_kronfluence_ekfac_is_ours_as_it_stands(model, dtype):
    need("kronfluence")
    case = CASES[model](dtype)

    scores, own = case.scored(case.fitted("ekfac", DAMPING))
    their_scores, their_own = others.kronfluence(case, "ekfac", DAMPING)

    assert relative(scores, their_scores) < WITHIN[dtype]
    assert relative(own, their_own) < WITHIN[dtype]


@MODELS
@DTYPES
def test_kronfluence_kfac_is_ours_over_the_positions_a_sequence(model, dtype):
    """Its S is a mean over positions, ours a sum over a sequence's: H is T times theirs, and so must λ be."""
    need("kronfluence")
    case = CASES[model](dtype)
    per_sequence = case.positions

    scores, own = case.scored(case.fitted("kfac", DAMPING * per_sequence))
    their_scores, their_own = others.kronfluence(case, "kfac", DAMPING)

    assert relative(scores, their_scores / per_sequence) < WITHIN[dtype]
    assert relative(own, their_own / per_sequence) < WITHIN[dtype]


@DTYPES
def test_kronfluence_damping_of_none_is_our_default(dtype):
    """A tenth of the mean corrected eigenvalue, layer by layer."""
    need("kronfluence")
    case = CASES["language_model"](dtype)

    scores, own = case.scored(case.fitted("ekfac", DAMPING).with_damping(0.1))
    their_scores, their_own = others.kronfluence(case, "ekfac", None)

    assert relative(scores, their_scores) < WITHIN[dtype]
    assert relative(own, their_own) < WITHIN[dtype]


@MODELS
@KINDS
@DTYPES
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_curvlinops_is_ours_times_what_its_loss_is_summed_over(model, kind, dtype, reduction):
    """Sum: the curvature of the whole data set, N times ours. Mean: of one token's loss, 1/terms of ours."""
    need("curvlinops")
    case = CASES[model](dtype)
    terms = case.positions - case.prompt if case.text else 1
    if kind == "ekfac" and terms > 1:
        pytest.skip("curvlinops has no EK-FAC for outputs at more than one position")
    if model == "llama" and reduction == "mean" and dtype is torch.float64:
        pytest.skip("this model computes its norms in float32, so a loss scaled otherwise differs at 1e-7")
    factor = {"sum": case.sequences, "mean": 1 / terms}[reduction]
    queries = case.reference("queries")
    gradients = {name: queries.gradient(name) for name in case.names}

    ours = case.fitted(kind, DAMPING).solve(gradients)
    theirs = others.curvlinops(case, kind, DAMPING * factor, gradients, reduction)

    assert relative(layers_of(ours), factor * layers_of(theirs)) < WITHIN[dtype]


@KINDS
def test_bergson_is_ours_without_the_last_position(kind, monkeypatch):
    """It leaves each sequence's last token, which predicts nothing, out of A. It solves in float32 alone."""
    need("bergson")
    case = CASES["llama"](torch.float32)
    monkeypatch.setattr(Case, "examples", last_not_real(Case.examples))

    scores, _ = case.scored(case.fitted(kind, DAMPING))

    assert relative(scores, others.bergson(case, DAMPING, corrected=kind == "ekfac")) < WITHIN[torch.float32]


def last_not_real(examples):
    def cut(case, which="train"):
        return [
            replace(one, real=torch.cat([one.real[:, :-1], torch.zeros_like(one.real[:, -1:])], 1))
            for one in examples(case, which)
        ]

    return cut
