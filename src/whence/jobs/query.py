"""Queries: each one's gradient, solved against the curvature and, where memory asks for it, cut to a rank."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from whence.artifacts.tensors import load_tensors, save_tensors
from whence.curvature import Curvature
from whence.errors import InvalidSetting
from whence.influence.lowrank import LowRank
from whence.influence.query import Prepared, Queries, QueryGradients
from whence.jobs.stream import device_of, likelihood_pass
from whence.types import Batch, Task

DENSE_ELEMENTS = 2**29
"""Full-rank query gradients up to this many elements in all (2 GiB of float32) are kept whole by ``auto``."""
AUTO_RANK = 32
"""P's rank: scores correlated 0.995 with full rank."""


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """Parts of queries on their way through the model; a contrastive query has two, of weight +1 and −1."""

    batch: Batch
    query: Int64[Tensor, " n"]
    weight: Float[Tensor, " n"]


def resolve_rank(rank: int | str | None, count: int, weights: int) -> int | None:
    """``auto``: full rank (None) where ``count`` dense gradients fit comfortably, else 32.

    Raises:
        InvalidSetting: If the rank is below 1 or not one of ``auto``, ``full``.
    """
    if rank is None or rank == "full":
        return None
    if rank == "auto":
        return None if count * weights <= DENSE_ELEMENTS else AUTO_RANK
    if not isinstance(rank, int) or rank < 1:
        raise InvalidSetting(f"rank must be at least 1, `auto` or `full`, not {rank!r}")
    return rank


def query_gradients(
    curvature: Curvature,
    model: nn.Module,
    batches: Iterable[QueryBatch],
    *,
    task: Task,
    rank: int | str | None = "auto",
) -> Queries:
    """The directions p = (G + λI)⁻¹ ∇f of every query.

    Args:
        batches: In any order; ``query`` numbers run from 0. Queries are taken in groups, so that dense
            gradients of one group at a time are held before the cut.
    """
    layers = curvature.tracked(model)
    weights = sum(layer.weights for layer in layers)
    parts = sorted(batches, key=lambda part: int(part.query.min()))
    count = 1 + max(int(part.query.max()) for part in parts)
    rank = resolve_rank(rank, count, weights)
    device = device_of(model)
    groups = []
    for members in _groups(parts, max(1, DENSE_ELEMENTS // weights)):
        first = min(int(part.query.min()) for part in members)
        size = 1 + max(int(part.query.max()) for part in members) - first
        sink = QueryGradients(curvature, layers, size)
        measured = torch.zeros(size, dtype=torch.float64)
        for part in members:
            sink.begin(part.query - first)
            weight = part.weight.to(device)
            value = likelihood_pass(model, layers, task, part.batch.to(device), sink.update, weight=weight)
            measured.index_add_(0, part.query - first, (value * weight).double().cpu())
        groups.append(sink.finish(measured, rank))
    return Queries.join(groups)


def _groups(parts: Sequence[QueryBatch], most: int) -> Iterable[list[QueryBatch]]:
    """Runs of batches that together span at most ``most`` queries, no query split between two runs."""
    group: list[QueryBatch] = []
    for part in parts:
        if group:
            spans = int(part.query.max()) - int(group[0].query.min()) + 1
            closed = max(int(p.query.max()) for p in group) < int(part.query.min())
            if spans > most and closed:
                yield group
                group = []
        group.append(part)
    if group:
        yield group


def save_queries(queries: Queries, path: Path) -> None:
    """One safetensors file: factors or dense gradients by layer."""
    tensors = {"self_influence": queries.self_influence, "measurement": queries.measurement}
    for name, entry in queries.prepared.items():
        if isinstance(entry, LowRank):
            tensors |= {f"left.{name}": entry.left.contiguous(), f"right.{name}": entry.right.contiguous()}
        else:
            tensors[f"dense.{name}"] = entry.contiguous()
    save_tensors(path, tensors)


def load_queries(path: Path, device: torch.device | str = "cpu") -> Queries:
    """What `save_queries` wrote."""
    tensors = load_tensors(path, device)
    prepared: Prepared = {}
    rank = None
    for key, tensor in tensors.items():
        kind, _, name = key.partition(".")
        if kind == "left":
            prepared[name] = LowRank(tensor, tensors[f"right.{name}"])
            rank = max(rank or 0, tensor.shape[2])
        elif kind == "dense":
            prepared[name] = tensor
    return Queries(prepared, tensors["self_influence"].cpu(), tensors["measurement"].cpu(), rank)
