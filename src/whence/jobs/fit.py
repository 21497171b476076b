"""Fit a curvature: stream the training data through the model once a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from torch import Tensor, nn

from whence.artifacts.fingerprint import model_fingerprint
from whence.artifacts.folder import accepts, claim, finished
from whence.artifacts.manifest import Manifest
from whence.capture.check import AT_ONCE
from whence.curvature import CURVATURES, Block, Curvature, Damping
from whence.curvature.estimator import note_on_unseen
from whence.curvature.noise import agreement, noise_over_signal, note_on_noise
from whence.errors import InvalidSetting
from whence.jobs.fitting import Fitting, Found, done_path, fit_group, forget_sums
from whence.jobs.layer_groups import LayerGroups
from whence.jobs.log import Log
from whence.jobs.progress import Unfinished, check_units, together
from whence.jobs.stored_curvature import (
    SCHEMA,
    STORED,
    finish_curvature,
    load_blocks,
    load_curvature,
    reads_of,
    save_blocks,
)
from whence.jobs.stream import checked_layers, device_of
from whence.layers import TrackedLayer
from whence.layers.groups import Group
from whence.layers.lora import Params, origins, resolve
from whence.layers.select import track
from whence.types import Batch, Data, Labels, Task
from whence.world import World


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
    groups: int | LayerGroups = 1,
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
        groups: How many groups of layers are fitted one after the other, so that memory holds one group's statistics
            at a time; or which (`LayerGroups`). Each reads the data anew, and no number depends on it. With a folder,
            what is fitted is then read from there as it is needed.
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
    if isinstance(groups, int) and groups < 1:
        raise InvalidSetting(f"groups of layers must be at least 1, not {groups}")
    settings = fit_settings(task, layers, params, curvature, samples, labels, seed, store, model)
    if labels == "expected":
        task.label_count(model, _longest(data).to(device_of(model)))  # refused here, where there are too many
    sources = made_from or ({} if folder is None else {"model": model_fingerprint(model), "data": data.fingerprint})
    manifest = Manifest("curvature", SCHEMA, settings, sources)
    if folder is not None and accepts(folder, manifest) and finished(folder):
        log.note(f"curvature: already fitted in {folder}")
        return load_curvature(folder, device_of(model)).with_damping(lam)
    chosen = track(model, layers, params)
    at_once = AT_ONCE if isinstance(groups, int) else min(AT_ONCE, groups.largest(chosen.layers))
    tracked = checked_layers(model, chosen, task, data, at_once)
    if folder is not None:  # claimed only now: layers that are refused may be named otherwise in the same folder
        together(world, lambda: claim(folder, manifest))
    log.note(str(tracked.coverage))
    of = Fitting(model, task, data, settings, lam, folder, units, world, log)
    result = _put_together(tracked.layers, *_all_groups(tracked.layers, groups, of), of)
    for note in result.notes:
        log.note(note)
    if folder is not None:
        if world.main:
            finish_curvature(result, folder)
        world.barrier()
    return result


def _all_groups(
    layers: Sequence[TrackedLayer], groups: int | LayerGroups, of: Fitting
) -> tuple[dict[str, Block], list[Found]]:
    """Every group of layers fitted, one after the other; what is finished already is only read.

    Raises:
        Unfinished: If others' units are not done; every group then has this process's.
    """
    wanted = LayerGroups.count(layers, groups) if isinstance(groups, int) else groups
    parts = wanted.among(layers)
    if len(parts) > 1:
        of.log.note(f"the {len(layers)} layers are fitted in {len(parts)} groups, one after the other")
    blocks: dict[str, Block] = {}
    told = [] if of.folder is None else Found.earlier(of.folder)
    known = {name for found in told for name in found.layers}
    waiting: Unfinished | None = None
    for number, part in enumerate(parts):
        group = tuple(layer for layer in part if layer.name not in known)
        if not group:
            continue
        try:
            own, found = fit_group(group, of, group=number, groups=len(parts))
        except Unfinished as unfinished:
            waiting = waiting or unfinished
            continue
        told.append(found)
        if of.folder is None or groups == 1:
            blocks |= own
        if of.folder is not None:
            _keep(own, found, group, layers, of, apart=len(parts) > 1)
        del own  # or it would lie beside the next group's statistics
    if waiting is not None:
        raise waiting
    if len(blocks) < len(layers):
        assert of.folder is not None, "without a folder, all that is fitted is in memory"
        blocks = load_blocks(of.folder, reads_of(layers), device_of(of.model))
    return {layer.name: blocks[layer.name] for layer in layers}, told


def _keep(
    blocks: dict[str, Block], found: Found, group: Group, layers: Sequence[TrackedLayer], of: Fitting, *, apart: bool
) -> None:
    """A finished group's files; then its partial sums go, where no one else may be reading them."""
    assert of.folder is not None
    if of.world.main:
        save_blocks(blocks, reads_of(layers), of.folder)
        found.save(done_path(of.folder, group))
        if apart and of.units is None:
            forget_sums(group, of, groups=2)
    of.world.barrier()


def _put_together(
    layers: Sequence[TrackedLayer], blocks: dict[str, Block], told: Sequence[Found], of: Fitting
) -> Curvature:
    """The groups as one curvature: the same to the last bit, and in the same order, however many they were."""
    name, labels = of.settings["curvature"], of.settings["labels"]
    counts: dict[str, int] = {}
    unseen: dict[str, list[str]] = {}
    probes: dict[str, Tensor] = {}
    for found in told:
        counts, unseen, probes = counts | found.counts, unseen | found.unseen, probes | found.probes
    in_order = ["sequences", "positions", *(f"positions.{reads}" for reads in reads_of(layers).values())]
    notes = note_on_unseen([one for layer in layers for one in unseen.get(layer.name, [])])
    damped, noise = CURVATURES[name].damped, None
    if damped and labels != "expected":  # then there is no noise but in the choice of data
        rho = agreement([probes[layer.name] for layer in layers if layer.name in probes])
        noise = None if rho is None else noise_over_signal(rho, told[0].share)
        notes.append(note_on_noise(noise, of.data.sequences, of.settings["samples"], labels))
    return Curvature(
        name=name,
        blocks=blocks,
        reads=reads_of(layers),
        pooled=tuple(layer.name for layer in layers if layer.pooled),
        damping=of.damping if damped else None,
        settings=of.settings,
        counts={key: counts[key] for key in in_order if key in counts},
        notes=tuple(notes),
        noise=noise,
    )


def _longest(data: Data) -> Batch:
    """The batch with the most scored positions in one sequence."""
    every = (batch for unit in data.units for batch in data.batches(unit.number))
    return max(every, key=lambda batch: int(batch.scored.sum(1).max()))


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
