"""Training the nets that are judged: SGD with momentum, batch 128, rate and L2 by validation.

Grosse et al. 2023, section 5.1, say as much but for the momentum and the epochs, which are chosen here.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from whence.data.tensors import TensorData
from whence.evaluate.training import Recipe
from whence.types import Task

RATES, DECAYS = (0.03, 0.1, 0.3), (1e-5, 1e-4, 1e-3)
SGD = Recipe(learning_rate=0.1, epochs=60, batch_size=128, optimiser="sgd", momentum=0.9, schedule="cosine", clip=5.0)
"""Rate and L2 are searched for."""


@dataclass(frozen=True)
class Trained:
    """A net and how it came about."""

    model: nn.Module
    start: dict[str, Tensor]
    """Its parameters before training."""
    recipe: Recipe
    train_loss: float
    valid_loss: float

    def to_dict(self) -> dict[str, Any]:
        """JSON's types only."""
        recipe = self.recipe
        names = ("optimiser", "learning_rate", "weight_decay", "momentum", "batch_size", "epochs", "schedule", "clip")
        how = {name: getattr(recipe, name) for name in names}
        return how | {"train_loss": self.train_loss, "valid_loss": self.valid_loss}


def train(
    make: Callable[[], nn.Module],
    task: Task,
    data: TensorData,
    valid: TensorData,
    recipe: Recipe,
    *,
    rates: tuple[float, ...] = RATES,
    decays: tuple[float, ...] = DECAYS,
    seed: int = 0,
) -> Trained:
    """The best of the grid by validation loss; every member starts from the same weights and sees the same order."""
    grid = itertools.product(rates, decays)
    recipes = [replace(recipe, learning_rate=rate, weight_decay=decay) for rate, decay in grid]
    found = [_train_once(make, task, data, valid, one, seed) for one in recipes]
    return min((one for one in found if math.isfinite(one.valid_loss)), key=lambda one: one.valid_loss)


def _train_once(
    make: Callable[[], nn.Module], task: Task, data: TensorData, valid: TensorData, recipe: Recipe, seed: int
) -> Trained:
    torch.manual_seed(seed)
    model = make()
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = _optimiser(recipe, model)
    steps = recipe.epochs * -(-data.sequences // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    draw = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(recipe.epochs):
        for rows in torch.randperm(data.sequences, generator=draw).split(recipe.batch_size):
            loss = torch.stack([task.loss(model, part).sum() for part in data.gather(rows.tolist())]).sum()
            optimiser.zero_grad()
            (loss / len(rows)).backward()
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimiser.step()
            schedule.step()
    model = copy.deepcopy(model).eval()
    return Trained(model, start, recipe, mean_loss(model, task, data), mean_loss(model, task, valid))


def _optimiser(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    usual = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(model.parameters(), momentum=recipe.momentum, **usual)
    return torch.optim.AdamW(model.parameters(), betas=recipe.betas, **usual)


def mean_loss(model: nn.Module, task: Task, data: TensorData) -> float:
    """Mean loss of an example, in eval mode."""
    model.eval()
    with torch.no_grad():
        total = sum(float(task.loss(model, b).sum()) for unit in data.units for b in data.batches(unit.number))
    return total / data.sequences
