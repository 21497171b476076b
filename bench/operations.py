"""Counting operations of matrix products as they are dispatched; a multiply and an add are two.

``torch.utils.flop_counter`` does the arithmetic; its own mode also follows modules, which a backward inside a
backward does not survive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import addmm_flop, baddbmm_flop, flop_registry


class Operations(TorchDispatchMode):
    """``with Operations() as counted: ...`` and then ``counted.total``."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        # In place they are other operators, which the registry leaves out.
        aten = torch.ops.aten
        self.counts: Mapping[Any, Callable[..., int]] = {
            **flop_registry,
            aten.addmm_: flop_registry.get(aten.addmm_, _of_shapes(addmm_flop)),
            aten.baddbmm_: flop_registry.get(aten.baddbmm_, _of_shapes(baddbmm_flop)),
            aten.mv: lambda a, b, **_: 2 * a.numel(),
            aten.addmv: lambda c, a, b, **_: 2 * a.numel(),
            aten.dot: lambda a, b, **_: 2 * a.numel(),
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = getattr(func, "_overloadpacket", None)
        if packet in self.counts:
            self.total += int(self.counts[packet](*args, **(kwargs or {}), out_val=result))
        return result


def _of_shapes(count: Callable[..., int]) -> Callable[..., int]:
    def counted(c: Any, a: Any, b: Any, **_: Any) -> int:
        return count(c.shape, a.shape, b.shape)

    return counted
