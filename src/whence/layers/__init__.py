"""Row 2: which modules are tracked, and how each becomes ``y[n,t] = W a[n,t]``.

To add a layer type: one file with an `Adapter`, and a line in `ADAPTERS`.
"""

from __future__ import annotations

from torch import nn

from whence.layers.adapter import Adapter, TrackedLayer
from whence.layers.conv1d import Conv1DAdapter, is_conv1d
from whence.layers.convolution import ConvolutionAdapter, in_groups, is_convolution
from whence.layers.linear import LinearAdapter
from whence.layers.parameters import as_matrices, as_parameters

ADAPTERS: dict[str, Adapter] = {
    "linear": LinearAdapter(),
    "conv1d": Conv1DAdapter(),
    "convolution": ConvolutionAdapter(),
}


def adapters_for(module: nn.Module) -> tuple[Adapter, ...]:
    """The adapters of a module: one, or one a group of a grouped convolution, or none if we do not know its type."""
    if isinstance(module, nn.Linear):
        return (ADAPTERS["linear"],)
    if is_conv1d(module):
        return (ADAPTERS["conv1d"],)
    if is_convolution(module):
        return in_groups(module) if module.groups != 1 else (ADAPTERS["convolution"],)
    return ()


__all__ = ["ADAPTERS", "Adapter", "TrackedLayer", "adapters_for", "as_matrices", "as_parameters"]
