"""What a run keeps, in bytes: a folder's files follow from the sizes of layers and the number of units.

A safetensors file is eight bytes, a header that can be written down beforehand, and the numbers. Of manifests and of
the token store it is known about what they take; their share is small where models are large.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from whence.jobs.plan.memory import Memory
from whence.jobs.plan.workload import Workload
from whence.layers import TrackedLayer
from whence.layers.groups import Group, by_reads

MANIFEST, LISTED = 900, 100
"""Bytes of a manifest, and of a file listed in it with its SHA-256, about."""
_LETTERS = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64"}

Sizes = tuple[torch.dtype, tuple[int, ...]]
"""Of a tensor."""


def file_bytes(tensors: Mapping[str, Sizes]) -> int:
    """Bytes of a safetensors file with these tensors.

    Example:
        >>> file_bytes({"basis": (torch.float32, (2, 2))})
        104
    """
    at = 0
    header: dict[str, Any] = {"__metadata__": {}}
    for name, (dtype, shape) in sorted(tensors.items()):
        end = at + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": _LETTERS[dtype], "shape": shape, "data_offsets": (at, end)}
        at = end
    written = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-written // 8) * 8 + at


@dataclass(frozen=True)
class Disk:
    """Bytes on disk, by folder.

    Args:
        sums: What sums and queries are kept in.
        stored: What bases and eigenvalues are kept in.
        again: Documents at each end of a ranking that are scored again.
    """

    layers: Sequence[TrackedLayer]
    sums: torch.dtype
    stored: torch.dtype
    curvature: str
    train: Workload
    queries: int
    """What meets the data: the questions, or their answers' tokens."""
    questions: int
    rank: int | None
    by: Sequence[str]
    scored: Workload
    """What of the data is scored."""
    again: int = 0

    @classmethod
    def of(cls, memory: Memory, *, scored: Workload, again: int) -> Disk:
        """Of a run that takes such memory."""
        names = [field.name for field in fields(cls) if field.name not in ("again", "scored")]
        return cls(**{name: getattr(memory, name) for name in names}, scored=scored, again=again)

    def when_done(self, report: int | None) -> dict[str, int]:
        """Folder → bytes, when the run is done.

        Args:
            report: Bytes of the report, if there is to be one (`page`).
        """
        kept = {"data": self.train.disk, "curvature": self._curvature()}
        if self.queries:
            kept |= {"queries": self._queries(), "scores": self._scores()}
        return kept if report is None else kept | {"report": report}

    def while_fitting(self, memory: Memory, groups: Sequence[Group]) -> int:
        """The most that partial sums take: a node a level of the tree, and a parent before its children go.

        Beside them lie the layers of the groups that are finished.
        """
        nodes = math.ceil(math.log2(max(2, self.train.units))) + 1
        most = finished = 0
        for group in groups:
            part = replace(memory, layers=group)
            first = part.moments_sum if self.curvature in ("kfac", "ekfac") else 0
            second = nodes * part.squares_sum if self.curvature in ("diagonal", "ekfac") else 0
            most = max(most, finished + max(nodes * first, first + second))
            finished += part.fitted
        return most

    def _curvature(self) -> int:
        based = self.curvature in ("kfac", "ekfac")
        groups = by_reads(self.layers)
        total = MANIFEST + LISTED * (len(self.layers) + based * len(groups))
        if based:
            total += sum(self._file({"basis": (members[0].inputs,) * 2}) for members in groups.values())
        for layer in self.layers:
            tensors: dict[str, tuple[int, ...]] = {"eigenvalues": (layer.outputs, layer.inputs)}
            if based:
                tensors["basis"] = (layer.outputs, layer.outputs)
            total += self._file(tensors) + len(layer.name) + len(layer.reads)
        return total

    def _file(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        return file_bytes({name: (self.stored, shape) for name, shape in shapes.items()})

    def _queries(self) -> int:
        q = self.queries
        alone: Sizes = (torch.float64, (q,))
        tensors = {"measurement": alone, "self_influence": alone}
        for layer in self.layers:
            o, i = layer.outputs, layer.inputs
            if self.rank is None:
                tensors[f"dense.{layer.name}"] = (self.sums, (q, o, i))
            else:
                r = min(self.rank, o, i)
                tensors[f"left.{layer.name}"] = (self.sums, (q, o, r))
                tensors[f"right.{layer.name}"] = (self.sums, (q, r, i))
        return file_bytes(tensors) + MANIFEST

    def _scores(self) -> int:
        """A part a unit, all taken to be alike, and what is scored again."""
        again = rescored_bytes(self.questions, min(2 * self.again, self.scored.documents))
        units, q = self.train.units, self.questions
        n, tokens = round(self.scored.sequences / units), round(self.scored.tokens / units)
        tensors: dict[str, Sizes] = {"sequence": (torch.int64, (n,)), "total": (self.sums, (q, n))}
        if "answer" in self.by:
            tensors["by_answer"] = (self.sums, (self.queries, n))
        if "layer" in self.by:
            tensors["by_layer"] = (self.sums, (len(self.layers), q, n))
        if "token" in self.by:
            tensors |= {"by_token": (self.sums, (q, tokens)), "lengths": (torch.int64, (n,))}
        return units * (file_bytes(tensors) + LISTED) + MANIFEST + again


def rescored_bytes(questions: int, ends: int) -> int:
    """What is scored again: a file a question, with so many documents of its ranking."""
    if not ends:
        return 0
    a_file = file_bytes({"document": (torch.int64, (ends,)), "raw": (torch.float64, (ends,))})
    return questions * (a_file + LISTED) + MANIFEST
