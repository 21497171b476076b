"""The proximal Bregman response against closed forms, Newton's method, and the linear solve that it becomes."""

import math

import pytest
import torch
from torch import nn

from whence.data.tensors import TensorData
from whence.errors import InvalidSetting, NumericalError
from whence.evaluate.examples import collect
from whence.evaluate.models import as_queries
from whence.evaluate.pbrf import pbrf
from whence.jobs.fit import fit
from whence.jobs.refine import make_inverse
from whence.layers.select import track
from whence.tasks import CausalLM, Classification, Regression
from whence.testing import tiny, toys

N, D, LAMBDA = 24, 3, 0.07
POINTS, ASKED = [5, 11, 2], [0, 1]
TIGHT = {"tolerance": 1e-6}


def rows(seed=0):
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ridge():
    """A linear regression at its ridge solution, its data, design matrix with ones, and residuals."""
    x = rows()
    y = x @ rows(1)[:D, :1] + 0.5 * rows(2)[:, :1]
    design = torch.cat([x, torch.ones(N, 1, dtype=torch.float64)], dim=1)
    model = nn.Sequential(nn.Linear(D, 1).double())
    w = torch.linalg.solve(design.T @ design / N + LAMBDA * torch.eye(D + 1), design.T @ y / N)[:, 0]
    model[0].weight.data, model[0].bias.data = w[None, :-1].clone(), w[-1:].clone()
    return model, x, y, design, w


def test_on_ridge_regression_both_signs_have_closed_forms():
    """θˢ(ε) = θˢ − ε (G + λ + ε a aᵀ)⁻¹ (aᵀθˢ − y) a, and f = −½(h − y)²."""
    model, x, y, design, w = ridge()
    data = TensorData(x, y, batch_size=N)
    moment = design.T @ design / N + LAMBDA * torch.eye(D + 1)
    before = -0.5 * (design[ASKED] @ w - y[ASKED, 0]) ** 2

    found = pbrf(
        model, track(model, "0").layers, {"0": LAMBDA}, data, Regression(), [as_queries(collect(data, ASKED))], POINTS,
        epsilon=1 / N, **TIGHT,
    )  # fmt: skip

    for column, point in enumerate(POINTS):
        a, residual = design[point], design[point] @ w - y[point, 0]
        for sign, at_solution in ((1, found.plus), (-1, found.minus)):
            eps = sign / N
            moved = w - eps * torch.linalg.solve(moment + eps * torch.outer(a, a), residual * a)
            f = -0.5 * (design[ASKED] @ moved - y[ASKED, 0]) ** 2
            torch.testing.assert_close(at_solution[:, column] - before, f - before, rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(found.before, before)
    assert found.converged
    assert found.drift < 1e-6


def test_on_logistic_regression_it_is_what_newton_finds():
    x = rows()
    y = torch.randint(3, (N,), generator=torch.Generator().manual_seed(4))
    model = nn.Sequential(nn.Linear(D, 3).double())
    data = TensorData(x, y, batch_size=N)
    design = torch.cat([x, torch.ones(N, 1, dtype=torch.float64)], dim=1)
    start = torch.cat([model[0].weight, model[0].bias[:, None]], dim=1).detach()
    p_start = (design @ start.T).softmax(-1)

    found = pbrf(
        model, track(model, "0").layers, {"0": LAMBDA}, data, Classification(), [as_queries(collect(data, ASKED))],
        POINTS, epsilon=1 / N, **TIGHT,
    )  # fmt: skip

    def objective(flat, point, eps):
        w = flat.view_as(start)
        log_p = (design @ w.T).log_softmax(-1)
        kl = (p_start * (p_start.log() - log_p)).sum() / N
        return kl - eps * log_p[point, y[point]] + LAMBDA / 2 * (w - start).square().sum()

    for column, point in enumerate(POINTS):
        for sign, at_solution in ((1, found.plus), (-1, found.minus)):
            flat = start.flatten()
            for _ in range(20):

                def at(v, point=point, sign=sign):
                    return objective(v, point, sign / N)

                slope, curve = torch.func.grad(at)(flat), torch.func.hessian(at)(flat)
                flat = flat - torch.linalg.solve(curve, slope)
            log_p = (design @ flat.view_as(start).T).log_softmax(-1)
            moved = log_p[ASKED, y[ASKED]] - found.before
            torch.testing.assert_close(at_solution[:, column] - found.before, moved, rtol=2e-3, atol=1e-5)


def dense_response(model, layers, dampings, outputs_of, loss_of, count, points, asked, hessian_of):
    """−∇fᵀ (G + Λ)⁻¹ ∇L with the joint Gauss-Newton matrix of all layers, built from Jacobians."""
    names = [name for name, _ in model.named_parameters() if any(name.startswith(f"{l.path}.") for l in layers)]
    own = {name: p.detach() for name, p in model.named_parameters() if name in names}
    shapes = {name: p.shape for name, p in own.items()}

    def unflatten(v):
        parts, at = {}, 0
        for name in names:
            size = math.prod(shapes[name])
            parts[name], at = v[at : at + size].view(shapes[name]), at + size
        return parts

    theta = torch.cat([own[name].flatten() for name in names])
    jacobians = [torch.func.jacrev(lambda v, n=n: outputs_of(unflatten(v), n))(theta) for n in range(count)]
    gauss = sum(j.T @ hessian_of(n) @ j for n, j in enumerate(jacobians)) / count
    lam = {}
    for layer in layers:
        filled = torch.full((layer.outputs, layer.inputs), dampings[layer.name], dtype=torch.float64)
        for part, tensor in layer.adapter.tensors(filled, layer.module).items():
            lam[f"{layer.path}.{part}"] = tensor
    damped = gauss + torch.cat([lam[name].flatten() for name in names]).diag()
    grads = {n: torch.func.grad(lambda v, n=n: loss_of(unflatten(v), n))(theta) for n in {*points, *asked}}
    q, m = torch.stack([-grads[n] for n in asked]), torch.stack([grads[n] for n in points])
    return -q @ torch.linalg.solve(damped, m.T)


def test_it_becomes_the_joint_gauss_newton_solve_with_each_layers_own_damping():
    model, layers_of = tiny.mlp(3, 4, 2, seed=3), ["0", "2"]
    x, y = rows(), torch.randint(2, (N,), generator=torch.Generator().manual_seed(5))
    data, layers, dampings = TensorData(x, y, batch_size=N), track(model, layers_of).layers, {"0": 0.05, "2": 0.4}

    def logits(own, n):
        return torch.func.functional_call(model, own, (x[n : n + 1],))[0]

    def hessian(n):
        p = model(x[n : n + 1])[0].softmax(-1).detach()
        return p.diag() - torch.outer(p, p)

    expected = dense_response(
        model, layers, dampings, logits, lambda own, n: -logits(own, n).log_softmax(-1)[y[n]], N, POINTS, ASKED, hessian
    )
    found = pbrf(
        model, layers, dampings, data, Classification(), [as_queries(collect(data, ASKED))], POINTS, epsilon=1e-5,
        **TIGHT,
    )  # fmt: skip

    torch.testing.assert_close(found.response, expected, rtol=2e-3, atol=1e-4)
    assert found.asymmetry < 1e-2


def test_on_a_language_model_only_the_tracked_layers_move_and_prompts_carry_no_divergence():
    model, task = tiny.language_model(width=4, hidden=3, blocks=1, vocab=5), CausalLM()
    data = toys.TinyData(toys.sequences(6, vocab=5), batch_size=6, cuts=[])
    layers = track(model, "*.mlp.*").layers
    dampings = {layer.name: 0.1 * (1 + number) for number, layer in enumerate(layers)}
    examples = [next(data.gather([n])) for n in range(6)]

    def rows_of(own, n):
        one = examples[n]
        return torch.func.functional_call(model, own, (one.inputs,)).logits[0][one.scored[0]]

    def loss(own, n):
        one = examples[n]
        return -rows_of(own, n).log_softmax(-1).gather(-1, one.targets[0][one.scored[0]][:, None]).sum()

    def hessian(n):
        p = rows_of({}, n).softmax(-1).detach()
        return torch.block_diag(*(row.diag() - torch.outer(row, row) for row in p))

    points, asked = [1, 3], [0, 4]
    expected = dense_response(
        model, layers, dampings, lambda own, n: rows_of(own, n).flatten(), loss, 6, points, asked, hessian
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = pbrf(
        model, layers, dampings, data, task, [as_queries(collect(data, asked))], points, epsilon=1e-5,
        **TIGHT,
    )  # fmt: skip

    torch.testing.assert_close(found.response, expected, rtol=5e-3, atol=1e-3)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_how_many_are_solved_at_once_and_how_the_data_are_batched_change_nothing():
    model, x, y, _, _ = ridge()
    layers, queries = track(model, "0").layers, [as_queries(collect(TensorData(x, y), ASKED))]

    def solved(batch_size, at_once):
        data = TensorData(x, y, batch_size=batch_size)
        return pbrf(model, layers, {"0": LAMBDA}, data, Regression(), queries, POINTS, at_once=at_once, **TIGHT)

    whole = solved(N, None)
    torch.testing.assert_close(solved(N, 2).response, whole.response, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(solved(7, None).response, whole.response, rtol=5e-3, atol=1e-3)


def test_gradients_are_counted_while_solves_go_on():
    """Of the most that all groups may take; never backwards, and to the end when every solve has stopped."""
    model, x, y, _, _ = ridge()
    data, told = TensorData(x, y, batch_size=N), []

    found = pbrf(
        model, track(model, "0").layers, {"0": LAMBDA}, data, Regression(), [as_queries(collect(data, ASKED))],
        POINTS, at_once=len(POINTS), progress=lambda done, total: told.append((done, total)), **TIGHT,
    )  # fmt: skip

    groups = -(-(2 * len(POINTS) + 1) // len(POINTS))
    most = told[0][1] // groups
    assert {total for _, total in told} == {groups * most}
    assert told == sorted(told)
    assert told[-1] == (groups * most, groups * most)
    assert len(told) > groups + found.settings["gradients_taken"]["largest"] - 2  # not only when a group is done


def test_the_proximal_step_moves_towards_the_minimum_and_subtracts_its_control():
    """With the loss in place of its divergence, ridge around θˢ has a closed form for every ε."""
    model, x, y, design, _ = ridge()
    model[0].weight.data += 0.3  # θˢ is no minimum
    w = torch.cat([model[0].weight.data[0], model[0].bias.data])
    moment = design.T @ design / N + LAMBDA * torch.eye(D + 1)
    slope = design.T @ (design @ w - y[:, 0]) / N
    data = TensorData(x, y, batch_size=N)

    found = pbrf(
        model, track(model, "0").layers, {"0": LAMBDA}, data, Regression(), [as_queries(collect(data, ASKED))], POINTS,
        objective="loss", epsilon=1 / N, **TIGHT,
    )  # fmt: skip

    def f(point, eps):
        a = design[point]
        moved = w - torch.linalg.solve(moment + eps * torch.outer(a, a), slope + eps * (a @ w - y[point, 0]) * a)
        return -0.5 * (design[ASKED] @ moved - y[ASKED, 0]) ** 2

    expected = torch.stack([f(point, -1 / N) - f(point, 0.0) for point in POINTS], dim=1)
    torch.testing.assert_close(found.removal, expected, rtol=5e-3, atol=1e-4)
    assert found.drift > 1e-3


def test_what_has_not_converged_is_said():
    model, x, y, _, _ = ridge()
    data = TensorData(x, y, batch_size=N)

    found = pbrf(
        model, track(model, "0").layers, {"0": LAMBDA}, data, Regression(), [as_queries(collect(data, ASKED))], POINTS,
        tolerance=1e-9, most=2,
    )  # fmt: skip

    assert not found.converged
    assert found.to_dict()["gradient_norm"]["largest"] == float(found.gradient_norms.max()) > 1e-9


def test_what_cannot_be_solved_is_refused():
    model, x, y, _, _ = ridge()
    data = TensorData(x, y, batch_size=N)
    layers, queries = track(model, "0").layers, [as_queries(collect(data, ASKED))]

    with pytest.raises(InvalidSetting, match="epsilon"):
        pbrf(model, layers, {"0": LAMBDA}, data, Regression(), queries, POINTS, epsilon=0.0)
    with pytest.raises(InvalidSetting, match="no training point"):
        pbrf(model, layers, {"0": LAMBDA}, data, Regression(), queries, [])
    y[POINTS[0]] = float("nan")
    with pytest.raises(NumericalError, match=f"example {POINTS[0]}"):
        pbrf(model, layers, {"0": LAMBDA}, data, Regression(), queries, POINTS)


def test_the_metric_of_a_solve_changes_nothing_of_where_it_ends():
    """Λ⁻¹, EK-FAC and the exact inverse: one answer, and the better metric takes fewer gradients."""
    model = tiny.mlp(3, 4, 2, seed=3)
    x, y = rows(), torch.randint(2, (N,), generator=torch.Generator().manual_seed(5))
    data, task = TensorData(x, y, batch_size=N), Classification()
    ekfac = fit(model, data, task=task, layers="all", damping=0.1)
    layers, queries = ekfac.tracked(model), [as_queries(collect(data, ASKED))]
    metrics = (None, ekfac, make_inverse("exact", ekfac, model, task=task, data=data))

    found = [
        pbrf(model, layers, ekfac.dampings, data, task, queries, POINTS, inverse=inverse, epsilon=1e-3, **TIGHT)
        for inverse in metrics
    ]

    assert all(one.converged for one in found)
    for one in found[1:]:
        torch.testing.assert_close(one.response, found[0].response, rtol=1e-4, atol=1e-6)
    taken = [one.settings["gradients_taken"]["largest"] for one in found]
    assert taken[0] > taken[1] > taken[2]
