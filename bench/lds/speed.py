"""How much faster many retrainings are side by side than one by one, from a tiny model to the protocol's own.

Side by side, s small products are one batched one: what is saved is the overhead of each operation, so that the gain is
large where a model is tiny and nothing where its products already fill the machine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from bench.lds.protocol import RECIPE, Protocol, model_of, windows
from whence.data.tensors import TensorData
from whence.evaluate.examples import collect
from whence.evaluate.retrain import subsets
from whence.evaluate.training import Recipe, train
from whence.tasks import CausalLM, Regression
from whence.types import Task


@dataclass(frozen=True)
class Size:
    """A model to retrain, and how many at once."""

    name: str
    model: nn.Module
    task: Task
    data: TensorData
    together: int


def sizes() -> list[Size]:
    """From where overhead is everything to where it is nothing."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(256, 8, generator=draw), torch.randn(256, 1, generator=draw)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    whole = Protocol()
    small = replace(whole, width=16, hidden=44, window=16)
    return [
        Size("MLP 8–16–1", net, Regression(), TensorData(*rows), 64),
        Size("Llama, width 16, windows of 16", model_of(small), CausalLM(), windows(small)[0], 32),
        Size("Llama, width 64, windows of 64", model_of(whole), CausalLM(), windows(whole)[0], 8),
    ]


def measured() -> list[dict[str, Any]]:
    """Processor seconds a model, one by one and side by side, two epochs of the protocol's recipe."""
    recipe = Recipe(**{**RECIPE, "epochs": 2})
    found = []
    for size in sizes():
        examples = collect(size.data)
        weights = subsets(size.together, len(examples), fraction=0.9)

        def seconds(at_once: int, size: Size = size, examples: Any = examples, weights: Any = weights) -> float:
            few = weights[: min(8, size.together)] if at_once == 1 else weights
            train(size.model, size.task, examples, recipe, few[:1], at_once=1)  # the first call warms up
            began = time.process_time()
            train(size.model, size.task, examples, recipe, few, at_once=at_once)
            return (time.process_time() - began) / len(few)

        alone, together = seconds(1), seconds(size.together)
        found.append(
            {
                "model": size.name,
                "parameters": sum(parameter.numel() for parameter in size.model.parameters()),
                "together": size.together,
                "seconds_alone": alone,
                "seconds_together": together,
                "times_faster": alone / together,
            }
        )
    return found
