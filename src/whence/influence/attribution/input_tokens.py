r"""Input-token attribution: which tokens, *read*, a document's influence depends on.

    T(s) = Σ_t d/dα log p(y_t | θ + αp, s ⊙ e)  at α = 0     the raw score, had token t's embedding e_t been s_t·e_t
    t ↦ ∂T/∂s_t  at s = 1

α is a number that requires a gradient, so one backward pass gives T and a second, through the first, its derivative
for every token at once. Exact: the paper's finite differences (two forward, two backward passes) serve in the tests.
Reverse over reverse, because PyTorch has second derivatives of everything a transformer does, but no forward-mode
derivative of SiLU's backward, and no backward of log-softmax's forward mode. These values need not sum to the score.

Source: Grosse et al. 2023, arXiv:2308.03296, appendix B.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.errors import ModelError
from whence.influence.attribution.along import by_rows, parameters_along, token_log_probabilities
from whence.layers.adapter import TrackedLayer
from whence.tasks.reading import in_sequences
from whence.types import Batch


def input_tokens(
    model: nn.Module, batch: Batch, direction: Mapping[str, Float[Tensor, "o i"]], layers: Iterable[TrackedLayer]
) -> Float[Tensor, "n t"]:
    """The derivative of each document's raw score in the scale of each token's embedding.

    Args:
        model: A causal language model in eval mode; its token embedding is the one that
            ``get_input_embeddings()`` returns, or its only ``nn.Embedding``.
        batch: Documents to attribute. Prompt tokens have values too: what they are matters to what follows.
        direction: Layer → (G + λI)⁻¹∇f, the bias as last column.
        layers: The tracked layers; those without a direction are held fixed.

    Returns:
        Position t holds the value of token t itself; 0 on padding.

    Raises:
        InvalidSetting: If the direction is not one of these layers.
        ModelError: If the model's token embedding cannot be told.
    """
    moved = parameters_along(direction, layers)
    embedding = _token_embedding(model)
    scale: list[Float[Tensor, "n t 1"]] = []

    def scaled(module: nn.Module, args: tuple[Any, ...], output: Float[Tensor, "n t i"]) -> Float[Tensor, "n t i"]:
        if scale:
            raise ModelError(
                f"{type(model).__name__} reads its token embedding more than once in a pass",
                hint="leave out the input-token attribution",
            )
        scale.append(torch.ones_like(output[..., :1]).requires_grad_())
        return output * scale[0]

    def few(rows: Batch) -> Float[Tensor, "m t"]:
        scale.clear()
        alpha = torch.zeros((), device=rows.inputs.device, requires_grad=True)
        weights = {name: torch.add(value, alpha.to(value.dtype) * step) for name, (value, step) in moved.items()}
        log_p = token_log_probabilities(model, weights, rows).sum()
        (total,) = torch.autograd.grad(log_p, alpha, create_graph=True, materialize_grads=True)
        (by_scale,) = torch.autograd.grad(total, scale, materialize_grads=True)
        values = in_sequences(rows, by_scale[..., 0])
        return torch.where(rows.real, values, torch.zeros_like(values))

    handle = embedding.register_forward_hook(scaled)
    try:
        with torch.enable_grad():
            return by_rows(batch, few).detach()
    finally:
        handle.remove()


def _token_embedding(model: nn.Module) -> nn.Module:
    """What turns token ids into vectors."""
    own = getattr(model, "get_input_embeddings", None)
    if callable(own) and isinstance(found := own(), nn.Module):
        return found
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    if len(tables) != 1:
        raise ModelError(
            f"{type(model).__name__} has {len(tables)} embedding tables and does not say which one reads tokens",
            hint="give it a get_input_embeddings() method, or leave out the input-token attribution",
        )
    return tables[0]
