"""Weights that were rounded to a few bits: they have no gradient, so nothing can be said of their influence."""

from __future__ import annotations

from torch import Tensor, nn

_PACKED = {"qweight", "weight_packed", "packed_weight", "W_q", "codes", "_packed_params"}
"""What GPTQ, AWQ, compressed-tensors, HQQ, AQLM and PyTorch call the packed weight."""
_HOMES = ("torchao.", "optimum.quanto.", "bitsandbytes.")
"""Where tensors come from that look like floats and are not."""


def is_quantised(module: nn.Module) -> bool:
    """Whether a module's own weight is held in a quantised form, of whatever library.

    Example:
        >>> is_quantised(nn.Linear(2, 2))
        False
    """
    own = {**module._parameters, **module._buffers}
    if _PACKED & (own.keys() | vars(module).keys()):
        return True
    weight = own.get("weight")
    if not isinstance(weight, Tensor):
        return False
    kinds = {f"{type(tensor).__module__}." for tensor in (weight, weight.data)}
    rounded = not (weight.is_floating_point() or weight.is_complex()) or weight.element_size() < 2  # float8 too
    return rounded or any(kind.startswith(_HOMES) for kind in kinds)


def logical_size(module: nn.Module, stored: int) -> int:
    """How many weights a quantised module stands for: several are packed into one stored number."""
    outputs, inputs = getattr(module, "out_features", None), getattr(module, "in_features", None)
    return outputs * inputs if isinstance(outputs, int) and isinstance(inputs, int) else stored
