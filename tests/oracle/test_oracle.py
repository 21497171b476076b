"""The oracle itself, where something simpler says what it must be."""

from __future__ import annotations

import torch
from tests.cases import OURS, lm, table
from torch.testing import assert_close

from whence.testing import dense, differences, tiny, toys


def test_gradients_are_output_gradients_times_inputs():
    """G = Σ_t δ_t a_tᵀ: the two ways in which the oracle reads a model agree."""
    for make in OURS.values():
        oracle = make().oracle()
        for one in oracle.examples[:3]:
            draw = oracle.true_draw(one)
            for name, inputs in oracle.inputs(one).items():
                assert_close(draw.output_grads[name].T @ inputs, draw.gradients[name])


def test_the_fisher_is_the_gauss_newton_matrix():
    """Jᵀ (diag p − p pᵀ) J for softmax, with J by forward differences in parameter space."""
    case = table(3, 2, 3)
    oracle, layer = case.oracle(), case.model.get_submodule("0")
    expected = torch.zeros(8, 8, dtype=torch.float64)
    for one in case.examples:

        def logits(matrix, one=one):
            hidden = torch.tanh(one.inputs @ matrix[:, :-1].T + matrix[:, -1])
            return case.model[2](hidden)[0]

        point = torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach()
        jacobian = torch.autograd.functional.jacobian(logits, point).flatten(1)
        p = logits(point).softmax(-1)
        expected += jacobian.T @ (p.diag() - torch.outer(p, p)) @ jacobian / len(case.examples)

    assert_close(oracle.fisher("0"), expected.detach())


def test_the_fisher_of_a_regression_is_its_hessian():
    """½‖h − y‖² of a linear map: the Hessian is E[x xᵀ] for each output, whatever the labels."""
    case = table(3, 2, bias=False, regression=True)
    x = torch.cat([one.inputs for one in case.examples])

    assert_close(case.oracle().fisher("0"), torch.kron(torch.eye(2, dtype=torch.float64), x.T @ x / len(x)))


def test_samples_of_every_label_in_proportion_are_the_expectation():
    """One position, two labels of probability 3/4 and 1/4: four samples give the exact Fisher."""
    model = tiny.mlp(2, 2, seed=3)
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([3.0, 1.0], dtype=torch.float64).log())
    examples = toys.rows(3, inputs=2, classes=2)
    labels = [[torch.tensor([c]) for c in (0, 0, 0, 1)] for _ in examples]

    sampled = dense.Oracle(model, ["0"], examples, "classes", labels)
    exact = dense.Oracle(model, ["0"], examples, "classes")

    for curvature in ("fisher", "diagonal", "kfac", "ekfac"):
        assert_close(getattr(sampled, curvature)("0"), getattr(exact, curvature)("0"))


def test_ekfac_is_no_further_from_the_fisher_than_kfac():
    """Λ minimises ‖F − Q diag(Λ) Qᵀ‖ over all diagonals, K-FAC's eigenvalues among them."""
    oracle = lm().oracle()
    for layer in oracle.layers[::3]:
        fisher = oracle.fisher(layer)
        assert (oracle.ekfac(layer) - fisher).norm() < (oracle.kfac(layer) - fisher).norm()


def test_finite_differences_sum_to_the_gradient():
    """Σ_t d/dα log p(y_t | θ + αp) = −pᵀ∇L, and an unscored position has none of it."""
    oracle = lm().oracle()
    generator = torch.Generator().manual_seed(1)
    direction = {
        name: torch.randn(g.shape[1:], generator=generator, dtype=g.dtype) for name, g in oracle.gradients().items()
    }
    for n, one in enumerate(oracle.examples):
        per_token = differences.output_tokens(oracle, one, direction)
        expected = -sum((direction[name] * g[n]).sum() for name, g in oracle.gradients().items())
        assert_close(per_token.sum(), expected, rtol=1e-7, atol=1e-7)
        assert not per_token[~one.scored[0]].any()
