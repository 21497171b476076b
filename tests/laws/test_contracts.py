"""Every entry of every table keeps its contract."""

from __future__ import annotations

import pytest
import torch
from tests.cases import OURS, lm, table
from torch import nn

from whence.artifacts.manifest import Manifest
from whence.curvature import CURVATURES
from whence.jobs.fit import fit
from whence.jobs.stored_curvature import finish_curvature, load_curvature, save_blocks
from whence.layers import ADAPTERS, adapters_for
from whence.tasks import TASKS
from whence.testing import contracts, tiny, toys

MODULES = {
    "linear": lambda: nn.Linear(3, 4),
    "linear without bias": lambda: nn.Linear(3, 4, bias=False),
    "conv1d": lambda: tiny.conv1d(3, 4),
    "convolution": lambda: nn.Conv2d(3, 4, (2, 3), stride=(1, 2), padding=(1, 0), dilation=(2, 1)),
    "convolution in line, without bias": lambda: nn.Conv1d(
        3, 4, 3, padding="same", padding_mode="circular", bias=False
    ),
}
READ = {"linear": (2, 5, 3), "conv1d": (2, 5, 3), "convolution": (2, 3, 4, 5), "convolution in line": (2, 3, 5)}
"""What each is called with."""


@pytest.mark.parametrize("check", contracts.TASK, ids=contracts.name_of)
@pytest.mark.parametrize("name", TASKS)
def test_tasks(name, check):
    case = {"causal_lm": lm, "classification": table, "regression": lambda *_: table(regression=True)}[name]()
    check(contracts.TaskCase(TASKS[name](), case.model, case.examples, case.kind))


@pytest.mark.parametrize("check", contracts.ADAPTER, ids=contracts.name_of)
@pytest.mark.parametrize("name", MODULES)
def test_adapters(name, check):
    shape = READ.get(name.split(",")[0], READ[name.split()[0]])
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    check(contracts.AdapterCase(ADAPTERS[name.split()[0]], MODULES[name]().double(), inputs))


@pytest.mark.parametrize("check", contracts.ADAPTER, ids=contracts.name_of)
@pytest.mark.parametrize("bias", [True, False])
def test_every_group_of_a_convolution(bias, check):
    module = nn.Conv2d(4, 6, 2, groups=2, padding=1, padding_mode="reflect", bias=bias).double()
    inputs = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    adapters = adapters_for(module)
    assert [adapter.suffix for adapter in adapters] == [".group0", ".group1"]
    for adapter in adapters:
        check(contracts.AdapterCase(adapter, module, inputs))


def test_every_adapter_has_a_module_to_be_checked_on():
    assert {name.split()[0] for name in MODULES} == set(ADAPTERS)
    for name, make in MODULES.items():
        assert adapters_for(make()) == (ADAPTERS[name.split()[0]],)


def save_and_load(folder):
    """A way through the disk, for any curvature."""

    def reload(curvature):
        Manifest("curvature", 1, dict(curvature.settings), {}).write(folder)
        save_blocks(curvature.blocks, curvature.reads, folder)
        finish_curvature(curvature, folder)
        loaded = load_curvature(folder)
        return loaded if curvature.damping is None else loaded.with_damping(curvature.damping)

    return reload


@pytest.mark.parametrize("check", contracts.CURVATURE, ids=contracts.name_of)
@pytest.mark.parametrize("name", CURVATURES)
def test_curvatures(name, check, tmp_path):
    case = lm()
    fitted = fit(case.model, toys.TinyData(case.examples), task=case.task, layers=case.layers, curvature=name)
    check(contracts.CurvatureCase(fitted, case.oracle().gradients(), save_and_load(tmp_path)))


@pytest.mark.parametrize("name", OURS)
def test_labels_told_from_losses_are_labels(name):
    """The way in which tests learn a task's labels: they give the loss that the task gives."""
    case = OURS[name]()
    task = contracts.TaskCase(case.task, case.model, case.examples, case.kind)
    for one in case.examples[:3]:
        labels = contracts.labels_of(task, one, seed=2, sample=1)
        at = labels[one.scored] if case.kind == "tokens" else labels
        torch.testing.assert_close(task.oracle.losses(one, at).sum(), task.sampled(one, 2, 1)[0])
