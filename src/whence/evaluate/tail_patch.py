"""Tail-patch: one optimiser step on a retrieved training example; how much likelier does the answer become?

A score that finds what taught the model an answer should find what teaches it a little more. Each of a query's top
examples is trained on alone, once, from the model as it is; what counts is the change of the query's measurement.

Source: Chang et al. 2024, arXiv:2410.17413. There the step keeps the optimiser's state of the end of training;
here it is a plain gradient step, or the first step of a fresh Adam, which moves every weight by the learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from whence.data.queries import QueryBatch
from whence.evaluate.examples import collect, rows
from whence.evaluate.models import (
    at,
    evaluating,
    example_losses,
    mapped,
    measure,
    models_at_once,
    parameters_of,
    stacked,
)
from whence.evaluate.training import Recipe
from whence.types import TENSORS, Batch, Data, Task


def tail_patch(
    model: nn.Module,
    task: Task,
    data: Data,
    queries: Sequence[QueryBatch],
    top: Int64[Tensor, "q k"],
    *,
    learning_rate: float,
    optimiser: Literal["sgd", "adam"] = "sgd",
    at_once: int | None = None,
) -> Float[Tensor, "q k"]:
    """The change of each query's f, in nats, after one step on each of its top examples.

    Args:
        top: Sequence numbers of each query's examples; `TopK` and `Tensor.topk` give them.
        learning_rate: Of the step on an example's summed loss.
        optimiser: ``sgd``, or ``adam`` without a past.
        at_once: Patched models side by side; as many as fit when not given.
    """
    recipe = Recipe(learning_rate=learning_rate, epochs=1, batch_size=1, optimiser=optimiser)
    before = measure(task, model, {name: t[None] for name, t in parameters_of(model).items()}, queries)[0]
    wanted = sorted(set(top.flatten().tolist()))
    examples = collect(data, wanted).to(next(model.parameters()).device)
    step = at_once or models_at_once(model, task, rows(examples, torch.arange(1)), parameters_of(model))
    after = torch.cat(
        [_patched(model, task, rows(examples, some), queries, recipe) for some in torch.arange(len(wanted)).split(step)]
    )
    place = {sequence: row for row, sequence in enumerate(wanted)}
    row = torch.tensor([[place[int(sequence)] for sequence in line] for line in top.tolist()])
    return after[row, torch.arange(len(top))[:, None]] - before[:, None]


def _patched(
    model: nn.Module, task: Task, examples: Batch, queries: Sequence[QueryBatch], recipe: Recipe
) -> Float[Tensor, "s q"]:
    """The f of every query at the models that took one step on one example each."""
    stack = stacked(parameters_of(model), len(examples))
    optimiser = recipe.start(stack)
    parts = [getattr(examples, name)[:, None] for name in TENSORS]
    with evaluating(model), torch.enable_grad():
        losses = mapped(lambda own, *one: example_losses(task, at(model, own), Batch.of(*one)).sum(), stack, *parts)
        losses.sum().backward()
    optimiser.step()
    return measure(task, model, stack, queries)
