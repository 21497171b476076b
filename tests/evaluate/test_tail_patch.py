"""One step on one training example, against the plain loop."""

import pytest
import torch

from whence.data.tensors import TensorData
from whence.evaluate.examples import collect
from whence.evaluate.models import as_queries
from whence.evaluate.tail_patch import tail_patch
from whence.tasks import CausalLM, Classification
from whence.testing import tiny, toys


def by_hand(model, task, data, query, sequence, rate, kind):
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    before = float(task.measurement(model, query).detach())
    optimiser = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[kind](model.parameters(), lr=rate)
    task.loss(model, next(iter(data.gather([sequence])))).sum().backward()
    optimiser.step()
    after = float(task.measurement(model, query).detach())
    model.zero_grad()
    model.load_state_dict(start)
    return after - before


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("text", [True, False], ids=["text", "table"])
def test_a_step_on_each_example_is_the_step_torch_takes(kind, text):
    if text:
        model, task, data = tiny.language_model(), CausalLM(), toys.TinyData(toys.sequences(7))
    else:
        model, task = tiny.mlp(4, 5, 3), Classification()
        draw = torch.Generator().manual_seed(0)
        data = TensorData(torch.randn(7, 4, generator=draw, dtype=torch.float64), torch.arange(7) % 3)
    asked = as_queries(collect(data, [0, 1]))
    top = torch.tensor([[4, 2, 6], [2, 5, 4]])

    found = tail_patch(model, task, data, [asked], top, learning_rate=0.01, optimiser=kind, at_once=2)

    for query in range(2):
        one = collect(data, [query])
        for place, sequence in enumerate(top[query].tolist()):
            expected = by_hand(model, task, data, one, sequence, 0.01, kind)
            assert float(found[query, place]) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_step_on_the_query_itself_makes_it_likelier():
    model, task, data = tiny.language_model(), CausalLM(), toys.TinyData(toys.sequences(7))

    found = tail_patch(model, task, data, [as_queries(collect(data, [3]))], torch.tensor([[3]]), learning_rate=1e-3)

    assert float(found) > 0
