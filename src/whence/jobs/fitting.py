"""One group of layers through the stages of its curvature: what a fit does once, or again for each group."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whence.artifacts.tensors import open_tensors, save_tensors
from whence.artifacts.tree import TreeSum
from whence.curvature import CURVATURES, Block, Damping, Estimator, Stage
from whence.curvature.estimator import Sums
from whence.curvature.noise import ProbeScores, as_questions, in_groups, probes_of
from whence.jobs.layer_groups import key_of
from whence.jobs.log import Log
from whence.jobs.progress import Unfinished, count_units
from whence.jobs.stored_curvature import STORED
from whence.jobs.stream import device_of, find_nonfinite, likelihood_pass
from whence.layers import TrackedLayer
from whence.layers.groups import Group
from whence.types import Data, Task
from whence.world import World


@dataclass(frozen=True)
class Fitting:
    """What every pass of a fit needs."""

    model: nn.Module
    task: Task
    data: Data
    settings: dict[str, Any]
    damping: Damping
    folder: Path | None
    units: range | None
    world: World
    log: Log


@dataclass(frozen=True)
class Found:
    """What a fit keeps of a group beside its blocks."""

    layers: list[str]
    counts: dict[str, int]
    unseen: dict[str, list[str]]
    """Layer → directions never seen."""
    share: float
    """How large the half of the draws is that noise is told by."""
    probes: dict[str, Tensor] = field(default_factory=dict)
    """Layer → its part of the probes' scores; empty where noise is not looked at."""

    def save(self, path: Path) -> None:
        """One file; that it is there says that the group is done."""
        facts = {"layers": self.layers, "counts": self.counts, "unseen": self.unseen, "share": self.share}
        save_tensors(path, self.probes, {"facts": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path) -> Found:
        with open_tensors(path) as file:
            probes = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            return cls(**json.loads(file.metadata()["facts"]), probes=probes)

    @classmethod
    def earlier(cls, folder: Path) -> list[Found]:
        """Of the groups that were finished before, whichever division they were of."""
        return [cls.load(path) for path in sorted((folder / "parts").glob("done.*.safetensors"))]


def done_path(folder: Path, layers: Group) -> Path:
    """Of what a finished group leaves."""
    return folder / "parts" / f"done.{key_of(layers)}.safetensors"


def fit_group(layers: Group, of: Fitting, *, group: int = 0, groups: int = 1) -> tuple[dict[str, Block], Found]:
    """Fit some layers; partial sums stay in the folder until `forget_sums`.

    Args:
        group: Which of the ``groups`` it is.

    Raises:
        NumericalError.
        Unfinished: If this process's units are done and others' are not.
    """
    settings = of.settings
    estimator = CURVATURES[settings["curvature"]](layers, settings["samples"], STORED[settings["store"]])
    for stage in estimator.stages():
        name, said = _called(stage, layers, group, groups)
        run_stage(stage, layers, of, name, said)
    found = Found(
        [layer.name for layer in layers],
        estimator.counts,
        estimator.unseen,
        estimator.share,
        probe(estimator, layers, of),
    )
    return estimator.blocks(), found


def forget_sums(layers: Group, of: Fitting, groups: int) -> None:
    """Remove a group's partial sums, once what they came to is kept."""
    if of.folder is None:
        return
    for stage in CURVATURES[of.settings["curvature"]](layers).stages():
        TreeSum(of.folder / "parts", _called(stage, layers, 0, groups)[0], len(of.data.units)).clear()


def run_stage(stage: Stage, layers: Group, of: Fitting, name: str, said: str) -> None:
    """Sum one stage over the fixed tree of work units and let the estimator finish it.

    Args:
        name: What its partial sums are filed under.
        said: What it is called for a reader.
    """
    device, labels, seed, samples = device_of(of.model), *(of.settings[key] for key in ("labels", "seed", "samples"))

    def leaf(unit: int) -> Sums:
        part = stage.empty()
        for batch in of.data.batches(unit):
            batch = batch.to(device)
            for sample in range(of.task.label_count(of.model, batch) if labels == "expected" else samples):
                part.begin(batch, sample)
                likelihood_pass(
                    of.model, layers, of.task, batch, part.update, data=of.data, labels=labels, seed=seed, sample=sample
                )
        if not all(bool(torch.isfinite(total.sum())) for total in part.sums.values()):
            find_nonfinite(of.model, layers, of.task, of.data.batches(unit), of.data, labels=labels, seed=seed)
        return part.sums

    world, units, count = of.world, of.units, len(of.data.units)
    tree = TreeSum(None if of.folder is None else of.folder / "parts", name, count)
    mine = units if units is not None else world.shard(count)
    left = sum(len(set(gap) & set(mine)) for gap in tree.missing())
    tree.run(mine, leaf, progress=count_units(of.log, said, len(mine), done=len(mine) - left))
    world.barrier()
    if units is not None and tree.missing():
        raise Unfinished(said)
    if world.main:
        tree.settle()  # leaves the root behind for the others
    world.barrier()
    stage.finish({name: total.to(device) if total.ndim else total for name, total in tree.total().items()})


def probe(estimator: Estimator, layers: Sequence[TrackedLayer], of: Fitting) -> dict[str, Tensor]:
    """A few sequences asked of a few others, by all draws and by half: layer → ``[2 q n]``."""
    if not estimator.half or of.settings["labels"] == "expected":  # then the choice of data alone is chance
        return {}
    device = device_of(of.model)
    numbers = probes_of(of.data.sequences, of.settings["seed"])
    asked, others = ([batch.to(device) for batch in of.data.gather(ids)] for ids in numbers)
    sink = ProbeScores(estimator.blocks(), estimator.half, of.damping)
    for some in in_groups(layers, sum(batch.real.numel() for batch in (*asked, *others))):
        for sink.asking, batches in ((True, map(as_questions, asked)), (False, others)):
            for batch in batches:
                likelihood_pass(of.model, some, of.task, batch, sink.update, data=of.data)
        sink.meet()
    estimator.half = {}
    return {name: part.cpu() for name, part in sink.parts.items()}


def _called(stage: Stage, layers: Group, group: int, groups: int) -> tuple[str, str]:
    """What a stage of a group is filed under, and what it is called for a reader."""
    if groups == 1:
        return stage.name, f"fit: {stage.name}"
    return f"{stage.name}.{key_of(layers)}", f"fit: {stage.name}, layers {group + 1}/{groups}"
