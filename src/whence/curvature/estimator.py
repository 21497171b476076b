"""What an estimator of curvature is: stages, each a mergeable sum over the training stream.

A stage reads the stream once. Its sum over a work unit is a plain dict of tensors, added along the fixed
tree of unit numbers; jobs do the adding, the keeping and the communication.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from whence.capture import LayerTrace
from whence.curvature.block import Block
from whence.layers import TrackedLayer
from whence.types import Batch

Sums = dict[str, Tensor]
"""Name → a sum over sequences; counts are sums too (int64)."""


class Part(ABC):
    """A stage's sum over some batches."""

    sums: Sums

    def begin(self, batch: Batch, sample: int) -> None:  # noqa: B027 (most parts need nothing, but may)
        """Called before each forward; ``sample`` counts the label samples of the same batch."""

    @abstractmethod
    def update(self, trace: LayerTrace) -> None:
        """Add one layer's trace."""


def halves_of(batch: Batch, sample: int) -> list[int]:
    """Which half of the draws each row of a batch belongs to (see `noise`).

    Neighbours go together, eight by eight: rows of one half that lie side by side are summed without a copy.
    """
    return ((batch.ids // 8 + sample) % 2).tolist()


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass over the stream.

    Args:
        name: What its partial sums are filed under.
        empty: A new part, all zero.
        finish: Takes the complete sums; what it returns is kept as facts of the fit.
    """

    name: str
    empty: Callable[[], Part]
    finish: Callable[[Sums], None]


class Estimator(ABC):
    """Turns the training stream into blocks.

    Args:
        layers: The tracked layers, grouped by what they read.
        samples: Label samples a position; sums over them are averaged.
        store: What finished bases and eigenvalues are rounded to; None keeps the precision of the sums.
    """

    name: ClassVar[str]
    damped: ClassVar[bool] = True
    """Whether (G + λI) is inverted. The identity is not: gradient dot products are left as they are."""

    def __init__(self, layers: Sequence[TrackedLayer], samples: int = 1, store: torch.dtype | None = None) -> None:
        self.layers = {layer.name: layer for layer in layers}
        self.samples = samples
        self.store = store
        self.unseen: dict[str, list[str]] = {}
        """Directions never seen while fitting, by layer: what a user should be told."""
        self.counts: dict[str, int] = {}
        self.half: dict[str, Block] = {}
        """The same from half of the draws: what `noise` compares with `blocks`. Not kept."""
        self.share = 0.5
        """How large that half is."""

    @abstractmethod
    def stages(self) -> Iterator[Stage]:
        """The passes, in order; a later one may need what an earlier one finished."""

    @abstractmethod
    def blocks(self) -> dict[str, Block]:
        """The finished blocks, by layer."""

    @property
    def device(self) -> torch.device:
        layer = next(iter(self.layers.values()))
        return layer.parameters()[0].device

    @property
    def dtype(self) -> torch.dtype:
        """What sums are kept in: the model's precision, and float32 at the least."""
        layer = next(iter(self.layers.values()))
        return torch.promote_types(layer.parameters()[0].dtype, torch.float32)


def note_on_unseen(found: Sequence[str]) -> list[str]:
    """One sentence for the user, or none where every direction was seen."""
    if not found:
        return []
    more = f"; and in {len(found) - 3} more places" if len(found) > 3 else ""
    return [f"directions never seen while fitting (damping alone decides there): {'; '.join(found[:3])}{more}"]
