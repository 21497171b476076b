"""Losses and their Bregman divergences at a model's outputs, in a form that can be mapped over many models.

    outputs h      [n t c]   logits or predictions; of an example with one output, t = 1
    losses         [n]       L(h, y), summed over scored positions: `Task.loss` again
    divergences    [n]       D_L(h, hˢ) = L(h, y) − L(hˢ, y) − ∇L(hˢ, y)ᵀ(h − hˢ), whatever y

For softmax cross-entropy D_L is KL(pˢ ‖ p); for ½‖h − y‖² it is ½‖h − hˢ‖². What is not scored is masked rather than
gathered: under `torch.func.vmap` each member of a stack may have its own example, and so its own mask.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from whence.errors import InvalidSetting
from whence.tasks.causal_lm import CausalLM, _logits
from whence.tasks.likelihood import Gaussian, Softmax
from whence.types import Batch, OutputTask, Task


def has_outputs(task: Task) -> bool:
    """Whether a task's loss can be taken apart here: softmax or Gaussian, one output an example or a CausalLM."""
    return isinstance(task, OutputTask) and isinstance(task.likelihood, Softmax | Gaussian)


def outputs(task: Task, model: nn.Module, batch: Batch) -> Float[Tensor, "n t c"]:
    """What the model says of a batch: logits or predictions, at every position of a language model.

    Raises:
        InvalidSetting: If the task's loss cannot be taken apart.
    """
    if isinstance(task, CausalLM):
        return _logits(model, batch.inputs)
    if isinstance(task, OutputTask) and has_outputs(task):
        return task.outputs(model, batch)[:, None]
    raise InvalidSetting(
        f"the outputs of {type(task).__name__} are not known apart from its loss",
        hint="give it `outputs` and a `likelihood`, Softmax or Gaussian: see `OutputTask`",
    )


def losses(task: Task, h: Float[Tensor, "n t c"], batch: Batch) -> Float[Tensor, " n"]:
    """Loss of each example in nats, summed over its scored positions."""
    wide = h.to(torch.promote_types(h.dtype, torch.float32))
    if _gaussian(task):
        return (wide - batch.targets.view(wide.shape)).square().sum((1, 2)) / 2
    targets = batch.targets.view(wide.shape[:2])
    per_position = -functional.log_softmax(wide, -1).gather(-1, targets[..., None])[..., 0]
    return _scored(task, per_position, batch)


def divergences(
    task: Task, h: Float[Tensor, "n t c"], reference: Float[Tensor, "n t c"], batch: Batch
) -> Float[Tensor, " n"]:
    """Bregman divergence of each example's loss in nats, summed over its scored positions.

    Never negative but for rounding, and zero where the outputs are the reference's.
    """
    wide = torch.promote_types(h.dtype, torch.float32)
    if _gaussian(task):
        return (h.to(wide) - reference.to(wide)).square().sum((1, 2)) / 2
    log_p, log_q = functional.log_softmax(h.to(wide), -1), functional.log_softmax(reference.to(wide), -1)
    return _scored(task, (log_q.exp() * (log_q - log_p)).sum(-1), batch)


def _gaussian(task: Task) -> bool:
    return isinstance(task, OutputTask) and isinstance(task.likelihood, Gaussian)


def _scored(task: Task, per_position: Float[Tensor, "n t"], batch: Batch) -> Float[Tensor, " n"]:
    """The sum over positions, of a language model over the scored ones."""
    if isinstance(task, CausalLM):
        per_position = torch.where(batch.scored, per_position, 0.0)
    return per_position.sum(1)
