"""Losses as functions of a model's outputs: they, their Bregman divergences, second derivatives, and roots of those.

                loss L(h, y)              divergence D_L(h, hˢ)    Hessian H          root: column c
    Softmax     −log softmax(h)[y]        KL(pˢ ‖ p)               diag(p) − p pᵀ     √p_c (e_c − p)
    Gaussian    ½‖h − y‖²                 ½‖h − hˢ‖²               I                  e_c

D_L(h, hˢ) = L(h, y) − L(hˢ, y) − ∇L(hˢ, y)ᵀ(h − hˢ), whatever y. A column of the softmax root is √p_c times minus the
gradient at label c, so H = E over labels of the gradient's outer product: the Fisher in output space. Divergence,
Hessian and root do not depend on the label.

`outputs`, `losses` and `divergences` take examples whole, ``h [n t c]``: what is not scored is masked rather than
gathered, since under `torch.func.vmap` each member of a stack may have its own example, and so its own mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from whence.errors import InvalidSetting
from whence.types import Batch, OutputTask, PositionTask, Task


@dataclass(frozen=True)
class Softmax:
    """−log softmax(outputs)[label], in nats."""

    def loss(self, outputs: Float[Tensor, "*n c"], labels: Tensor) -> Float[Tensor, "*n"]:
        """Of each row at its label, in float32 or better."""
        return -functional.log_softmax(_wide(outputs), -1).gather(-1, labels[..., None])[..., 0]

    def divergence(self, outputs: Float[Tensor, "*n c"], reference: Float[Tensor, "*n c"]) -> Float[Tensor, "*n"]:
        """KL(pˢ ‖ p) of each row, in nats."""
        log_p, log_q = functional.log_softmax(_wide(outputs), -1), functional.log_softmax(_wide(reference), -1)
        return (log_q.exp() * (log_q - log_p)).sum(-1)

    def hessian(self, outputs: Float[Tensor, "m c"], directions: Float[Tensor, "q m c"]) -> Float[Tensor, "q m c"]:
        """(diag(p) − p pᵀ) v; nothing of size ``c × c`` is formed."""
        p = outputs.softmax(-1, dtype=torch.promote_types(outputs.dtype, torch.float32)).to(directions)
        return p * (directions - (p * directions).sum(-1, keepdim=True))

    def root(self, outputs: Float[Tensor, "m c"], column: int) -> Float[Tensor, "m c"]:
        """√p_c (e_c − p)."""
        p = outputs.softmax(-1, dtype=torch.promote_types(outputs.dtype, torch.float32)).to(outputs)
        label = torch.zeros_like(p)
        label[:, column] = 1
        return p[:, column, None].sqrt() * (label - p)


@dataclass(frozen=True)
class Gaussian:
    """½‖outputs − y‖²."""

    def loss(self, outputs: Float[Tensor, "*n c"], values: Tensor) -> Float[Tensor, "*n"]:
        """Of each row, in float32 or better."""
        return (_wide(outputs) - values.view(outputs.shape)).square().sum(-1) / 2

    def divergence(self, outputs: Float[Tensor, "*n c"], reference: Float[Tensor, "*n c"]) -> Float[Tensor, "*n"]:
        """½‖h − hˢ‖² of each row."""
        return (_wide(outputs) - _wide(reference)).square().sum(-1) / 2

    def hessian(self, outputs: Float[Tensor, "m c"], directions: Float[Tensor, "q m c"]) -> Float[Tensor, "q m c"]:
        """The identity."""
        return directions

    def root(self, outputs: Float[Tensor, "m c"], column: int) -> Float[Tensor, "m c"]:
        """e_c."""
        unit = torch.zeros_like(outputs)
        unit[:, column] = 1
        return unit


def has_outputs(task: Task) -> bool:
    """Whether a task's loss can be taken apart here: softmax or Gaussian, at every position or one an example."""
    return isinstance(task, OutputTask) and isinstance(task.likelihood, Softmax | Gaussian)


def outputs(task: Task, model: nn.Module, batch: Batch) -> Float[Tensor, "n t c"]:
    """What the model says of a batch: logits or predictions, at every position where a task has them.

    Raises:
        InvalidSetting: If the task's loss cannot be taken apart.
    """
    _likelihood(task)
    if isinstance(task, PositionTask):
        return task.every_output(model, batch)
    assert isinstance(task, OutputTask)
    return task.outputs(model, batch)[:, None]


def losses(task: Task, h: Float[Tensor, "n t c"], batch: Batch) -> Float[Tensor, " n"]:
    """Loss of each example in nats, summed over its scored positions: `Task.loss` again."""
    likelihood = _likelihood(task)
    targets = batch.targets if isinstance(likelihood, Gaussian) else batch.targets.view(h.shape[:2])
    return _scored(task, likelihood.loss(h, targets), batch)


def divergences(
    task: Task, h: Float[Tensor, "n t c"], reference: Float[Tensor, "n t c"], batch: Batch
) -> Float[Tensor, " n"]:
    """Bregman divergence of each example's loss in nats, summed over its scored positions.

    Never negative but for rounding, and zero where the outputs are the reference's.
    """
    return _scored(task, _likelihood(task).divergence(h, reference), batch)


def _likelihood(task: Task) -> Softmax | Gaussian:
    if isinstance(task, OutputTask) and isinstance(task.likelihood, Softmax | Gaussian):
        return task.likelihood
    raise InvalidSetting(
        f"the outputs of {type(task).__name__} are not known apart from its loss",
        hint="give it `outputs` and a `likelihood`, Softmax or Gaussian: see `OutputTask`",
    )


def _scored(task: Task, per_position: Float[Tensor, "n t"], batch: Batch) -> Float[Tensor, " n"]:
    """The sum over positions, of a task that has them over the scored ones."""
    if isinstance(task, PositionTask):
        per_position = torch.where(batch.scored, per_position, 0.0)
    return per_position.sum(1)


def _wide(h: Tensor) -> Tensor:
    return h.to(torch.promote_types(h.dtype, torch.float32))
