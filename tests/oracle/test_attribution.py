"""Counterfactual attributions (forward mode) against finite differences."""

from __future__ import annotations

import pytest
import torch
from tests.cases import OURS, architecture, lm
from torch.testing import assert_close

from whence.influence.attribution import input_tokens, output_tokens
from whence.jobs.fit import fit
from whence.jobs.score import score
from whence.layers.select import track
from whence.testing import dense, differences, toys

from .test_scores import asked, query_gradients


def direction_of(case):
    """p of the first example as a query, and the scores of all, from dense matrices."""
    losses = case.oracle().gradients()
    matrices = {name: case.oracle().dense("identity", name) for name in case.layers}
    measurement = {name: -grads[:1] for name, grads in losses.items()}
    solved = {name: grads[0] for name, grads in dense.solved(matrices, measurement, 1.0).items()}
    return solved, dense.scores(matrices, measurement, losses, 1.0).sum(0)[0]


@pytest.mark.parametrize("name", ["lm", "lm without bias", "lm with Conv1D"])
def test_output_tokens_are_derivatives_of_log_probabilities(name):
    case = OURS[name]()
    direction, scores = direction_of(case)
    batch = toys.collate(case.examples, padding=2, fill=1)

    found = output_tokens(case.model, batch, direction, track(case.model, case.layers).layers)

    assert_close(found.sum(1), scores)
    for n, one in enumerate(case.examples):
        length = one.real.shape[1]
        expected = differences.output_tokens(case.oracle(), one, direction)
        assert_close(found[n, :length], expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
        assert not found[n, length:].any()


@pytest.mark.parametrize("name", ["lm", "lm with Conv1D"])
def test_input_tokens_are_derivatives_in_the_scale_of_embeddings(name):
    case = OURS[name]()
    direction, _ = direction_of(case)
    batch = toys.collate(case.examples, padding=2, fill=1)

    found = input_tokens(case.model, batch, direction, track(case.model, case.layers).layers)

    for n, one in enumerate(case.examples):
        length = one.real.shape[1]
        expected = differences.input_tokens(case.oracle(), one, direction)
        assert_close(found[n, :length], expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
        assert not found[n, length:].any()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma", "phi"])
def test_output_tokens_of_an_architecture_sum_to_its_scores(name):
    """float32 norms inside: 1e-3."""
    case = architecture(name)
    direction, scores = direction_of(case)
    batch = toys.collate(case.examples, padding=1)
    found = output_tokens(case.model, batch, direction, track(case.model, case.layers).layers)
    assert_close(found.sum(1), scores, rtol=1e-3, atol=1e-3 * float(scores.abs().max()))


def test_output_tokens_of_a_fitted_query_sum_to_its_scores():
    """The whole way: EK-FAC, a query, its direction, and the score that another route gives."""
    case, data = lm(), toys.TinyData(lm().examples)
    curvature = fit(case.model, data, task=case.task, layers=case.layers)
    queries = query_gradients(curvature, case.model, asked(case, count=1), task=case.task, rank=None)
    scores = score(curvature, queries, data, model=case.model, task=case.task)
    direction = {name: queries.dense(name)[0] for name in case.layers}

    found = output_tokens(case.model, toys.collate(case.examples), direction, curvature.tracked(case.model))

    assert_close(found.sum(1).double(), scores.total[0].double())
    assert torch.isfinite(found).all()
