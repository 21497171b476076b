"""The Gauss-Newton operator and the sampled Fisher against matrices written out, all layers jointly."""

from __future__ import annotations

import functools

import pytest
import torch
from tests.cases import OURS, architecture, lm, table
from tests.oracle.test_curvature import at_the_same_labels
from torch import nn
from torch.testing import assert_close

from whence.curvature.fisher import SampledFisher
from whence.curvature.ggn import GaussNewton
from whence.errors import InvalidSetting, NumericalError
from whence.layers.select import track
from whence.testing import toys


def joint(oracle):
    """E[g gᵀ] over sequences and labels with g of all layers side by side: blocks between layers included."""
    draws = [draw for number in range(oracle.count) for draw in oracle.draws(number)]
    every = [(d.weight, torch.cat([d.gradients[name].flatten() for name in oracle.layers])) for d in draws]
    return torch.stack([w * torch.outer(g, g) for w, g in every]).sum(0) / oracle.count


@functools.cache
def written_out(name):
    case = OURS[name]()
    return case, joint(case.oracle())


def gauss_newton(case, **cut):
    data = toys.TinyData(case.examples, **({"batch_size": 2, "padding": 1, "fill": 1} | cut))
    return GaussNewton(case.model, track(case.model, case.layers).layers, case.task, data)


def directions(operator, queries=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return operator.unflat(torch.randn(queries, operator.parameters, generator=draw, dtype=torch.float64))


def assert_near(found, expected, tolerance=1e-10):
    assert_close(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("name", OURS)
def test_products_are_those_of_the_matrix_written_out(name):
    case, matrix = written_out(name)
    operator = gauss_newton(case)
    grads = directions(operator)

    assert_near(operator.flat(operator.matvec(grads)), operator.flat(grads) @ matrix)


@pytest.mark.parametrize("name", ["lm", "mlp", "regression"])
def test_the_dense_matrix_and_the_root_are_those_written_out(name):
    case, matrix = written_out(name)
    operator = gauss_newton(case)

    root = operator.flat(operator.root())

    assert_near(operator.dense(), matrix)
    assert_near(root.T @ root, matrix)
    assert operator.rows == len(root)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma"])
def test_products_of_an_architecture_are_those_written_out(name):
    """Eager attention, rotary embeddings, norms and softmax in float32: 1e-4."""
    case = architecture(name)
    case.examples[:] = case.examples[:2]
    operator = gauss_newton(case)
    grads = directions(operator)

    assert_near(operator.flat(operator.matvec(grads)), operator.flat(grads) @ joint(case.oracle()), 1e-4)


def test_some_layers_may_be_left_out():
    """Down to one in the middle: what lies below takes no part in any backward."""
    case = lm()
    case.layers[:] = case.layers[5:6]
    operator = gauss_newton(case)
    assert_near(operator.dense(), joint(case.oracle()))


@pytest.mark.parametrize("make", [lm, table])
@pytest.mark.parametrize(
    "cut",
    [
        {"batch_size": 1, "padding": 0},
        {"batch_size": 6, "cuts": (), "padding": 3},
        {"cuts": (1, 2), "batch_size": 2},
        {"order": [5, 3, 1, 0, 2, 4]},
    ],
    ids=["one by one", "all at once", "other units", "another order"],
)
def test_products_do_not_depend_on_how_the_data_is_cut(make, cut):
    case = make()
    case.examples[:] = case.examples[:6]
    operator, other = gauss_newton(case), gauss_newton(case, **cut)
    grads = directions(operator)
    assert_near(other.flat(other.matvec(grads)), operator.flat(operator.matvec(grads)), 1e-12)


def test_several_queries_are_each_by_itself(monkeypatch):
    """Shared forwards, vectorised a few at a time, or each alone."""
    operator = gauss_newton(lm())
    grads = directions(operator, queries=11)
    together = operator.flat(operator.matvec(grads))
    alone = [operator.matvec({name: part[q : q + 1] for name, part in grads.items()}) for q in range(11)]
    assert_near(torch.cat([operator.flat(one) for one in alone]), together, 1e-12)
    monkeypatch.setattr("whence.curvature.ggn.LARGE", {"cpu": 0})
    assert_near(operator.flat(operator.matvec(grads)), together, 1e-12)


@pytest.mark.parametrize("kind", ["exact", "sampled"])
def test_the_mean_over_some_sequences_is_the_matrix_of_a_smaller_set(kind):
    case = lm()
    few = [4, 1, 2]
    operator, small = (gauss_newton(case), lm()) if kind == "exact" else (SampledFisher(*_parts(case), samples=2), lm())
    small.examples[:] = [small.examples[n] for n in few]
    other = gauss_newton(small) if kind == "exact" else SampledFisher(*_parts(small), samples=2)
    grads = directions(operator)
    assert_near(operator.flat(operator.matvec(grads, few)), other.flat(other.matvec(grads)), 1e-11)


def test_cost_is_counted_in_epochs():
    """(3 + 4q)/3 a product, by the share of the data that was read."""
    operator = gauss_newton(lm())
    operator.matvec(directions(operator, queries=3))
    assert operator.epochs == pytest.approx(15 / 3)
    operator.matvec(directions(operator, queries=3), [0, 1, 2])
    assert operator.epochs == pytest.approx(15 / 3 * 1.5)


def test_the_model_is_left_as_it_was():
    case = lm()
    case.model.train()
    flags = [parameter.requires_grad_(n % 2 == 0).requires_grad for n, parameter in enumerate(case.model.parameters())]
    gauss_newton(case).matvec(directions(gauss_newton(case)))
    assert case.model.training
    assert [parameter.requires_grad for parameter in case.model.parameters()] == flags
    assert all(parameter.grad is None for parameter in case.model.parameters())


def test_dropout_and_batch_norm_are_in_eval_mode():
    case = table(4, 5, 3)
    plain = gauss_newton(case)
    grads = directions(plain)
    expected = plain.flat(plain.matvec(grads))
    case.model.append(nn.Dropout(0.5)).append(nn.BatchNorm1d(3, eps=0).double()).train()
    dropped = gauss_newton(case)
    assert_near(dropped.flat(dropped.matvec(grads)), expected, 1e-12)


def test_a_task_that_does_not_show_its_outputs_is_refused():
    case = table()

    class Closed:
        settings, label_count = {"task": "closed"}, None

        def loss(self, model, batch, **_):
            return model(batch.inputs).sum(1)

        def measurement(self, model, batch):
            return -self.loss(model, batch)

    with pytest.raises(InvalidSetting, match="does not show its outputs"):
        GaussNewton(case.model, track(case.model).layers, Closed(), toys.TinyData(case.examples))


def test_outputs_that_are_not_finite_name_the_document():
    case = table()
    case.examples[3].inputs[0, 0] = torch.nan
    operator = gauss_newton(case)
    with pytest.raises(NumericalError, match="tiny, sequence 3"):
        operator.matvec(directions(operator))


# --- the sampled Fisher ------------------------------------------------------------------------------------------


def _parts(case):
    data = toys.TinyData(case.examples, batch_size=2, padding=1, fill=1)
    return case.model, track(case.model, case.layers).layers, case.task, data


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", ["lm", "mlp", "regression"])
def test_the_sampled_fisher_is_the_one_written_out(name, kept, samples, monkeypatch):
    """Whether the gradients are kept between products or formed anew."""
    case = OURS[name]()
    matrix = joint(at_the_same_labels(case, samples, seed=4))
    if not kept:
        monkeypatch.setattr("whence.curvature.fisher.KEPT_ELEMENTS", 0)
    operator = SampledFisher(*_parts(case), samples=samples, seed=4)
    grads = directions(operator)

    for _ in range(2):
        assert_near(operator.flat(operator.matvec(grads)), operator.flat(grads) @ matrix)
    root = operator.flat(operator.root())
    assert_near(root.T @ root, matrix)
    assert len(root) == operator.rows == len(case.examples) * samples


def test_the_sampled_fisher_tends_to_the_gauss_newton_matrix():
    """The error falls as 1/√samples: an eighth for 64 times as many."""
    case, matrix = table(), joint(table().oracle())
    model, layers, task, _ = _parts(case)
    at_once = toys.TinyData(case.examples, batch_size=len(case.examples), cuts=())
    few, many = (
        float((SampledFisher(model, layers, task, at_once, samples=samples).dense() - matrix).norm())
        for samples in (4, 256)
    )
    assert many < few / 4
    assert many < 0.15 * float(matrix.norm())
