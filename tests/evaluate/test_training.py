"""Models trained side by side are the models torch trains one by one, and a weight of zero is an absence."""

import pytest
import torch
from torch import nn

from whence.data.tensors import TensorData
from whence.errors import InvalidSetting, NumericalError
from whence.evaluate.examples import collect
from whence.evaluate.models import evaluating, models_at_once, parameters_of
from whence.evaluate.training import Recipe, train
from whence.tasks import CausalLM, Classification, Regression
from whence.testing import tiny, toys

RECIPES = {
    "sgd": Recipe(optimiser="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.01, epochs=3, batch_size=4),
    "adam": Recipe(optimiser="adam", learning_rate=0.01, weight_decay=0.01, epochs=2, batch_size=5, schedule="linear"),
    "adamw": Recipe(
        optimiser="adamw", learning_rate=0.01, betas=(0.9, 0.95), weight_decay=0.1, epochs=2, batch_size=4,
        schedule="cosine", warmup=2, clip=0.5,
    ),
}  # fmt: skip


def table(task, n=11):
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, 4, generator=draw, dtype=torch.float64)
    if isinstance(task, Regression):
        return collect(TensorData(inputs, torch.randn(n, 3, generator=draw, dtype=torch.float64)))
    return collect(TensorData(inputs, torch.randint(3, (n,), generator=draw)))


def text():
    return collect(toys.TinyData(toys.sequences(9)))


def one_by_one(model, task, examples, recipe, weights, positions=False):
    """The plain loop that everyone writes, an example at a time, for one model."""
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = list(model.parameters())
    if recipe.optimiser == "sgd":
        optimiser = torch.optim.SGD(
            parameters, lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser]
        optimiser = kind(parameters, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay)
    schedule = list(recipe.order(len(examples)))
    for step, chosen in enumerate(schedule):
        optimiser.zero_grad()
        size = int(examples.scored[chosen].sum()) if positions else len(chosen)
        for row in chosen.tolist():
            one = examples.rows([row])
            (weights[row] * task.loss(model, one).sum() / size).backward()
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(parameters, recipe.clip)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(step, len(schedule))
        optimiser.step()
    trained = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    model.load_state_dict(start)
    return trained


def weightings(n):
    weights = torch.ones(4, n, dtype=torch.float64)
    weights[1, 2] = 0
    weights[2, [0, 3, 5]] = 0
    weights[3, 1] = 2.5
    return weights


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("task", [Regression(), Classification()], ids=["regression", "classification"])
def test_models_side_by_side_are_models_one_by_one(name, task):
    model, examples, recipe = tiny.mlp(4, 5, 3), table(task), RECIPES[name]
    weights = weightings(len(examples))

    stack = train(model, task, examples, recipe, weights)

    for row in range(len(weights)):
        alone = one_by_one(model, task, examples, recipe, weights[row])
        for parameter, value in alone.items():
            torch.testing.assert_close(stack[parameter][row], value, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("mean_over", ["examples", "positions"])
def test_language_models_too_with_padding_and_prompts(mean_over):
    model, task, examples = tiny.language_model(), CausalLM(), text()
    recipe = Recipe(optimiser="sgd", learning_rate=0.05, epochs=2, batch_size=4, mean_over=mean_over)
    weights = weightings(len(examples))[:3]

    stack = train(model, task, examples, recipe, weights)

    for row in range(len(weights)):
        alone = one_by_one(model, task, examples, recipe, weights[row], positions=mean_over == "positions")
        for parameter, value in alone.items():
            torch.testing.assert_close(stack[parameter][row], value, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_models_of_transformers_can_be_stacked(architecture):
    model, task, examples = tiny.huggingface(architecture), CausalLM(), text()
    recipe = Recipe(optimiser="sgd", learning_rate=0.05, epochs=1, batch_size=4)
    weights = weightings(len(examples))[:2]

    stack = train(model, task, examples, recipe, weights)

    alone = one_by_one(model, task, examples, recipe, weights[1])
    for parameter, value in alone.items():  # their norms compute in float32
        torch.testing.assert_close(stack[parameter][1], value, rtol=1e-4, atol=1e-5)


def test_how_many_are_trained_at_once_changes_nothing():
    model, task = tiny.mlp(4, 5, 3), Classification()
    examples = table(task)
    weights = weightings(len(examples))

    together, apart = (train(model, task, examples, RECIPES["adamw"], weights, at_once=k) for k in (4, 1))

    for name in together:
        torch.testing.assert_close(together[name], apart[name], rtol=1e-10, atol=1e-12)


def test_the_same_call_gives_the_same_bits_and_leaves_the_model_alone():
    model, task = tiny.mlp(4, 5, 3), Classification()
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = weightings(11)

    first, again = (train(model, task, table(task), RECIPES["sgd"], weights) for _ in range(2))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_what_the_start_does_not_name_is_frozen():
    model, task = tiny.mlp(4, 5, 3), Regression()
    start = {name: tensor for name, tensor in parameters_of(model).items() if name.startswith("2.")}

    stack = train(model, task, table(task), RECIPES["sgd"], weightings(11), start=start)

    assert set(stack) == {"2.weight", "2.bias"}


def test_another_seed_is_another_order():
    recipe = RECIPES["sgd"]
    orders = [torch.cat(list(recipe.order(11, seed))) for seed in (0, 0, 1)]

    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert all(sorted(orders[2][11 * k : 11 * (k + 1)].tolist()) == list(range(11)) for k in range(3))


def test_dropout_is_off():
    model, task = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 3)).double(), Regression()

    with evaluating(model):
        assert not model[1].training
    first, again = (train(model, task, table(task), RECIPES["sgd"], weightings(11)) for _ in range(2))

    assert torch.equal(first["0.weight"], again["0.weight"])


def test_memory_decides_how_many_fit():
    model, task = tiny.mlp(4, 5, 3), Regression()
    state = parameters_of(model)
    one = 5 * sum(t.numel() * 8 for t in state.values())

    fits = [models_at_once(model, task, table(task), state, memory=memory) for memory in (0, 10 * one, 1000 * one)]

    assert fits[0] == 1
    assert fits[0] < fits[1] < 10
    assert fits[1] < fits[2] < 1000


def test_divergence_is_refused_with_its_step():
    task = Regression()
    recipe = Recipe(optimiser="sgd", learning_rate=1e6, epochs=200, batch_size=4)

    with pytest.raises(NumericalError, match=r"at step \d+"):
        train(tiny.mlp(4, 5, 3), task, table(task), recipe, weightings(11))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"epochs": 0}, "epochs"),
        ({"optimiser": "lion"}, "optimiser"),
        ({"schedule": "step"}, "schedule"),
        ({"clip": -1.0}, "clip"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_a_recipe_refuses_what_it_cannot_honour(wrong, named):
    with pytest.raises(InvalidSetting, match=named):
        Recipe.of({"learning_rate": 0.1, "epochs": 1, "batch_size": 4} | wrong, source="recipe.toml")


def test_a_recipe_says_what_it_lacks():
    with pytest.raises(InvalidSetting, match="recipe.toml.*epochs"):
        Recipe.of({"learning_rate": 0.1, "batch_size": 4}, source="recipe.toml")
