"""Training the nets that are judged: SGD, batch 128, rate and L2 by validation (Grosse et al. 2023, section 5.1)."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from whence.data.tensors import TensorData
from whence.types import Task

RATES, DECAYS = (0.03, 0.1, 0.3), (1e-5, 1e-4, 1e-3)
BATCH, MOMENTUM = 128, 0.9


@dataclass(frozen=True)
class Trained:
    """A net and how it came about."""

    model: nn.Module
    rate: float
    decay: float
    epochs: int
    train_loss: float
    valid_loss: float


def train(
    make: Callable[[], nn.Module],
    task: Task,
    data: TensorData,
    valid: TensorData,
    epochs: int,
    *,
    rates: tuple[float, ...] = RATES,
    decays: tuple[float, ...] = DECAYS,
    seed: int = 0,
) -> Trained:
    """The best of the grid by validation loss; every member starts from the same weights and sees the same order."""
    found = [
        _train_once(make, task, data, valid, epochs, rate, decay, seed)
        for rate, decay in itertools.product(rates, decays)
    ]
    usable = [one for one in found if one.valid_loss == one.valid_loss]
    return min(usable, key=lambda one: one.valid_loss)


def _train_once(
    make: Callable[[], nn.Module],
    task: Task,
    data: TensorData,
    valid: TensorData,
    epochs: int,
    rate: float,
    decay: float,
    seed: int,
) -> Trained:
    torch.manual_seed(seed)
    model = make()
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=decay)
    steps = epochs * -(-data.sequences // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    draw = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(data.sequences, generator=draw).split(BATCH):
            loss = torch.stack([task.loss(model, batch).sum() for batch in data.gather(rows.tolist())]).sum()
            optimiser.zero_grad()
            (loss / len(rows)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            schedule.step()
    model = copy.deepcopy(model).eval()
    return Trained(model, rate, decay, epochs, mean_loss(model, task, data), mean_loss(model, task, valid))


def mean_loss(model: nn.Module, task: Task, data: TensorData) -> float:
    """Mean loss of an example, in eval mode."""
    model.eval()
    with torch.no_grad():
        total = sum(float(task.loss(model, b).sum()) for unit in data.units for b in data.batches(unit.number))
    return total / data.sequences
