"""What each pass adds to a plain one in seconds and bytes: its sink, fed with made-up traces.

A sink that keeps totals gets them before the clock starts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from whence.capture import LayerTrace, SharedInput
from whence.curvature import Block, Curvature
from whence.curvature.moments import Moments
from whence.curvature.squares import Squares
from whence.influence.lowrank import LowRank
from whence.influence.query import Prepared, Queries, QueryGradients
from whence.influence.score import Scorer
from whence.influence.self_influence import SelfInfluence
from whence.jobs.plan.costs import Shape
from whence.jobs.plan.probe import Seconds, peak, timed
from whence.layers import TrackedLayer
from whence.layers.groups import by_reads
from whence.types import Batch

Group = tuple[TrackedLayer, ...]
Sink = Callable[[LayerTrace], None]


@dataclass(frozen=True, slots=True)
class Extra:
    """What a sink adds to one batch."""

    seconds: Seconds
    memory: int
    """Bytes at its height."""


def alike(layers: Sequence[TrackedLayer]) -> list[tuple[Group, int]]:
    """One group of layers of each kind that shares an input, and how many there are of it."""
    kinds: Counter[tuple[tuple[int, int], ...]] = Counter()
    example: dict[tuple[tuple[int, int], ...], Group] = {}
    for members in by_reads(layers).values():
        kind = tuple((layer.outputs, layer.inputs) for layer in members)
        kinds[kind] += 1
        example.setdefault(kind, tuple(members))
    return [(example[kind], count) for kind, count in kinds.items()]


def extra(
    kind: str,
    group: Group,
    shape: Shape,
    dtype: torch.dtype,
    device: torch.device,
    *,
    queries: int = 1,
    rank: int | None = None,
    by_token: bool = False,
    repeats: int = 2,
) -> Extra:
    """Try the sink of one pass on a batch of ``shape``, for the layers that read one tensor.

    Args:
        kind: ``moments``, ``squares``, ``diagonal``, ``gradients`` (of queries), ``scores`` or ``self``.
        dtype: What traces come in.
    """
    sink = _sink(kind, group, shape, torch.promote_types(dtype, torch.float32), device, queries, rank, by_token)
    inputs = torch.randn(shape.n, shape.t, group[0].inputs, dtype=dtype, device=device)
    grads = {e.name: torch.randn(shape.n, shape.t, e.outputs, dtype=dtype, device=device) for e in group}

    def once() -> None:
        shared = SharedInput(group[0].reads, inputs, len(group))
        for index, layer in enumerate(group):
            sink(LayerTrace(layer.name, shared, grads[layer.name], index == 0))

    return Extra(timed(once, device, repeats), peak(once, device))


def _sink(
    kind: str,
    group: Group,
    shape: Shape,
    dtype: torch.dtype,
    device: torch.device,
    queries: int,
    rank: int | None,
    by_token: bool,
) -> Sink:
    layers = {layer.name: replace(layer, readers=len(group)) for layer in group}
    batch = _batch(shape, device)
    if kind == "moments":
        part = Moments(layers, 1, dtype, device)
        part.begin(batch, 0)
        return part.update
    curvature = _curvature(group, dtype, device, basis=kind != "diagonal")
    if kind in ("squares", "diagonal"):
        squares = Squares(layers, curvature.blocks, 1, dtype, device)
        squares.begin(batch, 0)
        return squares.update
    if kind == "self":
        own = SelfInfluence(curvature, list(layers.values()))
        own.begin(batch)
        return own.update
    if kind == "gradients":
        sums = QueryGradients(curvature, list(layers.values()), queries)
        sums.begin(torch.arange(shape.n) % queries)
        return sums.update
    scorer = Scorer(_queries(group, dtype, device, queries, rank), list(layers.values()), by_token=by_token)
    scorer.begin(batch)
    return scorer.update


def _batch(shape: Shape, device: torch.device) -> Batch:
    rows = torch.arange(shape.n, device=device)
    places = torch.zeros(shape.n, shape.t, dtype=torch.int64, device=device)
    real = torch.ones(shape.n, shape.t, dtype=torch.bool, device=device)
    return Batch(rows, places, places, real, real, rows, torch.zeros_like(rows))


def _curvature(group: Group, dtype: torch.dtype, device: torch.device, *, basis: bool) -> Curvature:
    def square(size: int) -> torch.Tensor | None:
        return torch.randn(size, size, dtype=dtype, device=device) if basis else None

    shared = square(group[0].inputs)
    blocks = {
        e.name: Block(torch.ones(e.outputs, e.inputs, dtype=dtype, device=device), square(e.outputs), shared)
        for e in group
    }
    return Curvature("ekfac", blocks, {e.name: group[0].reads for e in group})


def _queries(group: Group, dtype: torch.dtype, device: torch.device, count: int, rank: int | None) -> Queries:
    prepared: Prepared = {}
    for e in group:
        if rank is None:
            prepared[e.name] = torch.randn(count, e.outputs, e.inputs, dtype=dtype, device=device)
        else:
            r = min(rank, e.outputs, e.inputs)
            left = torch.randn(count, e.outputs, r, dtype=dtype, device=device)
            prepared[e.name] = LowRank(left, torch.randn(count, r, e.inputs, dtype=dtype, device=device))
    return Queries(prepared, torch.ones(count), torch.ones(count), rank)
