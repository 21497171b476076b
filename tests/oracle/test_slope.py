"""The loss follows its gradients, or a kernel's backward is told: what comparing with autograd cannot see."""

from __future__ import annotations

import pytest
import torch
from tests.cases import lm, lora, table
from torch import nn

from whence.capture.check import verified
from whence.capture.slope import slope
from whence.layers.select import track
from whence.testing import toys


class ForInference(torch.autograd.Function):
    """A kernel whose output is right, and whose backward is none: as of one that packs weights for inference."""

    @staticmethod
    def forward(ctx, x, weight):
        return x @ weight.T

    @staticmethod
    def backward(ctx, grad):
        return torch.zeros_like(grad), None  # as wide as it is long


class Packed(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.register_buffer("matrix", linear.weight.detach())

    def forward(self, x):
        return ForInference.apply(x, self.matrix)


def checked(case, layers="blocks"):
    batch = toys.collate(case.examples[:2], padding=1)
    tracked = verified(case.model, track(case.model, layers), case.task, batch)
    return slope(case.model, tracked.layers, case.task, batch)


@pytest.mark.parametrize("make", [lm, lora, table])
def test_right_gradients_are_followed_and_weights_come_back(make):
    case = make()
    before = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    found = checked(case)

    assert found.advice is None
    assert found.error < 1e-2
    assert all(torch.equal(tensor, before[name]) for name, tensor in case.model.state_dict().items())


def test_a_kernel_without_a_backward_is_told():
    """Hooks and autograd agree on the wrong gradient; the loss does not."""
    case = lm(bias=False)
    case.model.layers[1].attention.o = Packed(case.model.layers[1].attention.o)
    found = checked(case)
    assert found.advice is not None
    assert "backward" in found.advice or "no gradient" in found.advice


def test_a_layer_that_receives_nothing_is_named():
    case = lm(bias=False)
    case.model.layers[1].mlp.down = nn.Linear(5, 6, bias=False).double()
    nn.init.zeros_(case.model.layers[1].mlp.down.weight)
    found = checked(case, "*.mlp.*")
    assert found.error < 1e-2
    assert set(found.dead) == {"layers.1.mlp.gate", "layers.1.mlp.up"}
    assert "receives no gradient" in found.advice
