"""Finding wrong labels: does a suspicion put the flipped ones first, and what do simpler suspicions do?

A suspicion is a number for each example, higher meaning more likely wrong: self-influence, the loss, minus the
margin. Labels are flipped on purpose, so that what should be found is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy import ndarray as Array
from torch import Tensor, nn

from whence.errors import DataError, InvalidSetting
from whence.evaluate.models import evaluating, example_losses
from whence.evaluate.statistics import ranks
from whence.tasks.outputs import outputs
from whence.types import Data, Task


@dataclass(frozen=True, slots=True)
class Found:
    """How well one suspicion finds the flipped labels."""

    auc: float
    """ROC-AUC: the chance that a flipped label is suspected more than a right one, ties counting half."""
    precision: float
    """Share of flipped ones among the most suspected ``share`` of all."""
    share: float

    def to_dict(self) -> dict[str, Any]:
        """JSON's types only."""
        return {"auc": self.auc, "precision": self.precision, "share": self.share}


def flip_labels(
    labels: Int64[Tensor, " n"], classes: int, *, fraction: float = 0.1, seed: int = 0
) -> tuple[Int64[Tensor, " n"], Bool[Tensor, " n"]]:
    """The labels with a random fraction changed to another class, each other class as likely; and which those are.

    Raises:
        InvalidSetting: If there is no other class, or nothing or everything would be flipped.
    """
    count = round(fraction * len(labels))
    if classes < 2 or not 0 < count < len(labels):
        raise InvalidSetting(f"a fraction {fraction} of {len(labels)} labels of {classes} classes cannot be flipped")
    draw = np.random.default_rng(seed)
    chosen = torch.from_numpy(draw.choice(len(labels), count, replace=False)).to(labels.device)
    shift = torch.from_numpy(draw.integers(1, classes, count)).to(labels)
    flipped = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    flipped[chosen] = True
    wrong = labels.clone()
    wrong[chosen] = (labels[chosen] + shift) % classes
    return wrong, flipped


def found(suspicion: Float[Array, " n"], flipped: Bool[Array, " n"], *, share: float = 0.1) -> Found:
    """ROC-AUC and precision at a share of a suspicion.

    Raises:
        DataError: If nothing or everything is flipped, or a suspicion is NaN.
    """
    count = int(flipped.sum())
    if not 0 < count < len(flipped) or np.isnan(suspicion).any():
        raise DataError(
            f"{count} of {len(flipped)} labels are flipped, or a suspicion is NaN: there is nothing to rank"
        )
    place = ranks(suspicion.astype(np.float64))
    auc = (place[flipped].sum() - count * (count + 1) / 2) / (count * (len(flipped) - count))  # Mann–Whitney
    return Found(float(auc), _precision(suspicion, flipped, max(1, round(share * len(flipped)))), share)


def label_losses(model: nn.Module, task: Task, data: Data) -> Float[Tensor, " n"]:
    """The loss of each example at its label, in nats: the plainest suspicion."""
    return _each(model, data, lambda batch: example_losses(task, model, batch))


def margins(model: nn.Module, task: Task, data: Data) -> Float[Tensor, " n"]:
    """The label's logit minus the highest other's: negative where the model would say something else.

    Minus this is a suspicion. For classification.
    """

    def margin(batch: Any) -> Tensor:
        logits = outputs(task, model, batch)
        targets = batch.targets.view(logits.shape[:2])[..., None]
        own = logits.gather(-1, targets)[..., 0]
        other = logits.scatter(-1, targets, -torch.inf).amax(-1)
        return (own - other).flatten()

    return _each(model, data, margin)


def _each(model: nn.Module, data: Data, value: Any) -> Float[Tensor, " n"]:
    device = next(model.parameters()).device
    every = torch.zeros(data.sequences, dtype=torch.float64)
    with evaluating(model), torch.no_grad():
        for unit in data.units:
            for batch in data.batches(unit.number):
                every[batch.ids.cpu()] = value(batch.to(device)).double().cpu()
    return every


def _precision(suspicion: Array, flipped: Array, k: int) -> float:
    """Share of flipped among the first k, ties at the edge broken at random in expectation."""
    edge = np.sort(suspicion)[-k]
    above, tied = suspicion > edge, suspicion == edge
    return float((flipped[above].sum() + (k - above.sum()) * flipped[tied].mean()) / k)
