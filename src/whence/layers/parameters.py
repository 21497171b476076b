"""Between the space of layers, ``[o i]`` each, and the model's own parameters by name.

One module may be several layers (the groups of a convolution), so that a parameter is the sum of what each of them
says of it. Leading axes are not taken: map over queries with `torch.func.vmap`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from whence.layers.adapter import TrackedLayer


def as_parameters(layers: Iterable[TrackedLayer], matrices: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layer → ``[o i]`` as full parameter name → tensor of its shape; layers without a matrix are left out."""
    found: dict[str, Tensor] = {}
    for layer in layers:
        if layer.name not in matrices:
            continue
        for part, tensor in layer.adapter.tensors(matrices[layer.name], layer.module).items():
            name = f"{layer.path}.{part}" if layer.path else part
            found[name] = found[name] + tensor if name in found else tensor
    return found


def as_matrices(layers: Iterable[TrackedLayer], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Full parameter name → tensor (values or gradients) as layer → ``[o i]``, the bias as its last column."""
    found: dict[str, Tensor] = {}
    for layer in layers:
        prefix = f"{layer.path}." if layer.path else ""
        bias = parameters[f"{prefix}bias"] if layer.bias else None
        found[layer.name] = layer.adapter.matrix(parameters[f"{prefix}weight"], bias)
    return found
