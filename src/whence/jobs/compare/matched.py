"""What is on both sides: documents by the hash of what they say, the same copy of a duplicate with the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyarrow import parquet

from whence.data.store import TokenStore
from whence.data.table import NAME


@dataclass(frozen=True)
class Matched:
    """Documents of two runs that say the same, pair by pair in the first run's order, and those that have no pair."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    only_a: NDArray[np.int64]
    only_b: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.a)

    @classmethod
    def of(cls, a: TokenStore, b: TokenStore) -> Matched:
        """Match two runs' documents."""
        return cls.of_hashes(_hashes(a), _hashes(b))

    @classmethod
    def of_hashes(cls, a: Iterable[str], b: Iterable[str]) -> Matched:
        """Match by hash; the n-th copy on one side goes with the n-th on the other.

        Example:
            >>> found = Matched.of_hashes(["x", "y", "x"], ["x", "z"])
            >>> found.a.tolist(), found.b.tolist(), found.only_a.tolist(), found.only_b.tolist()
            ([0], [0], [1, 2], [1])
        """
        places: dict[str, list[int]] = {}
        count = 0
        for number, name in enumerate(b):
            places.setdefault(name, []).append(number)
            count = number + 1
        for numbers in places.values():
            numbers.reverse()
        pairs, alone = [], []
        for number, name in enumerate(a):
            left = places.get(name)
            if left:
                pairs.append((number, left.pop()))
            else:
                alone.append(number)
        both = np.array(pairs, np.int64).reshape(-1, 2)
        unmet = np.setdiff1d(np.arange(count), both[:, 1])
        return cls(both[:, 0], both[:, 1], np.array(alone, np.int64), unmet)


def _hashes(store: TokenStore) -> list[str]:
    return list(parquet.read_table(store.folder / NAME, columns=["hash"])["hash"].to_pylist())
