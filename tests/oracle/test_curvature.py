"""Fitted curvatures against matrices written out, at the same sampled labels."""

from __future__ import annotations

import functools

import pytest
import torch
from tests.cases import OURS, architecture, lm, table
from torch.testing import assert_close

from whence.curvature import CURVATURES
from whence.jobs.fit import fit
from whence.testing import contracts, dense, toys


def fitted(case, curvature="ekfac", *, data=None, **settings):
    data = data or toys.TinyData(case.examples, batch_size=2, padding=1, fill=1)
    return fit(case.model, data, task=case.task, layers=case.layers, curvature=curvature, **settings)


def in_one_batch(case):
    """Where labels are sampled often, so that it takes no longer than it must."""
    return toys.TinyData(case.examples, batch_size=len(case.examples), cuts=())


def at_the_same_labels(case, samples=1, seed=0):
    """The oracle, with the labels that the task draws."""
    task = contracts.TaskCase(case.task, case.model, case.examples, case.kind)
    labels = [[contracts.labels_of(task, one, seed=seed, sample=k) for k in range(samples)] for one in case.examples]
    return case.oracle(labels=labels)


@functools.cache
def written_out(name, samples):
    """A case and its oracle, for all curvatures."""
    case = OURS[name]()
    return case, at_the_same_labels(case, samples, seed=4)


def assert_near(found, expected, tolerance=1e-9):
    assert_close(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("curvature", CURVATURES)
@pytest.mark.parametrize("name", OURS)
def test_the_matrix_is_the_one_written_out(name, curvature, samples):
    """Every layer, several samples averaged as squares."""
    case, oracle = written_out(name, samples)

    found = fitted(case, curvature, samples=samples, seed=4)

    for layer in case.layers:
        if curvature == "ekfac":  # an eigenvalue that occurs twice leaves its vectors to chance: Λ in the same basis
            block = found.blocks[layer]
            basis = block.output_basis, block.input_basis
            for moment, q in zip((oracle.output_moment(layer), oracle.input_moment(layer)), basis, strict=True):
                assert_near(q.T @ q, torch.eye(len(q), dtype=q.dtype))
                assert_near(q @ (q.T @ moment @ q).diagonal().diag() @ q.T, moment)
            expected = oracle.ekfac(layer, basis)
        else:
            expected = oracle.dense(curvature, layer)
        assert_near(found.dense(layer), expected)


@pytest.mark.parametrize("curvature", ["diagonal", "kfac", "ekfac"])
def test_the_empirical_fisher_is_taken_at_the_datas_labels(curvature):
    case = lm()
    oracle = case.oracle(labels=[[one.targets] for one in case.examples])
    found = fitted(case, curvature, labels="true")
    for layer in case.layers[::4]:
        assert_near(found.dense(layer), oracle.dense(curvature, layer), 1e-8)


@pytest.mark.parametrize("name", ["gpt2", "gemma"])
def test_the_matrix_of_an_architecture_is_the_one_written_out(name):
    """float32 norms and softmax inside: 1e-4."""
    case = architecture(name)
    oracle = at_the_same_labels(case)
    for curvature in ("diagonal", "kfac"):
        found = fitted(case, curvature)
        for layer in case.layers:
            assert_near(found.dense(layer), oracle.dense(curvature, layer), 1e-4)


def test_counts_are_kept_with_the_sums():
    """N_f sequences and P_f real positions: any scaling can be recovered."""
    case = lm()
    counts = fitted(case, "ekfac").counts
    assert counts["sequences"] == len(case.examples)
    assert counts["positions"] == sum(int(one.real.sum()) for one in case.examples)


def test_kfac_is_exact_for_one_example_of_one_position():
    """F = (δδᵀ) ⊗ (aaᵀ) when there is nothing to average over but the label."""
    case = table(4, 5, 3)
    one = type(case)(case.model, case.layers, case.examples[:1], case.kind)
    for layer in case.layers:
        assert_near(one.oracle().kfac(layer), one.oracle().fisher(layer))
        assert_near(fitted(one, "kfac", seed=2).dense(layer), at_the_same_labels(one, seed=2).fisher(layer))


def test_kfac_is_exact_for_a_linear_regression():
    """δ ~ N(0, I) whatever the input: the factors are independent."""
    case = table(4, 2, regression=True)
    oracle = case.oracle()
    assert_near(oracle.kfac("0"), oracle.fisher("0"))
    found = fitted(case, "kfac", samples=400, data=in_one_batch(case)).dense("0")
    assert (found - oracle.fisher("0")).norm() < 0.1 * oracle.fisher("0").norm()


@pytest.mark.parametrize("name", ["lm", "mlp"])
def test_ekfac_is_no_further_from_the_fisher_than_kfac(name):
    """In Frobenius norm, layer by layer: Λ is the best diagonal of its basis, K-FAC's is one of the others."""
    case = OURS[name]()
    oracle = at_the_same_labels(case)
    ekfac, kfac, diagonal = (fitted(case, curvature) for curvature in ("ekfac", "kfac", "diagonal"))
    for layer in case.layers:
        fisher = oracle.fisher(layer)
        distances = [(found.dense(layer) - fisher).norm() for found in (ekfac, kfac, diagonal)]
        assert distances[0] <= distances[1] * (1 + 1e-9)
        assert_near(ekfac.dense(layer).trace(), fisher.trace())
        assert_near(diagonal.dense(layer).trace(), fisher.trace())


@pytest.mark.parametrize("curvature", ["diagonal", "kfac"])
def test_sampled_curvature_approaches_the_exact_expectation(curvature):
    """Error falls as 1/√samples: by about 7 from 2 samples to 96 (at least 4, at fixed seeds)."""
    case = table(3, 3, 3)
    exact = case.oracle().dense(curvature, "0")

    def error(samples):
        found = (fitted(case, curvature, samples=samples, seed=seed, data=in_one_batch(case)) for seed in range(3))
        return torch.stack([(one.dense("0") - exact).norm() for one in found]).mean()

    few, many = error(2), error(96)
    assert few / many > 4
    assert many < 0.1 * exact.norm()


def test_a_fisher_sampled_often_is_the_gauss_newton_matrix_of_the_language_model():
    """The exact expectation has no cross terms between positions; 64 samples of each label come near it."""
    case = lm()
    exact, found = case.oracle(), fitted(case, "diagonal", samples=64, data=in_one_batch(case))
    expected = torch.cat([exact.fisher(layer).diagonal() for layer in case.layers])
    sampled = torch.cat([found.dense(layer).diagonal() for layer in case.layers])
    assert (sampled - expected).norm() < 0.15 * expected.norm()


@pytest.mark.parametrize("damping", ["0.1", "1.5", "abs:1e-2"])
@pytest.mark.parametrize("curvature", CURVATURES)
def test_solves_are_those_of_the_damped_matrix(curvature, damping):
    case = lm()
    found = fitted(case, curvature, damping=damping)
    gradients = case.oracle().gradients()
    value = float(damping.removeprefix("abs:"))
    solved = found.solve(gradients)
    for layer in case.layers[::3]:
        matrix = found.dense(layer)
        lam = value if damping.startswith("abs:") else dense.relative(matrix, value)
        lam = 0.0 if curvature == "identity" else lam
        assert_near(solved[layer], dense.solve(matrix, gradients[layer], lam), 1e-7)
