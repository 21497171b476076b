r"""Moving the weights along a direction, in dual numbers: θ + αp at α = 0.

A dual tensor carries its value and its derivative in α through the model at once (``torch.autograd.forward_ad``),
so one forward pass gives the derivative of *every* log-probability, where backward would need one pass each.
Only the tracked layers' weights are dual; a module that none of them reaches runs as always.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from whence.errors import InvalidSetting, ModelError
from whence.layers import TrackedLayer
from whence.types import Batch


def dual_weights(direction: Mapping[str, Float[Tensor, "o i"]], layers: Iterable[TrackedLayer]) -> dict[str, Tensor]:
    """The tracked layers' parameters by full name, each with its part of the direction as tangent.

    Call inside ``forward_ad.dual_level()``. A layer without a direction stays where it is.

    Raises:
        InvalidSetting: If a direction names no tracked layer, or is not ``[o i]`` with the bias as last column.
    """
    by_name = {layer.name: layer for layer in layers}
    strangers = direction.keys() - by_name.keys()
    if strangers:
        raise InvalidSetting(
            f"the direction has layers that are not tracked: {', '.join(sorted(strangers))}",
            hint="give the layers that the curvature was fitted on",
        )
    duals = {}
    for name, matrix in direction.items():
        layer = by_name[name]
        if tuple(matrix.shape) != (layer.outputs, layer.inputs):
            raise InvalidSetting(
                f"the direction of {name} is {list(matrix.shape)}, the layer {[layer.outputs, layer.inputs]}",
                hint="a direction is [o, i], with the bias as its last column",
            )
        for part, tangent in layer.adapter.tensors(matrix, layer.module).items():
            weight = getattr(layer.module, part).detach()
            duals[f"{name}.{part}" if name else part] = forward_ad.make_dual(weight, tangent.to(weight).contiguous())
    return duals


def token_log_probabilities(model: nn.Module, weights: dict[str, Tensor], batch: Batch) -> Float[Tensor, "n t"]:
    """log p(y_t | what precedes) with some weights replaced; zero where unscored. Not chunked: for shown documents.

    Raises:
        ModelError: If an operation of the model has no forward-mode derivative.
    """
    options = {"use_cache": False} if hasattr(model, "config") else {}  # no mask: causal, and padded on the right
    try:
        # Fused attention has no forward-mode formula; the math kernel is made of operations that do.
        with sdpa_kernel(SDPBackend.MATH):
            outputs = functional_call(model, weights, (batch.inputs,), options)
    except NotImplementedError as error:
        raise ModelError(
            f"{type(model).__name__} has an operation without a forward-mode derivative: {error}",
            hint="load the model with attention='eager', or leave out the counterfactual attributions",
        ) from error
    logits: Float[Tensor, "n t v"] = outputs if isinstance(outputs, Tensor) else outputs.logits
    # As the loss does: half-precision logits are normalised in float32.
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    # Not logsumexp: its forward-mode formula writes in place, and `input_tokens` differentiates through it.
    per_token = logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    return torch.where(batch.scored, per_token, torch.zeros_like(per_token))
