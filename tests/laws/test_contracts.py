"""Every entry of every table keeps its contract."""

from __future__ import annotations

import pytest
import torch
from tests.cases import OURS, lm, table
from torch import nn

from whence.layers import ADAPTERS
from whence.tasks import TASKS
from whence.testing import contracts, tiny


@pytest.mark.parametrize("check", contracts.TASK, ids=contracts.name_of)
@pytest.mark.parametrize("name", TASKS)
def test_tasks(name, check):
    case = {"causal_lm": lm, "classification": table, "regression": lambda *_: table(regression=True)}[name]()
    check(contracts.TaskCase(TASKS[name](), case.model, case.examples, case.kind))


@pytest.mark.parametrize("check", contracts.ADAPTER, ids=contracts.name_of)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters(name, bias, check):
    if name == "conv1d" and not bias:
        pytest.skip("Conv1D always has a bias")
    module = {"linear": lambda: nn.Linear(3, 4, bias=bias), "conv1d": lambda: tiny.conv1d(3, 4)}[name]().double()
    inputs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check(contracts.AdapterCase(ADAPTERS[name], module, inputs))


@pytest.mark.parametrize("name", OURS)
def test_labels_told_from_losses_are_labels(name):
    """The way in which tests learn a task's labels: they give the loss that the task gives."""
    case = OURS[name]()
    task = contracts.TaskCase(case.task, case.model, case.examples, case.kind)
    for one in case.examples[:3]:
        labels = contracts.labels_of(task, one, seed=2, sample=1)
        at = labels[one.scored] if case.kind == "tokens" else labels
        torch.testing.assert_close(task.oracle.losses(one, at).sum(), task.sampled(one, 2, 1)[0])
