"""A task's outputs apart from its loss: the space in which Bregman divergences and Gauss-Newton matrices live.

    outputs h      [n t c]   logits or predictions; an example without positions has t = 1
    losses         [n t]     L(h, y) at every position, zero where nothing is scored
    divergences    [n t]     D_L(h, hˢ) = L(h, y) − L(hˢ, y) − ∇L(hˢ, y)ᵀ(h − hˢ), whatever y

For softmax cross-entropy D_L is KL(pˢ ‖ p); for ½‖h − y‖² it is ½‖h − hˢ‖². Unscored positions are masked
rather than gathered, so that every function here can be mapped over many models at once (`torch.func.vmap`).
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from whence.errors import InvalidSetting
from whence.tasks.causal_lm import CausalLM, _logits
from whence.tasks.classification import Classification
from whence.tasks.regression import Regression
from whence.types import Batch, Task


def has_outputs(task: Task) -> bool:
    """Whether the outputs of a task are known here: those of this package and tasks derived from them."""
    return isinstance(task, CausalLM | Classification | Regression)


def outputs(task: Task, model: nn.Module, batch: Batch) -> Float[Tensor, "n t c"]:
    """What the model says of a batch: logits of a classifier or language model, predictions of a regression.

    Raises:
        InvalidSetting: If the task is none of this package's, so that its loss cannot be taken apart.
    """
    if isinstance(task, CausalLM):
        return _logits(model, batch.inputs)
    if isinstance(task, Classification):
        return cast(Tensor, model(batch.inputs))[:, None]
    if isinstance(task, Regression):
        return cast(Tensor, model(batch.inputs)).flatten(1)[:, None]
    raise InvalidSetting(
        f"the outputs of {type(task).__name__} are not known apart from its loss",
        hint="derive the task from CausalLM, Classification or Regression",
    )


def losses(task: Task, h: Float[Tensor, "n t c"], batch: Batch) -> Float[Tensor, "n t"]:
    """Loss at each position in nats, zero where nothing is scored; its sum over positions is `Task.loss`."""
    wide = h.to(torch.promote_types(h.dtype, torch.float32))
    if isinstance(task, Regression):
        return (wide - batch.targets.view(wide.shape)).square().sum(-1) / 2
    targets = batch.targets.view(wide.shape[:2])
    per_position = -functional.log_softmax(wide, -1).gather(-1, targets[..., None])[..., 0]
    return torch.where(batch.scored, per_position, 0.0)


def divergences(
    task: Task, h: Float[Tensor, "n t c"], reference: Float[Tensor, "n t c"], batch: Batch
) -> Float[Tensor, "n t"]:
    """Bregman divergence of the loss at each position, in nats, zero where nothing is scored.

    Never negative but for rounding, and zero where the outputs are the reference's.
    """
    wide = torch.promote_types(h.dtype, torch.float32)
    if isinstance(task, Regression):
        return (h.to(wide) - reference.to(wide)).square().sum(-1) / 2
    log_p, log_q = functional.log_softmax(h.to(wide), -1), functional.log_softmax(reference.to(wide), -1)
    per_position = (log_q.exp() * (log_q - log_p)).sum(-1)
    return torch.where(batch.scored, per_position, 0.0)
