r"""`torch.nn.Conv2d` and `torch.nn.Conv1d`: a linear layer applied to the patch under the kernel at every location.

    y[n, o, l] = Σ_c Σ_k W[o, c, k] x[n, c, l·stride + k·dilation − padding]      positions t = locations l
    rows a[n, l] = the patch, channels first and then the kernel's cells          [n l c·k]

The order is that of ``weight.flatten(1)``. Patches hold the kernel's size times the numbers of the input (nine for
3 × 3), so capture keeps the input and forms them when backward comes by. Whatever fills the border (zeros, reflection,
replication, the other side) is part of the patch: the weights read it.

A grouped convolution is as many layers as groups, each reading its own channels: their weights never meet, and each
gets a block of its own. Depthwise convolutions are the extreme, with a small layer a channel.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Convolution = nn.Conv1d | nn.Conv2d


def is_convolution(module: nn.Module) -> TypeGuard[Convolution]:
    """Whether it is one of the two; transposed and three-dimensional ones are not."""
    return isinstance(module, nn.Conv1d | nn.Conv2d)


def in_groups(module: Convolution) -> tuple[ConvolutionAdapter, ...]:
    """An adapter for each group of its channels."""
    return tuple(ConvolutionAdapter(group, module.groups) for group in range(module.groups))


@dataclass(frozen=True)
class ConvolutionAdapter:
    """One group of a convolution; of an ordinary one, the whole."""

    group: int = 0
    groups: int = 1

    unfolds = True

    @property
    def suffix(self) -> str:
        """``.group3`` of a grouped one."""
        return f".group{self.group}" if self.groups > 1 else ""

    def sizes(self, module: nn.Module) -> tuple[int, int]:
        assert is_convolution(module)
        return module.out_channels // self.groups, module.weight[0].numel()

    def matrix(self, weight: Tensor, bias: Tensor | None) -> Float[Tensor, "o i"]:
        rows = self._mine(weight, 0).flatten(1)
        return rows if bias is None else torch.cat([rows, self._mine(bias, 0)[:, None]], dim=1)

    def tensors(self, matrix: Float[Tensor, "o i"], module: nn.Module) -> dict[str, Tensor]:
        assert is_convolution(module)
        kernel = matrix if module.bias is None else matrix[:, :-1]
        found = {"weight": self._among_groups(kernel.unflatten(1, module.weight.shape[1:]))}
        if module.bias is not None:
            found["bias"] = self._among_groups(matrix[:, -1])
        return found

    def rows(self, module: nn.Module, source: Tensor) -> Tensor:
        assert is_convolution(module)
        return patches(self._mine(source, 1), module).mT

    def output_rows(self, module: nn.Module, grads: Tensor) -> Tensor:
        return self._mine(grads, 1).flatten(2).mT

    def reading(self, module: nn.Module) -> Hashable:
        assert is_convolution(module)
        shape = module.kernel_size, module.stride, module.padding, module.dilation, module.padding_mode
        return (*shape, self.group, self.groups)

    def _mine(self, tensor: Tensor, axis: int) -> Tensor:
        """This group's share of the channels."""
        size = tensor.shape[axis] // self.groups
        return tensor.narrow(axis, self.group * size, size)

    def _among_groups(self, share: Tensor) -> Tensor:
        """A group's part of a weight or bias in its place, the other groups' zero."""
        if self.groups == 1:
            return share
        before, after = (count * len(share) for count in (self.group, self.groups - self.group - 1))
        return functional.pad(share, [0, 0] * (share.ndim - 1) + [before, after])


def patches(source: Float[Tensor, "n c *space"], module: Convolution) -> Float[Tensor, "n i t"]:
    """What lies under the kernel at every location, the border filled as the module fills it."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = functional.pad(source, _border(module), mode=mode)
    flat = [(1,)] if isinstance(module, nn.Conv1d) else []  # a line of pixels, for an unfold that knows images
    padded = padded[:, :, None] if flat else padded
    kernel, dilation, stride = (
        tuple(flat[0] + size) if flat else size for size in (module.kernel_size, module.dilation, module.stride)
    )
    return functional.unfold(padded, kernel, dilation=dilation, stride=stride)


def _border(module: Convolution) -> list[int]:
    """Cells added before and after each axis, the last axis first: what `functional.pad` takes."""
    sides: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            total = module.dilation[axis] * (module.kernel_size[axis] - 1)
            sides += [total // 2, total - total // 2]
        elif module.padding == "valid":
            sides += [0, 0]
        else:
            sides += [int(module.padding[axis])] * 2
    return sides
