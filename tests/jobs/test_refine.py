"""Queries solved by any estimator, all the way to scores, against matrices written out."""

from __future__ import annotations

import pytest
import torch
from tests.cases import lm, table
from tests.oracle.test_curvature import fitted
from tests.oracle.test_ggn import joint
from torch.testing import assert_close

from whence.curvature.inverse import INVERSES
from whence.data.queries import QueryBatch
from whence.errors import InvalidSetting
from whence.jobs.query import query_gradients
from whence.jobs.refine import make_inverse, refined_queries
from whence.jobs.score import score
from whence.testing import toys


def setting(case):
    data = toys.TinyData(case.examples, batch_size=4, cuts=())
    return data, {"task": case.task, "data": data}


def asked(examples, weights=None):
    """A query an example, in two batches."""
    weight = torch.ones(len(examples)) if weights is None else torch.tensor(weights)
    number = torch.arange(len(examples))
    halves = [slice(0, 2), slice(2, None)]
    return [QueryBatch(toys.collate(examples[rows], padding=1), number[rows], weight[rows]) for rows in halves]


def assert_near(found, expected, tolerance=1e-8):
    assert_close(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


def test_ekfac_by_this_road_is_ekfac():
    """Dense and cut to a rank: the same directions, self-influences and measurements."""
    case = lm()
    curvature, (_, given) = fitted(case), setting(case)
    batches = asked(toys.sequences(4, seed=3), [1.0, -2.0, 1.0, 0.5])
    inverse = make_inverse("fitted", curvature, case.model, **given)
    for rank in (None, 2):
        expected = query_gradients(curvature, case.model, batches, task=case.task, rank=rank)
        found, reports = refined_queries(inverse, curvature, case.model, batches, task=case.task, rank=rank)
        for layer in case.layers:
            assert_near(found.dense(layer), expected.dense(layer))
        assert_near(found.self_influence, expected.self_influence)
        assert_near(found.measurement, expected.measurement)
        assert reports == []


@pytest.mark.parametrize("regression", [True, False])
def test_scores_of_the_exact_solve_are_those_written_out(regression):
    """−∇fᵀ (G + Λ)⁻¹ ∇L, blocks between layers included; f = −L of each query."""
    case = table(4, 5, 3, regression=regression)
    curvature, (data, given) = fitted(case), setting(case)
    questions = toys.rows(5, seed=9, regression=regression)
    oracle = case.oracle()
    lam = torch.cat(
        [torch.full((curvature.blocks[name].values.numel(),), curvature.dampings[name]) for name in case.layers]
    )
    matrix = joint(oracle) + lam.double().diag()
    side_by_side = lambda grads: torch.cat([grads[name].flatten(1) for name in case.layers], dim=1)  # noqa: E731
    asks, trains = side_by_side(oracle.gradients(questions)), side_by_side(oracle.gradients())

    inverse = make_inverse("exact", curvature, case.model, **given)
    queries, (report,) = refined_queries(inverse, curvature, case.model, asked(questions), task=case.task)
    scores = score(curvature, queries, data, model=case.model, task=case.task)

    assert_near(scores.total, asks @ torch.linalg.inv(matrix) @ trains.T)
    assert_near(queries.self_influence, ((asks @ torch.linalg.inv(matrix)) * asks).sum(1))
    assert (report.residuals < 1e-10).all()


@pytest.mark.parametrize("name", INVERSES)
def test_every_estimator_makes_queries_in_groups_as_in_one(name, monkeypatch):
    case = table()
    curvature, (_, given) = fitted(case), setting(case)
    batches = asked(toys.rows(5, seed=9))

    def made():
        inverse = make_inverse(name, curvature, case.model, **given)
        return refined_queries(inverse, curvature, case.model, batches, task=case.task)

    whole, (report,) = made()
    monkeypatch.setattr("whence.jobs.refine.DENSE_ELEMENTS", 2 * 6 * 43)
    parts, reports = made()

    assert len(report.residuals) == 5
    assert [len(one.residuals) for one in reports] == [2, 2, 1]
    for layer in case.layers:
        # CG amplifies rounding: two runs agree to what its tolerance (1e-3) leaves open.
        assert_near(parts.dense(layer), whole.dense(layer), 1e-2 if name == "cg" else 1e-8)


def test_the_sampled_operator_draws_labels_by_its_seed():
    case = table()
    curvature, (_, given) = fitted(case), setting(case)
    batches = asked(toys.rows(5, seed=9))

    def solved(**settings):
        inverse = make_inverse("exact", curvature, case.model, operator="sampled", **settings, **given)
        return refined_queries(inverse, curvature, case.model, batches, task=case.task)[0].dense("0")

    assert torch.equal(solved(), solved())
    assert not torch.allclose(solved(), solved(seed=1))
    assert not torch.allclose(solved(), solved(samples=2))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("newton", {}, "choose one of fitted, ekfac_refined, sampled"),
        ("cg", {"operator": "empirical"}, "`exact` or `sampled`"),
        ("cg", {"samples": 2}, "the exact operator draws none"),
        ("sampled", {"operator": "sampled"}, "samples labels by itself"),
    ],
)
def test_what_cannot_be_honoured_is_refused(name, settings, message):
    case = table()
    with pytest.raises(InvalidSetting, match=message):
        make_inverse(name, fitted(case), case.model, **settings, **setting(case)[1])
