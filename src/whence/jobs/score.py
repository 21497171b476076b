"""Score the training data: one pass for all queries, a file a work unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from whence.artifacts.fingerprint import model_fingerprint
from whence.artifacts.folder import claim, mark_finished
from whence.artifacts.manifest import Manifest
from whence.artifacts.tensors import load_tensors, save_tensors
from whence.curvature import Curvature
from whence.errors import ArtifactError, NumericalError
from whence.influence.query import Queries
from whence.influence.score import Scorer
from whence.influence.self_influence import SelfInfluence
from whence.jobs.log import Log
from whence.jobs.progress import check_units, count_units, together
from whence.jobs.scored import Scores
from whence.jobs.stream import device_of, likelihood_pass
from whence.types import Batch, Data, Task
from whence.world import World

SCHEMA = 1

HINT = "run in float32 (`--dtype float32`), or remove the document"


def score(
    curvature: Curvature,
    queries: Queries,
    data: Data,
    *,
    model: nn.Module,
    task: Task,
    by_layer: bool = False,
    by_token: bool = False,
    of: Int64[Tensor, " k"] | None = None,
    folder: Path | None = None,
    made_from: dict[str, str] | None = None,
    units: range | None = None,
    world: World | None = None,
    log: Log | None = None,
) -> Scores | None:
    """Meet every training sequence with every query, reading the data once.

    Args:
        by_layer: Keep the parts by layer; they cost nothing to compute.
        by_token: Keep the parts by position; cheap where queries are cut to a rank.
        of: The queries are answer tokens, these of which query (`data.queries.AnswerTokens.query`): their scores are
            kept as ``by_answer``, and everything else is of the queries whose tokens they are.
        folder: Where finished units are kept; an interrupted call continues there.
        units: Only these units; the result is then None unless the others are there already.

    Raises:
        NumericalError: If a score is NaN or inf; names layer and document.
        ArtifactMismatch: If the folder's scores are of another model, data, curvature or queries.
    """
    log, world = log or Log.silent(), world or World()
    layers = curvature.tracked(model)
    scorer = Scorer(queries, layers, by_token=by_token)

    def one_batch(batch: Batch) -> dict[str, Tensor]:
        scorer.begin(batch)
        likelihood_pass(model, layers, task, batch, scorer.update, data=data)
        _refuse_nonfinite(scorer.by_layer, [layer.name for layer in layers], batch, data)
        parts = {"total": _together(scorer.total, of, 0).cpu()}
        if of is not None:
            parts["by_answer"] = scorer.total.cpu()
        if by_layer:
            parts["by_layer"] = _together(scorer.by_layer, of, 1).cpu()
        if scorer.by_token is not None:
            lengths = batch.real.sum(1).cpu()
            rows = _together(scorer.by_token, of, 0).cpu()
            parts["by_token"] = torch.cat([rows[:, row, :length] for row, length in enumerate(lengths)], dim=1)
            parts["lengths"] = lengths
        return parts

    settings = {**task.settings, "by_layer": by_layer, "by_token": by_token, "queries": len(queries)}
    settings |= {"damping": str(curvature.damping), "rank": queries.rank}
    settings |= {} if of is None else {"by_answer": True}
    inputs = {} if folder is None else {"curvature": curvature.fingerprint, "queries": queries.fingerprint}
    unit_parts = by_unit(
        "scores",
        _batchwise(one_batch, data, model),
        data,
        model,
        folder,
        settings,
        made_from,
        inputs,
        units,
        world,
        log,
    )
    if unit_parts is None:
        return None
    return _scores(unit_parts, data, tuple(layer.name for layer in layers))


def self_influence(
    curvature: Curvature,
    data: Data,
    *,
    model: nn.Module,
    task: Task,
    folder: Path | None = None,
    made_from: dict[str, str] | None = None,
    units: range | None = None,
    world: World | None = None,
    log: Log | None = None,
) -> Float[Tensor, " n"] | None:
    """gᵀ (G + λI)⁻¹ g of every sequence (never negative); None while units are missing.

    Each sequence is an example of its own; see `jobs.documents` for documents of several.
    """
    log, world = log or Log.silent(), world or World()
    one_batch = selves(curvature, data, model, task)
    settings = {**task.settings, "damping": str(curvature.damping), "curvature": curvature.name}
    inputs = {} if folder is None else {"curvature": curvature.fingerprint}
    of_unit = _batchwise(lambda batch: {"total": one_batch(batch)[None]}, data, model)
    parts = by_unit("self-influence", of_unit, data, model, folder, settings, made_from, inputs, units, world, log)
    return None if parts is None else _scores(parts, data, ()).total[0]


def selves(curvature: Curvature, data: Data, model: nn.Module, task: Task) -> Callable[[Batch], Float[Tensor, " n"]]:
    """Batch → self-influence of each of its sequences."""
    layers = curvature.tracked(model)
    sink = SelfInfluence(curvature, layers)

    def one_batch(batch: Batch) -> Tensor:
        sink.begin(batch)
        likelihood_pass(model, layers, task, batch, sink.update, data=data)
        _refuse_nonfinite(sink.by_layer[:, None], [layer.name for layer in layers], batch, data)
        return sink.total.cpu()

    return one_batch


def _batchwise(
    one_batch: Callable[[Batch], dict[str, Tensor]], data: Data, model: nn.Module
) -> Callable[[int], dict[str, Tensor]]:
    """Unit → its batches' parts as one."""
    return lambda unit: _joined(
        [(batch, one_batch(batch)) for batch in (batch.to(device_of(model)) for batch in data.batches(unit))]
    )


def by_unit(
    kind: str,
    of_unit: Callable[[int], dict[str, Tensor]],
    data: Data,
    model: nn.Module,
    folder: Path | None,
    settings: dict[str, object],
    made_from: dict[str, str] | None,
    inputs: dict[str, str],
    units: range | None,
    world: World,
    log: Log,
) -> list[dict[str, Tensor]] | None:
    """Every unit's parts in order, computed or read; None while other processes' units are missing."""
    check_units(units, len(data.units))
    if folder is not None:
        sources = {**(made_from or {"model": model_fingerprint(model), "data": data.fingerprint}), **inputs}
        together(world, lambda: claim(folder, Manifest(kind, SCHEMA, settings, sources)))
    mine = units if units is not None else world.shard(len(data.units))
    kept: dict[int, dict[str, Tensor]] = {}
    done = [unit for unit in mine if folder is not None and part_path(folder, unit).exists()]
    advance = count_units(log, kind, len(mine), done=len(done))
    for unit in mine:
        if unit in done:
            continue
        part = of_unit(unit)
        if folder is None:
            kept[unit] = part
        else:
            save_tensors(part_path(folder, unit), part)
        advance(unit)
    world.barrier()
    if folder is not None:
        every = [part_path(folder, unit) for unit in range(len(data.units))]
        if not all(path.exists() for path in every):
            return None
        if world.main:
            mark_finished(folder, [path.name for path in every])
        return [load_tensors(path) for path in every]
    if world.size > 1 or len(kept) < len(data.units):
        raise ArtifactError("units computed apart need a folder to meet in", hint="pass `folder`")
    return [kept[unit] for unit in sorted(kept)]


def part_path(folder: Path, unit: int) -> Path:
    """The file of one work unit."""
    return folder / f"part-{unit:05d}.safetensors"


def _joined(batches: list[tuple[Batch, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """The batches of a unit as one part: examples are the last axis of every tensor."""
    part = {"sequence": torch.cat([batch.ids.cpu() for batch, _ in batches])}
    for name in batches[0][1]:
        part[name] = torch.cat([tensors[name] for _, tensors in batches], dim=-1).contiguous()
    return part


def _together(values: Tensor, of: Int64[Tensor, " k"] | None, dim: int) -> Tensor:
    """Answer tokens' values summed into those of their queries along an axis; queries' own as they are."""
    if of is None:
        return values
    shape = list(values.shape)
    shape[dim] = int(of.max()) + 1
    return values.new_zeros(shape).index_add_(dim, of.to(values.device), values)


def _scores(parts: Sequence[dict[str, Tensor]], data: Data, layers: tuple[str, ...]) -> Scores:
    """Units put together, in the order of sequence numbers; NaN where a selection of the data left a sequence out."""
    first, sequences = parts[0], data.sequences
    total = first["total"].new_full((first["total"].shape[0], sequences), torch.nan)
    by_layer = total.new_full((*first["by_layer"].shape[:2], sequences), torch.nan) if "by_layer" in first else None
    by_token: dict[int, Tensor] | None = {} if "by_token" in first else None
    by_answer = total.new_full((len(first["by_answer"]), sequences), torch.nan) if "by_answer" in first else None
    for part in parts:
        total[:, part["sequence"]] = part["total"]
        if by_answer is not None:
            by_answer[:, part["sequence"]] = part["by_answer"]
        if by_layer is not None:
            by_layer[:, :, part["sequence"]] = part["by_layer"]
        if by_token is not None:
            pieces = part["by_token"].split(part["lengths"].tolist(), dim=1)
            by_token |= dict(zip(part["sequence"].tolist(), pieces, strict=True))
    return Scores(total, by_layer, layers, by_token, by_answer, data)


def _refuse_nonfinite(by_layer: Float[Tensor, "l q n"], layers: list[str], batch: Batch, data: Data) -> None:
    if bool(torch.isfinite(by_layer.sum())):
        return
    bad = (~torch.isfinite(by_layer)).nonzero()
    if len(bad):
        layer, _, row = bad[0].tolist()
        raise NumericalError(
            f"a score is NaN or inf at layer {layers[layer]}, in {data.name(int(batch.ids[row]))}",
            hint=HINT,
        )
