"""Fixed work units: which sequences share a batch, and which batches share a unit.

    lengths → sorted by (length, number) → batches under a budget of padded tokens → dealt round to units

Sorting keeps padding small, dealing gives each unit a like mix of lengths. All of it follows from the lengths,
the budget and the number of units: the plan is the same for any number of workers, and results are bit-identical
because of it. The budget is in tokens and has nothing to do with the context length.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whence.artifacts.atomic import write_text
from whence.artifacts.fingerprint import DIGITS
from whence.artifacts.tensors import load_tensors, save_tensors
from whence.errors import ArtifactError, InvalidSetting
from whence.types import Unit

FEWEST_UNITS = 16
UNIT_TOKENS = 1_000_000

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Batches in order, each a run of ``order``; unit u has batches u, u + U, u + 2U, …"""

    order: Integers
    """Sequence numbers, shortest sequence first: ``[n]``."""
    starts: Integers
    """Where each batch starts in ``order``, and the end: ``[batches + 1]``."""
    units: tuple[Unit, ...]
    batch_tokens: int

    def batches(self, unit: int) -> list[Integers]:
        """The sequence numbers of each batch of a unit."""
        return [self.order[self.starts[b] : self.starts[b + 1]] for b in range(unit, len(self), len(self.units))]

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self.starts) - 1

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what is where: partial sums of another plan do not fit this one."""
        digest = hashlib.sha256(np.int64(len(self.units)).tobytes())
        for array in (self.order, self.starts):
            digest.update(np.ascontiguousarray(array, "<i8").tobytes())
        return digest.hexdigest()[:DIGITS]

    def write(self, folder: Path) -> list[str]:
        """Put the plan into a folder: a page to read, and the arrays beside it. Returns the files' names."""
        arrays = {"order": torch.from_numpy(self.order), "starts": torch.from_numpy(self.starts)}
        save_tensors(folder / "plan.safetensors", arrays)
        write_text(folder / "plan.json", json.dumps(self.summary(), indent=1) + "\n")
        return ["plan.json", "plan.safetensors"]

    def summary(self) -> dict[str, Any]:
        """The plan in numbers."""
        return {
            "batch_tokens": self.batch_tokens,
            "batches": len(self),
            "sequences": len(self.order),
            "tokens": sum(unit.tokens for unit in self.units),
            "units": [{"sequences": unit.sequences, "tokens": unit.tokens} for unit in self.units],
        }

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan of a folder.

        Raises:
            ArtifactError: If it is missing or broken.
        """
        arrays = load_tensors(folder / "plan.safetensors")
        try:
            page = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
            units = tuple(Unit(number, **unit) for number, unit in enumerate(page["units"]))
            return cls(arrays["order"].numpy(), arrays["starts"].numpy(), units, page["batch_tokens"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{folder / 'plan.json'} cannot be read: {error}", hint="make the folder again"
            ) from error


def make_plan(lengths: Sequence[int] | NDArray[Any], batch_tokens: int, units: int | None = None) -> Plan:
    """Cut sequences into batches and units.

    Args:
        lengths: Tokens of each sequence, in the order of their numbers.
        batch_tokens: Padded tokens a batch may hold; a longer sequence is a batch alone.
        units: How many units; by default 16, or one a million tokens when that is more. Never more than sequences.

    Raises:
        InvalidSetting: If the budget or the number of units is not positive.

    Example:
        >>> plan = make_plan([3, 9, 3, 4], batch_tokens=8, units=2)
        >>> [[batch.tolist() for batch in plan.batches(unit)] for unit in range(2)]
        [[[0, 2], [1]], [[3]]]
    """
    if batch_tokens < 1:
        raise InvalidSetting(f"batch_tokens must be at least 1, not {batch_tokens}", hint="4096 suits most machines")
    if units is not None and units < 1:
        raise InvalidSetting(f"units must be at least 1, not {units}", hint="leave it out to have it chosen")
    sizes = np.asarray(lengths, np.int64)
    assert len(sizes) > 0, "a plan over no sequences"
    order = np.argsort(sizes, kind="stable").astype(np.int64)
    ordered = sizes[order]
    total = int(ordered.sum())
    wanted = max(FEWEST_UNITS, -(-total // UNIT_TOKENS)) if units is None else units
    wanted = min(wanted, len(sizes))
    starts = _split(_greedy(ordered, batch_tokens), ordered, wanted)
    sums = np.add.reduceat(ordered, starts[:-1])
    counts = np.diff(starts)
    dealt = tuple(Unit(u, int(counts[u::wanted].sum()), int(sums[u::wanted].sum())) for u in range(wanted))
    return Plan(order, starts, dealt, batch_tokens)


def _greedy(ordered: Integers, budget: int) -> Integers:
    """Batches as full as the budget allows, over ascending lengths: ``[batches + 1]``."""
    starts = [0]
    while starts[-1] < len(ordered):
        start = starts[-1]
        low, high = start + 1, min(len(ordered), start + budget // max(1, int(ordered[start])) + 1)
        while low < high:  # the longest run from start whose padded size fits; its size grows with its end
            middle = (low + high + 1) // 2
            fits = (middle - start) * int(ordered[middle - 1]) <= budget
            low, high = (middle, high) if fits else (low, middle - 1)
        starts.append(low)
    return np.asarray(starts, np.int64)


def _split(starts: Integers, ordered: Integers, wanted: int) -> Integers:
    """Halve the largest batches until each unit has one."""
    if len(starts) - 1 >= wanted:
        return starts
    heap = [
        (-(b - a) * int(ordered[b - 1]), a, b) for a, b in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]
    heapq.heapify(heap)
    alone: list[int] = []
    while len(heap) + len(alone) < wanted:
        _, a, b = heapq.heappop(heap)
        if b - a == 1:
            alone.append(a)
            continue
        middle = (a + b) // 2
        for left, right in ((a, middle), (middle, b)):
            heapq.heappush(heap, (-(right - left) * int(ordered[right - 1]), left, right))
    return np.asarray([*sorted([*alone, *(a for _, a, _ in heap)]), len(ordered)], np.int64)
