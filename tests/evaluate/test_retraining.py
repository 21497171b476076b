"""The bank keeps and reuses models; retraining says of convex models what influence says of them."""

import pytest
import torch
from torch import nn

from whence.artifacts.tensors import load_tensors
from whence.data.tensors import TensorData
from whence.errors import ArtifactMismatch, DataError, InvalidSetting
from whence.evaluate.decomposition import GAPS, decompose, ladder
from whence.evaluate.examples import collect
from whence.evaluate.lds import lds
from whence.evaluate.models import as_queries, measure, parameters_of
from whence.evaluate.pbrf import pbrf
from whence.evaluate.removal import RANDOM, removal, value_curve
from whence.evaluate.retrain import Bank, leave_out, predicted, subsets
from whence.evaluate.training import Recipe
from whence.layers.select import track
from whence.tasks import Classification, Regression
from whence.testing import tiny

RIDGE = 0.1
RECIPE = Recipe(optimiser="sgd", learning_rate=0.5, weight_decay=RIDGE, epochs=60, batch_size=1000)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def signs(n=20):
    """One input of ±1 and no bias: every subset of a size has the same curvature, so that θ is linear in weights."""
    x = torch.sign(normal(n, 1))
    y = 0.3 * x + normal(n, 1, seed=1)
    model = nn.Sequential(nn.Linear(1, 1, bias=False)).double()
    model[0].weight.data.fill_(float((x * y).mean() / (1 + RIDGE)))
    asked = as_queries(
        collect(TensorData(torch.tensor([[1.0], [-2.0]]).double(), torch.tensor([[9.0], [9.0]]).double()))
    )
    residual = model(x).detach() - y
    slope = -(model(asked.batch.inputs).detach() - asked.batch.targets) * asked.batch.inputs  # ∇f
    scores = -(slope @ (residual * x).T) / (1 + RIDGE)
    return model, collect(TensorData(x, y)), [asked], scores


def test_the_lds_of_the_exact_linear_case_is_one():
    model, examples, queries, scores = signs()
    bank = Bank(model, Regression(), examples, RECIPE)

    found = lds({"exact": scores, "backwards": -scores}, bank, queries, count=12)

    assert found.per_query["exact"] == pytest.approx([1.0, 1.0])
    assert found.per_query["backwards"] == pytest.approx([-1.0, -1.0])
    assert found.differences["backwards"].value == pytest.approx(2.0)
    assert found.settings["fraction"] == 0.5
    assert found.settings["learning_rate"] == 0.5
    assert any("exact above backwards" in line for line in found.lines())


def test_predictions_have_the_one_sign_and_the_scale_of_f():
    """Where θ is linear in the weights, f's change is the sum of scores to first order, removal or repetition."""
    model, examples, queries, scores = signs(400)
    bank = Bank(model, Regression(), examples, RECIPE)
    weights = torch.ones(3, 400, dtype=torch.float64)
    weights[0, 7], weights[1, 7], weights[2, 9] = 0, 2, 0

    change = bank.change(weights, queries)

    torch.testing.assert_close(predicted(scores, weights), change, rtol=0.02, atol=1e-6)
    torch.testing.assert_close(change[0], -scores[:, 7] / 400, rtol=0.02, atol=1e-6)


def logistic(n):
    """A logistic regression trained to its regularised minimum, and exact scores of ten points on two queries."""
    x = normal(n, 2)
    y = (torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64) < x[:, 0].sigmoid()).long()
    design = torch.cat([x, torch.ones(n, 1, dtype=torch.float64)], dim=1)
    model = nn.Sequential(nn.Linear(2, 2)).double()
    for parameter in model.parameters():
        parameter.data.zero_()
    w = torch.zeros(2, 3, dtype=torch.float64).flatten()

    def loss(v, rows):
        return nn.functional.cross_entropy(design[rows] @ v.view(2, 3).T, y[rows], reduction="sum")

    def objective(v):
        return loss(v, slice(None)) / n + RIDGE / 2 * v.square().sum()

    for _ in range(20):
        w = w - torch.linalg.solve(torch.func.hessian(objective)(w), torch.func.grad(objective)(w))
    grads = torch.stack([torch.func.grad(loss)(w, slice(row, row + 1)) for row in range(10)])
    scores = grads[:2] @ torch.linalg.solve(torch.func.hessian(objective)(w), grads.T)
    return model, collect(TensorData(x, y)), scores


def test_leaving_one_out_of_a_convex_model_becomes_the_influence_derivative_as_n_grows():
    errors = []
    for n in (20, 80, 320):
        model, examples, scores = logistic(n)
        recipe = Recipe(optimiser="sgd", learning_rate=2.0, momentum=0.8, weight_decay=RIDGE, epochs=150, batch_size=n)
        bank = Bank(model, Classification(), examples, recipe)
        queries = [as_queries(collect(TensorData(examples.inputs[:2], examples.targets[:2])))]
        change = bank.change(leave_out([[row] for row in range(10)], n), queries).T
        errors.append(float((change * n + scores).norm() / scores.norm()))

    assert errors[0] > 2.5 * errors[1] > 2.5**2 * errors[2]
    assert errors[2] < 0.03


def bank_in(folder, **other):
    model = tiny.mlp(4, 5, 3)
    examples = collect(TensorData(normal(8, 4), torch.arange(8) % 3))
    recipe = Recipe(learning_rate=0.01, epochs=2, batch_size=4)
    return Bank(
        **{"model": model, "task": Classification(), "examples": examples, "recipe": recipe, "folder": folder} | other
    )


def asked():
    return [as_queries(collect(TensorData(normal(3, 4, seed=5), torch.tensor([0, 1, 2]))))]


def test_a_bank_trains_a_model_once_and_every_method_finds_it(tmp_path):
    bank = bank_in(tmp_path)
    weights = leave_out([[0], [1, 2], [0]], 8)

    first = bank.measure(weights, asked())
    assert bank.trained == 2
    again = bank_in(tmp_path)
    assert torch.equal(again.measure(weights.flip(0), asked()), first.flip(0))
    assert again.trained == 0

    again.change(weights[:1], asked())
    assert again.trained == 1  # the model of everything
    again.measure(weights[:1], asked(), seeds=(0, 1))
    assert again.trained == 2  # another order


def test_an_interrupted_bank_goes_on_from_the_chunk_it_was_at(tmp_path):
    def stop(done, of):
        if done:
            raise KeyboardInterrupt

    weights = leave_out([[row] for row in range(4)], 8)
    with pytest.raises(KeyboardInterrupt):
        bank_in(tmp_path, at_once=2, progress=stop).models(weights)
    assert len(list((tmp_path / "models").glob("*.safetensors"))) == 2

    bank = bank_in(tmp_path, at_once=2)
    found = bank.models(weights)
    assert bank.trained == 2
    for name, tensor in bank_in(None, at_once=2).models(weights).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("field", ["recipe", "examples", "model", "task"])
def test_a_bank_of_another_recipe_data_or_start_is_refused(tmp_path, field):
    bank_in(tmp_path).models(leave_out([[0]], 8))
    other = {
        "recipe": Recipe(learning_rate=0.02, epochs=2, batch_size=4),
        "examples": collect(TensorData(normal(8, 4), torch.arange(8) % 2)),
        "model": tiny.mlp(4, 5, 3, seed=1),
        "task": Regression(),
    }

    with pytest.raises(ArtifactMismatch):
        bank_in(tmp_path, **{field: other[field]})


def test_kept_models_are_plain_tensors_by_name(tmp_path):
    bank = bank_in(tmp_path)
    stack = bank.models(bank.everything)
    (file,) = (tmp_path / "models").iterdir()

    kept = load_tensors(file)

    assert all(torch.equal(kept[name], stack[name]) for name in parameters_of(bank.model))
    f = measure(bank.task, bank.model, kept, asked())
    torch.testing.assert_close(f, bank.measure(bank.everything, asked()))


def test_seeds_can_start_from_elsewhere():
    """Cold starts of their own; a warm start goes on from the given parameters."""
    starts = [parameters_of(tiny.mlp(4, 5, 3, seed=seed)) for seed in (1, 2)]
    bank = bank_in(None, start=lambda seed: starts[seed])
    here = bank_in(None, model=tiny.mlp(4, 5, 3, seed=2))

    mean = bank.measure(bank.everything, asked(), seeds=(0, 1))
    second = bank.measure(bank.everything, asked(), seeds=(1,))

    torch.testing.assert_close(second, here.measure(here.everything, asked(), seeds=(1,)))
    torch.testing.assert_close(mean, (bank.measure(bank.everything, asked()) + second) / 2)


def test_subsets_are_of_one_size_and_repeatable():
    weights = subsets(5, 10, fraction=0.3, seed=2)

    assert weights.sum(1).tolist() == [3] * 5
    assert torch.equal(weights, subsets(5, 10, fraction=0.3, seed=2))
    assert torch.equal(weights[:2], subsets(2, 10, fraction=0.3, seed=2))  # more subsets keep the first ones
    assert not torch.equal(weights, subsets(5, 10, fraction=0.3, seed=3))
    with pytest.raises(InvalidSetting):
        subsets(5, 10, fraction=1.0)
    with pytest.raises(DataError):
        leave_out([[10]], 10)


def test_removing_what_helps_most_hurts_more_than_chance_and_the_reverse_less():
    model, examples, queries, scores = signs(40)
    bank = Bank(model, Regression(), examples, RECIPE)

    found = removal({"exact": scores, "backwards": -scores}, bank, queries, share=0.05, draws=6)

    assert found.settings["removed"] == 2
    assert (found.rises["exact"] > found.rises[RANDOM]).all()
    assert (found.rises["backwards"] < found.rises[RANDOM]).all()
    top = scores.topk(2, dim=1).indices
    for query in range(2):
        change = bank.change(leave_out([top[query].tolist()], 40), queries)[0, query]
        assert found.rises["exact"][query] == pytest.approx(-float(change))
    assert found.above_random["exact"].value > 0 > found.above_random["backwards"].value


def test_value_curves_remove_the_worst_first_and_add_the_best_first():
    model, examples, _, _ = signs(10)
    bank = Bank(model, Regression(), examples, RECIPE)
    seen = []

    def judge(stack):
        seen.append(stack["0.weight"].flatten())
        return seen[-1]

    values = torch.arange(10).double()
    removed = value_curve(values, bank, judge, [0.0, 0.3])
    added = value_curve(values, bank, judge, [0.7, 1.0], way="add")

    assert torch.allclose(removed, added.flip(0))  # the three lowest out; the seven highest in
    expected = bank.models(leave_out([[], [0, 1, 2]], 10))["0.weight"].flatten()
    torch.testing.assert_close(removed, expected)
    with pytest.raises(InvalidSetting):
        value_curve(values, bank, judge, [1.0])


def test_on_ridge_each_gap_of_the_ladder_is_what_theory_says():
    """Warm and cold starts find the one minimum; the last two gaps are those of the numbers they stand between."""
    n, d = 40, 2
    x = normal(n, d)
    y = x @ normal(d, 1, seed=3) + normal(n, 1, seed=4)
    model = nn.Sequential(nn.Linear(d, 1, bias=False)).double()
    moment = x.T @ x / n
    w = torch.linalg.solve(moment + RIDGE * torch.eye(d), x.T @ y / n)
    model[0].weight.data = w.T.clone()
    examples, data, task = collect(TensorData(x, y)), TensorData(x, y, batch_size=n), Regression()
    queries, points = [as_queries(collect(data, [0, 1, 2]))], [4, 5, 6, 7]
    theta, layers = parameters_of(model), track(model, "0").layers
    recipe = Recipe(optimiser="sgd", learning_rate=0.3, weight_decay=RIDGE, epochs=150, batch_size=n)
    cold = Bank(model, task, examples, recipe, start=lambda _: {"0.weight": torch.zeros_like(theta["0.weight"])})
    warm = Bank(model, task, examples, recipe, start=lambda _: theta)
    solves = {
        objective: pbrf(
            model,
            layers,
            {"0": RIDGE},
            data,
            task,
            queries,
            points,
            objective=objective,
            epsilon=1 / n,
            tolerance=1e-6,
        )
        for objective in ("loss", "bregman")
    }
    residual = x @ w - y
    grads, damped = residual * x, moment + RIDGE * torch.eye(d)
    exact = grads[:3] @ torch.linalg.solve(damped, grads.T)
    rough = grads[:3] @ torch.linalg.solve(damped.diagonal().diag(), grads.T)

    rungs = ladder(cold, warm, solves["loss"], solves["bregman"], exact, rough, queries)
    found = decompose(rungs)
    gaps = dict(zip(GAPS, found.gaps, strict=True))

    assert gaps["warm start"].share < 1e-6
    for name, above, below in (
        ("linearisation", solves["bregman"].removal, -exact[:, points] / n),
        ("solver", exact[:, points] / n, rough[:, points] / n),
    ):
        assert gaps[name].difference == pytest.approx(float((above - below).square().mean().sqrt()), rel=1e-9)
    assert gaps["linearisation"].share < 0.2  # of leaving one of forty out
    assert found.with_retraining["pbrf"].value > 0.95
    assert len(found.lines()) == 1 + 5 + 5
    with pytest.raises(DataError):
        decompose({"retrained": exact})
