"""Fit a curvature: stream the training data through the model once a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from whence.artifacts.fingerprint import model_fingerprint
from whence.artifacts.folder import accepts, claim, finished
from whence.artifacts.manifest import Manifest
from whence.artifacts.tree import TreeSum
from whence.curvature import CURVATURES, Curvature, Damping, Estimator, Stage
from whence.curvature.estimator import Sums
from whence.curvature.noise import ProbeScores, as_questions, in_groups, noise_over_signal, note_on_noise, probes_of
from whence.errors import InvalidSetting
from whence.jobs.log import Log
from whence.jobs.progress import Unfinished, check_units, count_units, together
from whence.jobs.stored_curvature import SCHEMA, load_curvature, save_curvature
from whence.jobs.stream import checked_layers, device_of, find_nonfinite, likelihood_pass
from whence.layers.lora import Params, origins, resolve
from whence.layers.select import Tracked, track
from whence.types import Batch, Data, Labels, Task
from whence.world import World

STORED: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}


def fit(
    model: nn.Module,
    data: Data,
    *,
    task: Task,
    layers: str | Sequence[str] = "blocks",
    params: Params | None = None,
    curvature: str = "ekfac",
    damping: str | float | Damping = 0.1,
    samples: int = 1,
    labels: Labels = "sampled",
    seed: int = 0,
    store: str = "float32",
    folder: Path | None = None,
    made_from: dict[str, str] | None = None,
    units: range | None = None,
    world: World | None = None,
    log: Log | None = None,
) -> Curvature:
    """Fit the curvature of the mean loss over the tracked layers.

    Args:
        model: Any module; in eval mode, or dropout would be part of the curvature.
        layers: ``blocks``, ``mlp``, ``all``, or globs on module names.
        params: Whose parameters: a LoRA ``adapter``'s, the ``base`` model's, or ``all``. None is the adapter's where
            there is one.
        curvature: A key of `CURVATURES`.
        damping: Relative to each layer's mean eigenvalue (0.1), or ``abs:1e-4``. Not part of the fit: changed
            at no cost with `Curvature.with_damping`.
        samples: Label samples a position (with sampled labels).
        labels: ``sampled`` from the model (the Fisher, equal to the Gauss-Newton matrix); ``expected``, the same
            without sampling, by a pass for each class or output (of a language model for each word at each position:
            toys only); or ``true``, the data's own: the empirical Fisher, which is neither.
        store: What bases and eigenvalues are kept in: ``bfloat16`` halves the disk and costs a little agreement
            (bench/RESULTS.md). ``float32`` means the precision of the sums, float64 where the model is.
        folder: Where to keep what is finished; an interrupted fit continues there. None keeps all in memory.
        made_from: Fingerprints of model, tokenizer and data, if known; they go into the manifest.
        units: Only these work units of each stage.

    Raises:
        InvalidSetting, LayerError, NumericalError, ArtifactMismatch.
        Unfinished: If ``units`` are done and others are not.
    """
    log, world = log or Log.silent(), world or World()
    lam = Damping.parse(damping)
    check_units(units, len(data.units))
    settings = fit_settings(task, layers, params, curvature, samples, labels, seed, store, model)
    if labels == "expected":
        task.label_count(model, _longest(data).to(device_of(model)))  # refused here, where there are too many
    sources = made_from or ({} if folder is None else {"model": model_fingerprint(model), "data": data.fingerprint})
    manifest = Manifest("curvature", SCHEMA, settings, sources)
    if folder is not None and accepts(folder, manifest) and finished(folder):
        log.note(f"curvature: already fitted in {folder}")
        return load_curvature(folder, device_of(model)).with_damping(lam)
    tracked = checked_layers(model, track(model, layers, params), task, data)
    if folder is not None:  # claimed only now: layers that are refused may be named otherwise in the same folder
        together(world, lambda: claim(folder, manifest))
    log.note(str(tracked.coverage))
    estimator = CURVATURES[curvature](tracked.layers, samples, STORED[store])
    for stage in estimator.stages():
        _run_stage(stage, model, tracked, task, data, settings, folder, units, world, log)
    noise = None
    if estimator.damped and labels != "expected":  # then there is no noise but in the choice of data
        noise = _noise(estimator, model, tracked, task, data, lam, seed) if estimator.half else None
        estimator.notes.append(note_on_noise(noise, data.sequences, samples, labels))
    result = Curvature(
        name=curvature,
        blocks=estimator.blocks(),
        reads={layer.name: layer.reads for layer in tracked.layers},
        pooled=tuple(layer.name for layer in tracked.layers if layer.pooled),
        damping=lam if estimator.damped else None,
        settings=settings,
        counts=estimator.counts,
        notes=tuple(estimator.notes),
        noise=noise,
    )
    for note in result.notes:
        log.note(note)
    if folder is not None:
        if world.main:
            save_curvature(result, folder)
        world.barrier()
    return result


def _run_stage(
    stage: Stage,
    model: nn.Module,
    tracked: Tracked,
    task: Task,
    data: Data,
    settings: dict[str, Any],
    folder: Path | None,
    units: range | None,
    world: World,
    log: Log,
) -> None:
    """Sum one stage over the fixed tree of work units and let the estimator finish it."""
    device, labels, seed, samples = device_of(model), settings["labels"], settings["seed"], settings["samples"]

    def leaf(unit: int) -> Sums:
        part = stage.empty()
        for batch in data.batches(unit):
            batch = batch.to(device)
            for sample in range(task.label_count(model, batch) if labels == "expected" else samples):
                part.begin(batch, sample)
                likelihood_pass(
                    model, tracked.layers, task, batch, part.update, data=data, labels=labels, seed=seed, sample=sample
                )
        if not all(bool(torch.isfinite(total.sum())) for total in part.sums.values()):
            find_nonfinite(model, tracked.layers, task, data.batches(unit), data, labels=labels, seed=seed)
        return part.sums

    count = len(data.units)
    tree = TreeSum(None if folder is None else folder / "parts", stage.name, count)
    mine = units if units is not None else world.shard(count)
    left = sum(len(set(gap) & set(mine)) for gap in tree.missing())
    counter = count_units(log, f"fit: {stage.name}", len(mine), done=len(mine) - left)
    tree.run(mine, leaf, progress=counter)
    world.barrier()
    if units is not None and tree.missing():
        raise Unfinished(f"fit: {stage.name}")
    if world.main:
        tree.settle()  # leaves the root behind for the others
    world.barrier()
    stage.finish({name: total.to(device) if total.ndim else total for name, total in tree.total().items()})


def _longest(data: Data) -> Batch:
    """The batch with the most scored positions in one sequence."""
    every = (batch for unit in data.units for batch in data.batches(unit.number))
    return max(every, key=lambda batch: int(batch.scored.sum(1).max()))


def _noise(
    estimator: Estimator, model: nn.Module, tracked: Tracked, task: Task, data: Data, damping: Damping, seed: int
) -> float | None:
    """Noise over signal in a question's scores: a few sequences asked of a few others, by all draws and by half."""
    asked, others = (
        [batch.to(device_of(model)) for batch in data.gather(ids)] for ids in probes_of(data.sequences, seed)
    )
    sink = ProbeScores(estimator.blocks(), estimator.half, damping)
    for layers in in_groups(tracked.layers, sum(batch.real.numel() for batch in (*asked, *others))):
        for sink.asking, batches in ((True, map(as_questions, asked)), (False, others)):
            for batch in batches:
                likelihood_pass(model, layers, task, batch, sink.update, data=data)
        sink.meet()
    estimator.half = {}
    rho = sink.agreement()
    return None if rho is None else noise_over_signal(rho, estimator.share)


def fit_settings(
    task: Task,
    layers: str | Sequence[str],
    params: Params | None,
    curvature: str,
    samples: int,
    labels: Labels,
    seed: int,
    store: str,
    model: nn.Module,
) -> dict[str, Any]:
    """What a manifest records of a fit; refuses what cannot be honoured."""
    if curvature not in CURVATURES:
        raise InvalidSetting(f"no curvature is called {curvature!r}", hint=f"choose one of {', '.join(CURVATURES)}")
    if store not in STORED:
        raise InvalidSetting(f"curvature cannot be kept in {store!r}", hint=f"choose one of {', '.join(STORED)}")
    if samples < 1:
        raise InvalidSetting(f"samples must be at least 1, not {samples}")
    if labels not in get_args(Labels):
        raise InvalidSetting(f"labels cannot be {labels!r}", hint=f"choose one of {', '.join(get_args(Labels))}")
    if labels != "sampled" and samples > 1:
        why = "the data's own labels, of which there is one" if labels == "true" else "each label taken once"
        raise InvalidSetting(
            f"{samples} label samples were asked for with {why}", hint="leave samples at 1, or use labels = sampled"
        )
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    globs = [layers] if isinstance(layers, str) else list(layers)
    return {
        **task.settings,
        "curvature": curvature,
        "layers": globs,
        "params": resolve(params, origins(model)),
        "samples": samples,
        "labels": labels,
        "seed": seed,
        "store": store,
        "dtype": dtype,
    }
