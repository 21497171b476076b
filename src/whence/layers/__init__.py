"""Row 2: which modules are tracked, and how each becomes ``y[n,t] = W a[n,t]``.

To add a layer type: one file with an `Adapter`, and a line in `ADAPTERS`.
"""

from __future__ import annotations

from torch import nn

from whence.layers.adapter import Adapter, TrackedLayer
from whence.layers.conv1d import Conv1DAdapter, is_conv1d
from whence.layers.linear import LinearAdapter

ADAPTERS: dict[str, Adapter] = {"linear": LinearAdapter(), "conv1d": Conv1DAdapter()}


def adapter_for(module: nn.Module) -> Adapter | None:
    """The adapter of a module, or None where its type is not one we know."""
    if isinstance(module, nn.Linear):
        return ADAPTERS["linear"]
    if is_conv1d(module):
        return ADAPTERS["conv1d"]
    return None


__all__ = ["ADAPTERS", "Adapter", "TrackedLayer", "adapter_for"]
