r"""Output-token attribution: which *predicted* tokens of a document carry its influence.

    p = (G + λI)⁻¹ ∇f                          where training on the answer would move the weights
    t ↦ d/dα log p(y_t | θ + αp)  at α = 0     how that moves each token of the document

The sum over t is the document's raw score: I_f(z) = −∇fᵀ(G + λI)⁻¹∇L(z) = pᵀ∇log p(z). Splitting by the loss that
is measured, rather than by where in the network its gradient arises (`tokenwise`), this is the only view in which a
value belongs to one token's loss alone. A dual number carries a value and its derivative in α through the model at
once, so that one forward pass gives every token's, where backward would need a pass a token.

Source: Grosse et al. 2023, arXiv:2308.03296, appendix B (there by finite differences).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad

from whence.errors import ModelError
from whence.influence.attribution.along import by_rows, parameters_along, token_log_probabilities
from whence.layers.adapter import TrackedLayer
from whence.types import Batch


def output_tokens(
    model: nn.Module, batch: Batch, direction: Mapping[str, Float[Tensor, "o i"]], layers: Iterable[TrackedLayer]
) -> Float[Tensor, "n t"]:
    """The derivative of each scored token's log-probability along a preconditioned query gradient.

    Args:
        model: A causal language model in eval mode.
        batch: Documents to attribute (one of several sequences is several rows: concatenate theirs).
        direction: Layer → (G + λI)⁻¹∇f, the bias as last column.
        layers: The tracked layers; those without a direction are held fixed.

    Returns:
        Position t holds the value of token t + 1, which it predicts; 0 where unscored. Rows sum to raw scores.

    Raises:
        InvalidSetting: If the direction is not one of these layers.
        ModelError: If an operation of the model has no forward-mode derivative.
    """
    moved = parameters_along(direction, layers)

    def few(rows: Batch) -> Float[Tensor, "m t"]:
        with torch.no_grad(), forward_ad.dual_level():
            weights = {name: forward_ad.make_dual(value, step) for name, (value, step) in moved.items()}
            per_token = token_log_probabilities(model, weights, rows)
            tangent = forward_ad.unpack_dual(per_token).tangent
            return torch.zeros_like(per_token) if tangent is None else tangent

    try:
        return by_rows(batch, few)
    except NotImplementedError as error:
        raise ModelError(
            f"{type(model).__name__} has an operation without a forward-mode derivative: {str(error).splitlines()[0]}",
            hint='load the model with attn_implementation="eager" and, of experts, experts_implementation="eager"',
        ) from error
