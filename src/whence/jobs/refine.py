"""Queries solved by any estimator of (G + Λ)⁻¹: what `jobs.score.score` takes in place of EK-FAC's own.

    inverse = make_inverse("ekfac_refined", curvature, model, task=task, data=data)
    queries, reports = refined_queries(inverse, curvature, model, batches, task=task)
    scores = score(curvature, queries, data, model=model, task=task)

Scoring meets the same training gradients whichever way the queries were solved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from whence.capture import LayerTrace
from whence.curvature import Curvature
from whence.curvature.fisher import SampledFisher
from whence.curvature.ggn import GaussNewton
from whence.curvature.inverse import INVERSES, Inverse, Report, Solver
from whence.curvature.operator import Operator
from whence.curvature.rotation import chunks
from whence.data.queries import QueryBatch
from whence.errors import InvalidSetting
from whence.influence.lowrank import LowRank
from whence.influence.query import Prepared, Queries
from whence.jobs.query import DENSE_ELEMENTS, resolve_rank
from whence.jobs.stream import device_of, likelihood_pass
from whence.layers import TrackedLayer
from whence.solvers.algebra import dot
from whence.types import Data, Gradients, Task

COPIES = 6
"""Vectors of a query's size that conjugate gradient holds."""


def make_inverse(
    name: str,
    curvature: Curvature,
    model: nn.Module,
    *,
    task: Task,
    data: Data,
    operator: Literal["exact", "sampled"] = "exact",
    samples: int = 1,
    seed: int = 0,
) -> Inverse:
    """An estimator by name: ``fitted`` is the curvature itself, whichever it is; the others are in `INVERSES`.

    Args:
        curvature: Preconditions, and gives every layer its λ.
        data: The training sequences, whose mean loss has the curvature G.
        operator: G exactly, or the Fisher at ``samples`` sampled labels a position: cheaper by far a product.
        seed: Of the sampled Fisher's labels.

    Raises:
        InvalidSetting: If there is no such estimator or operator, the curvature is undamped, or the task does not
            show its outputs.
    """
    if name == "fitted":
        return curvature
    if name not in INVERSES:
        raise InvalidSetting(f"no estimator is called {name!r}", hint=f"choose one of fitted, {', '.join(INVERSES)}")
    if operator not in ("exact", "sampled"):
        raise InvalidSetting(f"operator must be `exact` or `sampled`, not {operator!r}")
    if operator == "exact" and samples != 1:
        raise InvalidSetting(
            f"{samples} label samples were asked for, and the exact operator draws none",
            hint="use operator = sampled, or leave samples at 1",
        )
    layers = curvature.tracked(model)
    made: Operator = (
        GaussNewton(model, layers, task, data)
        if operator == "exact"
        else SampledFisher(model, layers, task, data, samples=samples, seed=seed)
    )
    return INVERSES[name](curvature, made)


def refined_queries(
    inverse: Inverse,
    curvature: Curvature,
    model: nn.Module,
    batches: Iterable[QueryBatch],
    *,
    task: Task,
    rank: int | str | None = "auto",
) -> tuple[Queries, list[Report]]:
    """The directions p = (G + Λ)⁻¹ ∇f of every query, and how well each was solved.

    Args:
        inverse: From `make_inverse`, or anything that solves.
        batches: In any order; ``query`` numbers run from 0. As many queries are solved together as memory allows.

    Returns:
        Queries for `jobs.score.score`, and a report for each group of them (none for a fitted curvature).
    """
    layers = curvature.tracked(model)
    weights = sum(layer.weights for layer in layers)
    parts = list(batches)
    count = queries_in(parts)
    cut = resolve_rank(rank, count, weights)
    groups, reports = [], []
    for members in solved_together(count, weights):
        grads, measured = query_vectors(model, layers, parts, members, task)
        if isinstance(inverse, Solver):
            solved, report = inverse.reported(grads)
            reports.append(report)
        else:
            solved = inverse.solve(grads)
        groups.append(Queries(_cut(solved, cut), dot(grads, solved).cpu(), measured, cut))
    return Queries.join(groups), reports


def queries_in(parts: Sequence[QueryBatch]) -> int:
    """How many queries some batches hold."""
    return 1 + max(int(part.query.max()) for part in parts)


def solved_together(queries: int, weights: int) -> list[range]:
    """The groups in which queries are solved: as many together as memory allows."""
    step = max(1, DENSE_ELEMENTS // (COPIES * weights))
    return [range(first, min(first + step, queries)) for first in range(0, queries, step)]


def query_vectors(
    model: nn.Module, layers: Sequence[TrackedLayer], parts: Sequence[QueryBatch], members: range, task: Task
) -> tuple[Gradients, Tensor]:
    """∇f of some queries, layer → ``[q o i]``, and f ``[q]``."""
    device = device_of(model)
    sums: Gradients = {}
    measured = torch.zeros(len(members), dtype=torch.float64)
    for part in parts:
        inside = (part.query >= members.start) & (part.query < members.stop)
        if not bool(inside.any()):
            continue
        part = part if bool(inside.all()) else part.select(inside)
        query, weight = part.query - members.start, part.weight.to(device)

        def add(trace: LayerTrace, query: Tensor = query) -> None:
            _add(sums, trace, query, len(members))

        value = likelihood_pass(model, layers, task, part.batch.to(device), add, weight=weight)
        measured.index_add_(0, query, (value * weight).double().cpu())
    return {layer.name: sums[layer.name] for layer in layers}, measured


def _add(sums: Gradients, trace: LayerTrace, query: Tensor, count: int) -> None:
    """Add each example's gradient to its query's."""
    grads, inputs = trace.output_grads, trace.inputs
    wide = torch.promote_types(grads.dtype, torch.float32)
    if trace.layer not in sums:
        shape = count, grads.shape[-1], inputs.shape[-1]
        sums[trace.layer] = torch.zeros(shape, dtype=wide, device=grads.device)
    for rows in chunks(len(grads), grads.shape[-1] * inputs.shape[-1], grads.device):
        gradient = torch.bmm(grads[rows].to(wide).mT, inputs[rows].to(wide))
        sums[trace.layer].index_add_(0, query[rows].to(grads.device), gradient)


def _cut(solved: Gradients, rank: int | None) -> Prepared:
    return {name: part if rank is None else LowRank.truncate(part, rank) for name, part in solved.items()}
