"""Queries, scores, their parts and self-influence against dense products."""

from __future__ import annotations

import functools

import pytest
import torch
from tests.cases import OURS, architecture, lm
from torch.testing import assert_close

from whence.curvature import CURVATURES
from whence.influence.lowrank import LowRank
from whence.jobs.fit import fit
from whence.jobs.query import QueryBatch, query_gradients
from whence.jobs.score import score, self_influence
from whence.testing import dense, tiny, toys


def asked(case, *, count=3, batch_size=2):
    """The first examples again, as queries: batches of one or two parts of weight one."""
    chosen = case.examples[:count]
    for start in range(0, count, batch_size):
        part = toys.collate(chosen[start : start + batch_size], padding=1)
        yield QueryBatch(part, torch.arange(start, start + len(part)), torch.ones(len(part), dtype=torch.float64))


@functools.cache
def run_of(name="lm", curvature="ekfac", rank=None):
    """A run that tests share, as nothing is done to it."""
    return Run(OURS[name](), curvature, rank, by_layer=True)


class Run:
    """A case fitted, asked and scored, and what the oracle says about it."""

    def __init__(self, case, curvature="ekfac", rank=None, **settings):
        self.case, self.data = case, toys.TinyData(case.examples, padding=1)
        self.curvature = fit(case.model, self.data, task=case.task, layers=case.layers, curvature=curvature)
        self.queries = query_gradients(self.curvature, case.model, asked(case), task=case.task, rank=rank)
        self.scores = score(self.curvature, self.queries, self.data, model=case.model, task=case.task, **settings)
        self.losses = case.oracle().gradients()
        self.measurements = {name: -grads[:3] for name, grads in self.losses.items()}  # f = −L
        self.matrices = {name: self.curvature.dense(name) for name in case.layers}
        self.share = 0.0 if curvature == "identity" else 0.1
        self.expected = dense.scores(self.matrices, self.measurements, self.losses, self.share)


def assert_near(found, expected, tolerance=1e-8):
    assert_close(found.double(), expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("name", OURS)
def test_scores_are_the_dense_products(name, curvature):
    run = run_of(name, curvature)
    assert run.scores.layers == tuple(run.case.layers)
    assert_near(run.scores.total, run.expected.sum(0))
    assert_near(run.scores.by_layer, run.expected)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_scores_of_an_architecture_are_the_dense_products(name):
    """float32 norms and softmax inside: 1e-3."""
    run = Run(architecture(name), "kfac")
    assert_near(run.scores.total, run.expected.sum(0), 1e-3)


def test_a_query_scores_itself_positively():
    """Training more on a sequence makes it more likely: the one sign convention."""
    run = run_of()
    assert (run.scores.total.diagonal() > 0).all()


def test_the_measurement_is_the_log_probability():
    run = run_of()
    expected = torch.stack([run.case.oracle().measurement(one) for one in run.case.examples[:3]])
    assert_near(run.queries.measurement, expected.detach())


def test_a_querys_own_norm_is_its_self_influence():
    run = Run(lm(), rank=1)
    expected = dense.self_influence(run.matrices, {name: g[:3] for name, g in run.losses.items()})
    assert_near(run.queries.self_influence, expected)


@pytest.mark.parametrize("rank", [None, 2, 100])
def test_scores_split_by_token_as_their_traces_do(rank):
    """Position t has −pᵀ(δ_t a_tᵀ): the parts of the oracle, and together the whole."""
    run = Run(lm(), rank=rank, by_token=True, by_layer=True)
    oracle = run.case.oracle()
    solved = {name: run.queries.dense(name) for name in run.case.layers}

    for n, one in enumerate(run.case.examples):
        draw, inputs = oracle.true_draw(one), oracle.inputs(one)
        parts = [torch.einsum("qoi,to,ti->qt", solved[name], draw.output_grads[name], inputs[name]) for name in solved]
        assert_near(run.scores.by_token[n], -torch.stack(parts).sum(0))
        assert_near(run.scores.by_token[n].sum(-1), run.scores.total[:, n].double())
    assert_near(run.scores.by_layer.sum(0), run.scores.total.double())


def test_splitting_changes_no_score():
    whole = run_of().scores.total
    assert_near(Run(lm(), by_token=True).scores.total, whole)
    assert_near(Run(lm()).scores.total, whole)


@pytest.mark.parametrize("curvature", ["identity", "ekfac"])
def test_full_rank_is_exact(curvature):
    run = Run(lm(), curvature, rank=6)  # no layer is wider than 7 × 6
    assert_near(run.scores.total, run.expected.sum(0))


def test_a_cut_query_is_the_best_of_its_rank():
    """Against LAPACK's singular values of the preconditioned gradient, to 0.1 % of the error at this size."""
    full, cut = run_of(), Run(lm(), rank=2)
    for name in full.case.layers:
        for whole, part in zip(full.queries.dense(name), cut.queries.dense(name), strict=True):
            values = torch.linalg.svdvals(whole)
            assert (whole - part).norm() <= 1.001 * values[2:].norm() + 1e-12


def test_a_cut_of_a_wide_gradient_is_near_the_best_of_its_rank():
    """Spectra that fall slowly, wide and tall, in float32 too: within 4 % of the best error there is."""
    draw = torch.Generator().manual_seed(0)
    for shape in ((2, 60, 130), (2, 130, 60)):
        matrices = torch.randn(shape, generator=draw, dtype=torch.float64)
        left, _, right = torch.linalg.svd(matrices, full_matrices=False)
        matrices = (left * torch.arange(1, 61, dtype=torch.float64) ** -0.7) @ right
        best = (torch.arange(1, 61, dtype=torch.float64) ** -0.7)[16:].norm()
        for dtype in (torch.float64, torch.float32):
            found = LowRank.truncate(matrices.to(dtype), 16).dense().double()
            assert ((found - matrices).flatten(1).norm(dim=1) <= 1.04 * best).all()


@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("name", OURS)
def test_self_influence_is_the_dense_quadratic_form(name, curvature):
    run = run_of(name, curvature)
    found = self_influence(run.curvature, run.data, model=run.case.model, task=run.case.task)
    expected = dense.self_influence(run.matrices, run.losses, run.share)
    assert_near(found, expected)
    assert (found >= 0).all()


def test_a_contrastive_query_is_a_difference():
    """f = f_A − f_B, whether its two parts share a batch or not."""
    run = run_of()
    one, two = run.case.examples[:2]
    number, weight = torch.zeros(2, dtype=torch.int64), torch.tensor([1.0, -1.0], dtype=torch.float64)
    together = [QueryBatch(toys.collate([one, two]), number, weight)]
    apart = [QueryBatch(part, number[:1], weight[k : k + 1]) for k, part in enumerate((one, two))]

    for parts in (together, apart):
        query = query_gradients(run.curvature, run.case.model, parts, task=run.case.task, rank=None)
        found = score(run.curvature, query, run.data, model=run.case.model, task=run.case.task)
        assert_near(found.total[0], run.expected.sum(0)[0] - run.expected.sum(0)[1])
        assert_near(query.measurement[0], run.queries.measurement[0] - run.queries.measurement[1])


def test_queries_in_any_batches_and_groups_score_the_same(monkeypatch):
    """Gradients of one group at a time are held; the training data is read once for all."""
    run = run_of()
    monkeypatch.setattr("whence.jobs.query.DENSE_ELEMENTS", 1)  # a group for every batch
    for batch_size in (1, 3):
        parts = asked(run.case, batch_size=batch_size)
        queries = query_gradients(run.curvature, run.case.model, parts, task=run.case.task, rank=None)
        found = score(run.curvature, queries, run.data, model=run.case.model, task=run.case.task)
        assert_near(found.total, run.scores.total)


@pytest.mark.parametrize("as_factors", [True, False])
def test_the_order_of_contraction_changes_no_score(as_factors, monkeypatch):
    expected = Run(lm(), rank=2).scores.total
    monkeypatch.setattr("whence.influence.score.meets_as_factors", lambda *sizes: as_factors)
    assert_near(Run(lm(), rank=2).scores.total, expected)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("right", [True, False])
def test_the_order_of_rotation_changes_no_number(left, right, monkeypatch):
    before = run_of()
    own = self_influence(before.curvature, before.data, model=before.case.model, task=before.case.task)
    monkeypatch.setattr("whence.curvature.rotation.on_traces", lambda *sizes: (left, right))
    after = Run(lm())
    for name in before.case.layers:
        assert_near(after.curvature.blocks[name].eigenvalues, before.curvature.blocks[name].eigenvalues)
    assert_near(after.scores.total, before.scores.total)
    assert_near(self_influence(after.curvature, after.data, model=after.case.model, task=after.case.task), own)


def test_per_copy_is_a_share_of_the_training_set():
    scores = run_of().scores
    assert_close(scores.per_copy(1000) * 1000, scores.total)
