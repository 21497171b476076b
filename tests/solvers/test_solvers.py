"""Every solver against a dense solve, on matrices made up for the purpose: no model anywhere."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from whence.errors import NumericalError
from whence.solvers.algebra import damped, dot, norm, plus, random_like, residual
from whence.solvers.cg import conjugate_gradient
from whence.solvers.neumann import neumann, refuse_useless
from whence.solvers.spectrum import ritz_values, rule, top_eigenvalue
from whence.solvers.woodbury import Woodbury

SHAPES = {"first": (3, 4), "second": (2, 5)}
SIZE = 22
DAMPINGS = {"first": 0.3, "second": 0.15}


def split(flat):
    """``[q 22]`` as two layers."""
    parts = flat.split([12, 10], dim=1)
    return {name: part.reshape(-1, *shape) for part, (name, shape) in zip(parts, SHAPES.items(), strict=True)}


def flat(vector):
    return torch.cat([part.flatten(1) for part in vector.values()], dim=1)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by(matrix):
    return lambda vector: split(flat(vector) @ matrix)


LAMBDA = torch.tensor([DAMPINGS["first"]] * 12 + [DAMPINGS["second"]] * 10, dtype=torch.float64)
ROOT = normal(9, SIZE) * torch.logspace(0, -1.5, 9, dtype=torch.float64)[:, None]
G = ROOT.T @ ROOT
A = G + LAMBDA.diag()
RHS = split(normal(4, SIZE, seed=1))
ANSWER = flat(RHS) @ torch.linalg.inv(A)
ROUGH = A * (1 + 0.3 * torch.eye(SIZE, dtype=torch.float64))
"""Something like A, as EK-FAC is something like G + Λ."""


def rough(vector):
    return by(torch.linalg.inv(ROUGH))(vector)


def error(x):
    """In the norm of A, a query."""
    off = flat(x) - ANSWER
    return ((off @ A) * off).sum(1).sqrt()


@pytest.mark.parametrize("precondition", [None, rough])
def test_conjugate_gradient_is_the_dense_solve(precondition):
    found = conjugate_gradient(by(A), RHS, precondition=precondition, tolerance=1e-12, most=60)

    assert_close(flat(found.x), ANSWER)
    assert (found.residuals <= 1e-12).all()
    assert found.products == int(found.iterations.max()) == int(found.per_query.max())


def test_each_query_is_solved_as_it_would_be_alone():
    """Same steps, same iterates, and it stops when it is done, whoever else goes on."""
    mixed = split(torch.cat([flat(RHS)[:2], torch.linalg.eigh(A)[1][:, :1].T, torch.zeros(1, SIZE)]).double())
    together = conjugate_gradient(by(A), mixed, tolerance=1e-8, most=40)

    assert together.iterations[2] == 1  # an eigenvector
    assert together.iterations[3] == 0
    assert together.residuals[3] == 0
    assert (flat(together.x)[3] == 0).all()
    for q in range(4):
        alone = conjugate_gradient(
            by(A), {name: part[q : q + 1] for name, part in mixed.items()}, tolerance=1e-8, most=40
        )
        assert_close(flat(alone.x)[0], flat(together.x)[q], rtol=1e-10, atol=1e-12)
        assert alone.iterations[0] == together.iterations[q]


def test_products_are_asked_only_for_queries_that_need_them():
    asked = []

    def watched(vector):
        asked.append(len(flat(vector)))
        return by(A)(vector)

    found = conjugate_gradient(watched, RHS, precondition=rough, tolerance=1e-6, most=60)
    assert sum(asked) == int(found.per_query.sum())
    assert len(asked) == found.products


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_starting_at_the_preconditioners_answer_is_never_better_than_starting_at_zero(most):
    """For as many products: it costs one, and leaves a smaller space to choose from."""
    cold = conjugate_gradient(by(A), RHS, precondition=rough, tolerance=0, most=most)
    warm = conjugate_gradient(by(A), RHS, precondition=rough, start=rough(RHS), tolerance=0, most=most)

    assert cold.products == warm.products == most
    assert (error(cold.x) <= error(warm.x) * (1 + 1e-9)).all()
    assert (error(cold.x) < error(rough(RHS))).all()


def test_a_start_near_the_answer_saves_products():
    near = split(ANSWER + 1e-6 * normal(4, SIZE, seed=3))
    before = {name: part.clone() for name, part in near.items()}
    cold = conjugate_gradient(by(A), RHS, tolerance=1e-8, most=60)
    warm = conjugate_gradient(by(A), RHS, start=near, tolerance=1e-8, most=60)

    assert warm.products < cold.products
    assert_close(flat(warm.x), ANSWER, rtol=1e-6, atol=1e-7)
    assert all(torch.equal(near[name], part) for name, part in before.items())


def test_the_reported_residual_is_the_true_one():
    found = conjugate_gradient(by(A), RHS, precondition=rough, tolerance=0, most=4)
    assert_close(found.residuals, residual(by(A), RHS, found.x), rtol=1e-8, atol=0)


@pytest.mark.parametrize("matrix", [A - 5 * torch.eye(SIZE), A * torch.nan])
def test_a_matrix_that_is_not_positive_definite_is_refused(matrix):
    with pytest.raises(NumericalError, match="positive definite"):
        conjugate_gradient(by(matrix.double()), RHS, tolerance=1e-10, most=40)


# --- spectrum ----------------------------------------------------------------------------------------------------


def test_ritz_values_are_the_spectrum_once_cg_is_done():
    found = conjugate_gradient(by(A), random_like(RHS, 1, 5), tolerance=1e-13, most=40)
    exact = torch.linalg.eigvalsh(A)
    seen = ritz_values(found)
    assert_close(seen[-1], exact[-1])
    assert_close(seen[0], exact[0], rtol=1e-6, atol=0)


def test_the_top_eigenvalue_is_found_in_a_few_products():
    exact = float(torch.linalg.eigvalsh(A)[-1])
    assert exact < top_eigenvalue(by(A), RHS) < 1.11 * exact
    inverse = torch.linalg.inv(ROUGH)
    exact = float(torch.linalg.eigvals(inverse @ A).real.max())
    assert exact < top_eigenvalue(by(A), RHS, precondition=rough, products=5) < 1.11 * exact


def test_the_rule_of_lissa():
    """As published for ResNet-50: λ = 5, η = 0.002, T = 200 and batch 5, up to the rounding of its table."""
    plan = rule(500.0, 1250.0, {"all": 5.0}, 10_000)
    assert plan.step == pytest.approx(0.002)
    assert plan.batch == 5
    assert plan.depth == pytest.approx(230, abs=1)
    assert rule(500.0, 1e9, {"all": 5.0}, 300).batch == 300


# --- Neumann -----------------------------------------------------------------------------------------------------


def everything(step, vector):
    return by(G)(vector)


def test_lissa_converges_to_the_dense_solve():
    x = neumann(everything, RHS, DAMPINGS, steps=3000, step_size=1 / float(torch.linalg.eigvalsh(A)[-1]))
    assert_close(flat(x), ANSWER, rtol=1e-5, atol=1e-6)


def test_each_lissa_step_is_the_neumann_series():
    """x_T = η Σ_{k<T} (I − ηA)ᵏ b."""
    step, total, power = 0.01, torch.zeros_like(ANSWER), flat(RHS)
    for _ in range(7):
        total, power = total + step * power, power - step * power @ A
    assert_close(flat(neumann(everything, RHS, DAMPINGS, steps=7, step_size=step)), total)


def test_astra_starts_at_the_preconditioners_answer_and_converges_to_the_dense_solve():
    """With a step of one and no momentum from zero, its first step is that answer."""
    first = neumann(everything, RHS, DAMPINGS, steps=1, step_size=1.0, precondition=rough)
    assert_close(flat(first), flat(rough(RHS)))

    x = neumann(everything, RHS, DAMPINGS, steps=300, step_size=0.1, precondition=rough, momentum=0.9, start=rough(RHS))
    assert_close(flat(x), ANSWER, rtol=1e-5, atol=1e-6)


def test_random_batches_come_near_when_the_rule_is_kept():
    """Each step sees one of nine rows' share, or several, of G."""

    def batch(step, vector):
        rows = torch.randint(9, (6,), generator=torch.Generator().manual_seed(step))
        part = ROOT[rows] * (9 / 6) ** 0.5
        return by(part.T @ part)(vector)

    top = float(torch.linalg.eigvalsh(A)[-1])
    far = neumann(batch, RHS, DAMPINGS, steps=1, step_size=0.1 / top)
    near = neumann(batch, RHS, DAMPINGS, steps=3000, step_size=0.1 / top)
    assert (error(near) < 0.3 * error(far)).all()


@pytest.mark.parametrize(("momentum", "halve"), [(0.0, None), (0.9, 50)])
def test_divergence_raises_and_says_what_would_suit(momentum, halve):
    top = float(torch.linalg.eigvalsh(A)[-1])
    with pytest.raises(NumericalError, match="diverged at step .* suits top eigenvalues below") as caught:
        neumann(
            everything, RHS, DAMPINGS, steps=2000, step_size=5 / top, momentum=momentum, halve_every=halve, start=RHS
        )
    assert "cg" in str(caught.value)
    with pytest.raises(NumericalError, match="not finite"):
        neumann(everything, split(ANSWER * torch.nan), DAMPINGS, steps=3, step_size=1 / top)


def test_an_answer_worse_than_none_is_refused():
    refuse_useless(torch.tensor([0.5, 9.0]), 1.0, 0.1)
    with pytest.raises(NumericalError, match="11 times the right-hand side"):
        refuse_useless(torch.tensor([0.5, 11.0]), 1.0, 0.1)


# --- Woodbury ----------------------------------------------------------------------------------------------------


def test_woodbury_is_the_dense_solve():
    factored = Woodbury.of(split(ROOT), DAMPINGS)
    assert_close(flat(factored.solve(RHS)), ANSWER)
    assert_close(flat(factored.product(RHS)), flat(RHS) @ G)
    assert (residual(damped(factored.product, DAMPINGS), RHS, factored.solve(RHS)) < 1e-12).all()


def test_woodbury_refuses_what_is_not_finite():
    with pytest.raises(NumericalError):
        Woodbury.of(split(ROOT * math.inf), DAMPINGS)


def test_sums_run_over_layers_a_query():
    assert_close(dot(RHS, RHS), flat(RHS).square().sum(1))
    assert_close(norm(RHS), flat(RHS).norm(dim=1))
    doubled = plus(RHS, RHS, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert_close(flat(doubled)[3], 5 * flat(RHS)[3])
