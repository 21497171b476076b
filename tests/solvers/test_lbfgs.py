"""L-BFGS on quadratics whose minimum is known, and on functions that are none."""

import pytest
import torch

from whence.solvers.algebra import dot, norm, rows
from whence.solvers.lbfgs import minimise

S, O, I = 3, 2, 4


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hessians(condition=1e3):
    """A positive definite matrix over the ``O × I`` weights of each member."""
    basis = torch.linalg.qr(draw(S, O * I, O * I))[0]
    return (
        basis @ torch.logspace(0, -torch.log10(torch.tensor(condition)), O * I, dtype=torch.float64).diag() @ basis.mT
    )


def quadratic(matrices, offset):
    """½ xᵀHx − bᵀx of each member, and where it is least."""

    def gradient(x, members):
        image = torch.einsum("spq,sq->sp", matrices[members], x["w"].flatten(1))
        return {"w": (image - offset[members]).view(-1, O, I)}

    return gradient, torch.linalg.solve(matrices, offset)


def plain(grads):
    return grads


def solve(gradient, goal, *, precondition=plain, most=200, members=None, start=None):
    count = S if members is None else len(members)
    named = (lambda x, some: gradient(x, torch.tensor(members)[some])) if members is not None else gradient
    start = {"w": torch.zeros(count, O, I, dtype=torch.float64)} if start is None else start
    return minimise(named, start, torch.full((count,), goal, dtype=torch.float64), precondition=precondition, most=most)


def test_the_minimum_of_a_quadratic_is_found_in_any_metric():
    gradient, expected = quadratic(hessians(), draw(S, O * I, seed=1))
    scale = torch.rand(O, I, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
    for precondition in (plain, lambda grads: {"w": 30 * grads["w"]}, lambda grads: {"w": scale * grads["w"]}):
        found = solve(gradient, 1e-9, precondition=precondition)
        assert bool((found.norms <= 1e-9).all())
        torch.testing.assert_close(found.x["w"].flatten(1), expected, rtol=1e-5, atol=1e-6)


def test_with_the_hessian_for_a_metric_one_step_is_enough():
    matrix = hessians(1e6)[:1].expand(S, -1, -1)
    gradient, _ = quadratic(matrix, draw(S, O * I, seed=1))

    found = solve(
        gradient,
        1e-9,
        precondition=lambda grads: {"w": torch.linalg.solve(matrix[0], grads["w"].flatten(1).T).T.reshape(-1, O, I)},
    )

    assert found.evaluations.tolist() == [2] * S


def test_each_member_ends_where_it_would_alone():
    gradient, _ = quadratic(hessians(), draw(S, O * I, seed=1))
    together = solve(gradient, 1e-6)
    for member in range(S):
        alone = solve(gradient, 1e-6, members=[member])
        torch.testing.assert_close(alone.x["w"][0], together.x["w"][member])
        assert alone.evaluations[0] == together.evaluations[member]


def test_a_function_that_turns_steeply_is_followed_with_shorter_steps():
    """φ = Σ log cosh(50 x − a): a unit step along its slope is far too long."""
    centre = draw(S, O, I, seed=3)
    found = solve(lambda x, members: {"w": 50 * torch.tanh(50 * x["w"] - centre[members])}, 1e-6)

    assert bool((found.norms <= 1e-6).all())
    torch.testing.assert_close(found.x["w"], centre / 50, rtol=1e-5, atol=1e-8)


def test_no_more_gradients_are_taken_than_allowed_and_the_best_is_kept():
    gradient, _ = quadratic(hessians(), draw(S, O * I, seed=1))
    asked = []

    def counted(x, members):
        asked.append(len(members))
        return gradient(x, members)

    found = solve(counted, 1e-12, most=7)

    assert len(asked) == 7
    assert found.evaluations.tolist() == [7] * S
    torch.testing.assert_close(norm(gradient(found.x, torch.arange(S))), found.norms)


def test_a_kink_where_no_gradient_vanishes_does_not_go_on_for_ever():
    """φ = |x| in each weight: slopes turn round at every step, however short."""
    found = solve(lambda x, _: {"w": torch.sign(x["w"] - 0.3)}, 1e-6, most=500)

    assert int(found.evaluations.max()) < 500
    assert float((found.x["w"] - 0.3).abs().max()) < 1.0


def test_what_is_not_finite_stops_its_member_and_no_other():
    gradient, expected = quadratic(hessians(), draw(S, O * I, seed=1))

    def broken(x, members):
        found = gradient(x, members)
        found["w"][members == 1] = torch.nan
        return found

    found = solve(broken, 1e-9)

    assert found.evaluations[1] == 1
    assert bool(torch.isnan(found.norms[1]))
    torch.testing.assert_close(found.x["w"].flatten(1)[[0, 2]], expected[[0, 2]], rtol=1e-5, atol=1e-6)


def test_a_member_that_starts_at_its_goal_stays_there():
    gradient, expected = quadratic(hessians(), draw(S, O * I, seed=1))
    start = {"w": expected.view(S, O, I)}

    found = solve(gradient, 1e-9, start=start)

    assert found.evaluations.tolist() == [1] * S
    assert torch.equal(found.x["w"], start["w"])
    assert bool((dot(rows(found.x, torch.arange(S)), start) > 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_answers_keep_their_dtype(dtype):
    start = {"w": torch.zeros(S, O, I, dtype=dtype)}
    found = solve(lambda x, _: {"w": x["w"] - 1}, 1e-4, start=start)

    assert found.x["w"].dtype == dtype
    torch.testing.assert_close(found.x["w"], torch.ones(S, O, I, dtype=dtype), rtol=1e-4, atol=1e-4)
