"""Queries: each one's gradient, solved against the curvature and, where memory asks for it, cut to a rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from whence.artifacts.tensors import load_tensors, save_tensors
from whence.curvature import Curvature
from whence.data.queries import QueryBatch
from whence.errors import InvalidSetting
from whence.influence.lowrank import LowRank
from whence.influence.query import Prepared, Queries, QueryGradients
from whence.jobs.stream import device_of, likelihood_pass
from whence.layers import TrackedLayer
from whence.types import Task

DENSE_ELEMENTS = 2**29
"""Full-rank query gradients up to this many elements in all (2 GiB of float32) are kept whole by ``auto``."""
AUTO_RANK = 32
"""P's rank: scores correlated 0.995 with full rank."""


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
    return Queries.join(list(query_groups(curvature, model, batches, task=task, rank=rank)))


def query_groups(
    curvature: Curvature,
    model: nn.Module,
    batches: Iterable[QueryBatch],
    *,
    task: Task,
    rank: int | str | None = "auto",
    elements: int = DENSE_ELEMENTS,
) -> Iterator[Queries]:
    """The same a few queries at a time, in their order: their dense gradients have so many ``elements`` at the most."""
    layers = curvature.tracked(model)
    weights = sum(layer.weights for layer in layers)
    parts = list(batches)
    count = 1 + max(int(part.query.max()) for part in parts)
    rank = resolve_rank(rank, count, weights)
    step = max(1, elements // weights)
    for first in range(0, count, step):
        yield _group(curvature, model, layers, parts, range(first, min(first + step, count)), task, rank)


def _group(
    curvature: Curvature,
    model: nn.Module,
    layers: Sequence[TrackedLayer],
    parts: Sequence[QueryBatch],
    members: range,
    task: Task,
    rank: int | None,
) -> Queries:
    """The queries numbered ``members``, whichever batches their parts are in."""
    device = device_of(model)
    sink = QueryGradients(curvature, layers, len(members))
    measured = torch.zeros(len(members), dtype=torch.float64)
    for part in parts:
        inside = (part.query >= members.start) & (part.query < members.stop)
        if not bool(inside.any()):
            continue
        part = part if bool(inside.all()) else part.select(inside)
        query, weight = part.query - members.start, part.weight.to(device)
        sink.begin(query)
        value = likelihood_pass(model, layers, task, part.batch.to(device), sink.update, weight=weight)
        measured.index_add_(0, query, (value * weight).double().cpu())
    return sink.finish(measured, rank)


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
