"""Cutting examples into training, validation and test sets: a function of a seed and of how many there are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from whence.errors import InvalidSetting


def split(count: int, shares: Sequence[float], seed: int) -> tuple[Int64[Tensor, " m"], ...]:
    """Row numbers of each part, every row in one of them, ascending within a part.

    Args:
        shares: Of the rows, adding up to 1: ``(0.7, 0.2, 0.1)`` for training, validation and test. Sizes are rounded
            so that they add up; every part has a row at least.

    Raises:
        InvalidSetting: If the shares do not add up to 1, or there are fewer rows than parts.

    Example:
        >>> [part.tolist() for part in split(5, (0.6, 0.4), seed=0)]
        [[0, 1, 4], [2, 3]]
    """
    if not shares or min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-9):
        raise InvalidSetting(f"shares {tuple(shares)} are not parts of a whole", hint="write (0.7, 0.2, 0.1)")
    if count < len(shares):
        raise InvalidSetting(
            f"{count} rows cannot be cut into {len(shares)} parts", hint="give more rows, or fewer parts"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    edges = [0]
    for part in range(len(shares)):
        left = len(shares) - part - 1
        edges.append(min(max(round(count * sum(shares[: part + 1])), edges[-1] + 1), count - left))
    return tuple(order[a:b].sort().values for a, b in itertools.pairwise(edges))
