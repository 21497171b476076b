"""Where other software was wrong: METHOD.md, section 7. Each mistake is planted here, and must be caught.

A *check* compares the package with the dense oracle. It passes on the code as it is, and fails with the mistake
planted in it: so the comparison would have seen it. The list below is in METHOD.md's order.

    attention kernels that mix batch-mates      refused            prompt positions dropped from S      planted
    bias column left out of A                   planted            mean over positions                  planted
    padding counted in A                        planted            forgotten rotation back              planted
    squares per position                        planted            NaN found only at the eigensolver    refused
    truncated documents scored as whole         test_windows       packed documents attending across    refused
    a layer called twice                        test_repeated      options silently switched off        refused
    labels from the global generator            planted            resuming another model's run         test_refusals
    a per-token switch that splits the query    planted            MoE experts skipped without a word   refused
    K-FAC's eigenvalues for EK-FAC's            planted            token budget capped at the context   data/test_plan
    damping added in place                      planted            (refused: test_mistakes_refused)
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.cases import Case, lm
from torch.testing import assert_close

from whence.capture import hooks
from whence.curvature import block, moments, rotation, squares
from whence.curvature.ekfac import EKFACEstimator
from whence.influence import score as scoring
from whence.jobs.fit import fit
from whence.jobs.query import QueryBatch, query_gradients
from whence.jobs.score import score, self_influence
from whence.tasks import causal_lm
from whence.testing import contracts, dense, toys

# --- checks --------------------------------------------------------------------------------------------------------


def fitted(case: Case, curvature: str = "ekfac", **settings):
    data = toys.TinyData(case.examples, batch_size=3, padding=2, fill=1)
    return fit(case.model, data, task=case.task, layers=case.layers, curvature=curvature, **settings), data


def assert_near(found, expected):
    assert_close(found, expected, rtol=1e-6, atol=1e-7 * float(expected.abs().max()))


def check_kfac():
    """The K-FAC matrix at the data's labels."""
    case = lm()
    oracle = case.oracle(labels=[[one.targets] for one in case.examples])
    found, _ = fitted(case, "kfac", labels="true")
    for layer in case.layers:
        assert_near(found.dense(layer), oracle.kfac(layer))


def check_ekfac():
    """The EK-FAC matrix at the data's labels, in the fitted basis; and that basis is K-FAC's."""
    case = lm()
    oracle = case.oracle(labels=[[one.targets] for one in case.examples])
    found, _ = fitted(case, labels="true")
    for layer in case.layers:
        part = found.blocks[layer]
        moved = part.output_basis.T @ oracle.output_moment(layer) @ part.output_basis
        assert_near(moved, moved.diagonal().diag())
        assert_near(found.dense(layer), oracle.ekfac(layer, (part.output_basis, part.input_basis)))


def check_scores(by_token: bool = False):
    """Scores and self-influence from dense solves."""
    case = lm()
    curvature, data = fitted(case)
    options = {"model": case.model, "task": case.task}
    parts = [QueryBatch(one, torch.tensor([n]), torch.ones(1)) for n, one in enumerate(case.examples[:2])]
    queries = query_gradients(curvature, case.model, parts, task=case.task, rank=None)
    found = score(curvature, queries, data, by_token=by_token, **options)

    losses = case.oracle().gradients()
    matrices = {name: curvature.dense(name) for name in case.layers}
    expected = dense.scores(matrices, {name: -grads[:2] for name, grads in losses.items()}, losses).sum(0)
    assert_near(found.total, expected)
    assert_near(self_influence(curvature, data, **options), dense.self_influence(matrices, losses))


def check_scores_by_token():
    check_scores(by_token=True)


def check_contract(check: Callable[..., None]) -> Callable[[], None]:
    def checked():
        case = lm()
        check(contracts.CurvatureCase(fitted(case)[0], case.oracle().gradients(), lambda curvature: curvature))

    return checked


def check_repeatable():
    """The same call twice."""
    torch.manual_seed(0)
    one, other = fitted(lm(), "kfac")[0], fitted(lm(), "kfac")[0]
    for name, part in one.blocks.items():
        assert_close(part.eigenvalues, other.blocks[name].eigenvalues, rtol=0, atol=0)


# --- mistakes ------------------------------------------------------------------------------------------------------


def prompt_dropped(plant):
    """S without the positions that carry no loss of their own: prompts, and the last."""
    begin, update = moments.Moments.begin, moments.Moments.update

    def remember(self, batch, sample):
        self.scored = batch.scored
        begin(self, batch, sample)

    def drop(self, trace):
        kept = trace.output_grads * self.scored[..., None]
        update(self, type(trace)(trace.layer, trace.shared, kept, trace.first))

    plant.setattr(moments.Moments, "begin", remember)
    plant.setattr(moments.Moments, "update", drop)


def bias_left_out(plant):
    """Zero where the column of ones should be."""
    prepared = hooks._Recorder._prepared

    def without(self, layer, source):
        rows = prepared(self, layer, source).clone()
        if layer.bias:
            rows[..., -1] = 0
        return rows

    plant.setattr(hooks._Recorder, "_prepared", without)
    plant.setattr("whence.jobs.fit.checked_layers", lambda model, tracked, *_: tracked)  # which would see it


def mean_over_positions(plant):
    """Each sequence's gradient divided by its length."""
    mean = lambda grads, inputs, dtype: GRADIENT(grads, inputs, dtype) / grads.shape[1]  # noqa: E731
    plant.setattr(rotation, "gradient", mean)
    plant.setattr(scoring, "gradient", mean)


def padding_counted(plant):
    """Inputs on padding enter A as if they were read."""
    plant.setattr(hooks._Recorder, "_prepared", lambda self, layer, source: _unmasked(self, layer, source))


def _unmasked(recorder, layer, source):
    rows = hooks.positions(source, recorder.real, layer.name)
    return torch.cat([rows, torch.ones_like(rows[..., :1])], dim=-1) if layer.bias else rows


def rotation_back_forgotten(plant):
    """A solve that stays in the eigenbasis."""
    plant.setattr(block.Block, "rotate_back", lambda self, grads: grads)


def squares_per_position(plant):
    """Λ from positions taken one by one, then summed."""

    def update(self, trace):
        part = self.bases[trace.layer]
        total = self.sums[f"squares.{trace.layer}"]
        left, right = trace.output_grads @ part.output_basis, trace.inputs @ part.input_basis
        total[0] += torch.einsum("nto,nti->oi", left**2, right**2)

    plant.setattr(squares.Squares, "update", update)


def kfac_eigenvalues(plant):
    """The second stage runs, and its result is not used."""
    plant.setattr(EKFACEstimator, "_finish_squares", lambda self, sums: None)


def global_generator(plant):
    """Labels from whatever has been drawn before."""
    plant.setattr(causal_lm, "uniforms", lambda seed, sample, document, position: torch.rand(len(document)).double())


def damping_in_place(plant):
    """The eigenvalues grow with every solve."""
    plant.setattr(block.Block, "damped", lambda self, damping: self.eigenvalues.add_(damping))


def damping_forgotten(plant):
    """Undamped where an eigenvalue is large enough."""
    plant.setattr(block.Block, "damped", lambda self, damping: self.eigenvalues + 1e-3 * damping)


def query_split_by_token(plant):
    """A switch for the training side that cuts the query too: each position meets a share of it."""
    whole = scoring.dense_per_token
    plant.setattr(scoring, "dense_per_token", lambda query, trace: whole(query, trace) / trace.inputs.shape[1])


def eigenvalues_unclamped(plant):
    """Directions never seen keep eigenvalues that rounding made negative."""

    def negative(self, sums):
        finish(self, sums)
        for part in self._blocks.values():
            part.eigenvalues[0] -= part.eigenvalues.max()

    finish = EKFACEstimator._finish_squares
    plant.setattr(EKFACEstimator, "_finish_squares", negative)


GRADIENT = rotation.gradient
MISTAKES = [
    (prompt_dropped, check_kfac),
    (prompt_dropped, check_ekfac),
    (bias_left_out, check_kfac),
    (mean_over_positions, check_ekfac),
    (mean_over_positions, check_scores),
    (padding_counted, check_kfac),
    (rotation_back_forgotten, check_contract(contracts.solve_is_the_inverse_of_the_damped_matrix)),
    (rotation_back_forgotten, check_scores),
    (squares_per_position, check_ekfac),
    (kfac_eigenvalues, check_ekfac),
    (global_generator, check_repeatable),
    (damping_in_place, check_contract(contracts.a_second_call_gives_the_same_bits)),
    (damping_forgotten, check_contract(contracts.solve_is_the_inverse_of_the_damped_matrix)),
    (damping_forgotten, check_scores),
    (query_split_by_token, check_scores_by_token),
    (eigenvalues_unclamped, check_contract(contracts.the_matrix_is_symmetric_and_positive_semidefinite)),
]


@pytest.mark.parametrize(("mistake", "check"), MISTAKES, ids=lambda part: part.__name__.replace("_", " "))
def test_a_planted_mistake_is_caught(mistake, check, monkeypatch):
    check()
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check()
