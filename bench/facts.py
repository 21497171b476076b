"""What a number of seconds does not say: disk after a fit, and what half precision costs in agreement."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.model import Shape, build, query_tokens, train_tokens, weights
from bench.ours import TASK, BenchData, query_batch
from bench.timing import clocked
from whence.curvature import Curvature
from whence.jobs.fit import fit
from whence.jobs.query import query_gradients
from whence.jobs.score import score, self_influence

MOST = 96
"""Sequences that the agreements are taken over: rank correlations need no more."""


def facts(shape: Shape) -> dict[str, Any]:
    """Disk and agreement on the bench model. Random weights: the demo's model is where agreement matters."""
    small = shape.with_sequences(min(MOST, shape.sequences))
    whole, disk = _fitted(small)
    halved, disk_half = _fitted(small, store="bfloat16")
    computed, _ = _fitted(small, dtype=torch.bfloat16)
    first = _scores(small, whole)
    found: dict[str, Any] = {
        "disk_bytes_a_weight": {"float32": disk, "bfloat16": disk_half},
        "stored_bfloat16": _agreement(first, _scores(small, halved)),
        "computed_bfloat16": _agreement(first, _scores(small, computed, torch.bfloat16)),
    }
    data = BenchData(train_tokens(small), small.batch)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        model = build(small, dtype)
        found["computed_bfloat16"][f"fit_{name}_cpu"] = clocked(lambda m=model: fit(m, data, task=TASK)).cpu
    return found


def spearman(one: Tensor, other: Tensor) -> float:
    """Rank correlation along the last axis, averaged over the rest."""
    ranks = [rows.double().argsort(-1).argsort(-1).double() for rows in (one, other)]
    first, second = (rank - rank.mean(-1, keepdim=True) for rank in ranks)
    return float(((first * second).sum(-1) / (first.norm(dim=-1) * second.norm(dim=-1))).mean())


def _agreement(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> dict[str, float]:
    pairs = zip(("scores", "self_influence"), one, other, strict=True)
    return {f"spearman_{name}": spearman(first, second) for name, first, second in pairs}


def _fitted(shape: Shape, dtype: torch.dtype = torch.float32, store: str = "float32") -> tuple[Curvature, float]:
    """A curvature, and the bytes a tracked weight that it left on disk."""
    data = BenchData(train_tokens(shape), shape.batch)
    with tempfile.TemporaryDirectory() as folder:
        curvature = fit(build(shape, dtype), data, task=TASK, folder=Path(folder) / "curvature", store=store)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return curvature, size / weights(shape)


def _scores(shape: Shape, curvature: Curvature, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    model, data = build(shape, dtype), BenchData(train_tokens(shape), shape.batch)
    queries = query_gradients(curvature, model, [query_batch(query_tokens(shape))], task=TASK, rank=None)
    found = score(curvature, queries, data, model=model, task=TASK)
    own = self_influence(curvature, data, model=model, task=TASK)
    assert found is not None
    assert own is not None
    return found.total, own
