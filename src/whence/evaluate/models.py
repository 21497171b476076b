"""Many models of one architecture side by side: their parameters stacked, one pass for all of them.

A stack holds parameter name → ``[s ...]``. `torch.func.functional_call` puts one member's parameters in the
model's place and `torch.func.vmap` maps that over the stack, so that s small products become one batched one.
Parameters that are not in a stack are shared by its members and frozen.

Models run in eval mode: no dropout, and batch norm with the statistics it came with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.data.queries import QueryBatch
from whence.errors import ModelError
from whence.tasks.outputs import has_outputs, losses, outputs
from whence.types import Batch, Task

Stack = dict[str, Tensor]
"""Parameter name → ``[s ...]``: the members' own values of it."""
State = Mapping[str, Tensor]
"""Parameter name → tensor: one model's."""

MEMORY = 2**31
"""What a stack on a processor may take, in bytes; on an accelerator it is half of what is free."""
COPIES = 5
"""Of the parameters while training: themselves, their gradient, two moments, and a temporary."""


class At:
    """A model at other parameters, to be called as the model itself is."""

    def __init__(self, model: nn.Module, parameters: State) -> None:
        self._model, self._parameters = model, dict(parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(self._model, self._parameters, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def at(model: nn.Module, parameters: State) -> nn.Module:
    """`At`, typed as what tasks take."""
    return cast(nn.Module, At(model, parameters))


def example_losses(task: Task, model: nn.Module, batch: Batch) -> Float[Tensor, " n"]:
    """The loss of `Task.loss`, in a form that can be mapped over models."""
    return losses(task, outputs(task, model, batch), batch) if has_outputs(task) else task.loss(model, batch)


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter by name, a tied one once, cut from the graph."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def stacked(state: State, members: int) -> Stack:
    """``members`` copies of one model's parameters, that take gradients."""
    return {name: t.detach().expand(members, *t.shape).clone().requires_grad_() for name, t in state.items()}


def joined(stacks: Sequence[State]) -> Stack:
    """Stacks one after the other."""
    return {name: torch.cat([stack[name] for stack in stacks]) for name in stacks[0]}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and its own parameters frozen; as it was afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


def measure(
    task: Task, model: nn.Module, stack: Stack, queries: Sequence[QueryBatch], *, at_once: int | None = None
) -> Float[Tensor, "s q"]:
    """The measurement f of every query at every member: Σ weight · log p over a query's parts, in float64."""
    members = len(next(iter(stack.values())))
    count = 1 + max(int(part.query.max()) for part in queries)
    device = next(model.parameters()).device
    found = torch.zeros(members, count, dtype=torch.float64)
    with evaluating(model), torch.no_grad():
        for part in queries:
            batch = part.batch.to(device)
            step = at_once or models_at_once(model, task, batch, {name: t[0] for name, t in stack.items()})
            for first in range(0, members, step):
                some = {name: t[first : first + step].detach().to(device) for name, t in stack.items()}
                loss = mapped(lambda own, batch=batch: example_losses(task, at(model, own), batch), some)
                found[first : first + step].index_add_(1, part.query.cpu(), -(loss.cpu().double() * part.weight.cpu()))
    return found


def mapped(function: Callable[..., Tensor], stack: Stack, *others: Any) -> Tensor:
    """The function at every member, one row each; ``others`` have the members first too.

    One product for all members where `torch.func.vmap` can. Where the forward pass looks at numbers to decide what to
    do (a transformers classifier of text does, at its mask), one member after the other: the same, and slower.

    Raises:
        ModelError: If the forward pass draws random numbers.
    """
    try:
        return torch.func.vmap(function, randomness="error")(stack, *others)
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        if "random" in str(error):
            raise ModelError(
                "the forward pass of this model draws random numbers in eval mode, so that no two passes are alike",
                hint="take what is random out of it: dropout that ignores model.eval(), noise on inputs",
            ) from error
    members = range(len(next(iter(stack.values()))))
    return torch.stack(
        [function({name: t[k] for name, t in stack.items()}, *(other[k] for other in others)) for k in members]
    )


def as_queries(batch: Batch) -> QueryBatch:
    """Each row of a batch as a query of its own: f is minus its loss."""
    return QueryBatch(batch, torch.arange(len(batch)), torch.ones(len(batch)))


def models_at_once(model: nn.Module, task: Task, batch: Batch, state: State, *, memory: int | None = None) -> int:
    """How many members fit into memory, at least one: their parameters with moments, and a batch's activations.

    Activations are counted in one ordinary forward pass: what autograd keeps for backward.
    """
    device = next(model.parameters()).device
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    own = {name: tensor.detach().clone().requires_grad_() for name, tensor in state.items()}
    with evaluating(model), torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        example_losses(task, at(model, own), batch.to(device))
    if memory is None:
        memory = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else MEMORY
    weights = sum(tensor.numel() * tensor.element_size() for tensor in own.values())
    return max(1, memory // (COPIES * weights + kept))
