"""What a run takes, measured stage by stage: tokens and operations counted, every storage alive, bytes by stat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from whence.jobs import explain as explaining
from whence.jobs import fit as checking
from whence.jobs import fitting
from whence.jobs import query as querying
from whence.jobs import rescored as rescoring
from whence.jobs import score as scoring
from whence.jobs.layer_groups import LayerGroups
from whence.jobs.log import Log
from whence.jobs.opened import Run
from whence.jobs.opened.answers import kept
from whence.jobs.plan import Plan
from whence.jobs.plan.probe import LiveBytes, counted_operations
from whence.jobs.report import write_report
from whence.jobs.session import Session
from whence.jobs.settings import RunSettings
from whence.jobs.stream import likelihood_pass
from whence.world import World

WITHIN = 0.25


@dataclass(frozen=True)
class Taken:
    """Of one pass."""

    tokens: int
    operations: int
    memory: int


class Meter(LiveBytes):
    """Bytes alive and operations at once: two counters would each be asked about every operation."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        self.total += counted_operations(func, args, kwargs or {}, result)
        return result


def measured(folder: Path, settings: RunSettings, groups: LayerGroups | None = None) -> dict[str, Taken]:
    """Run everything, and tell what each pass took, under the names that the plan gives them.

    Of a fit in ``groups`` of layers each stage is told of the group that takes most, and nothing of what follows.
    """
    session = Session(folder, settings, Log.silent(), World())
    session.groups = session.groups if groups is None else groups
    session.open()
    _ = session.store
    taken: dict[str, Taken] = {}
    tokens = [0]
    with Meter() as meter, pytest.MonkeyPatch.context() as patch:

        def watched(name: str, run: Callable[[], Any]) -> Any:
            meter.highest, meter.total, tokens[0] = meter.now, 0, 0
            result = run()
            more = taken.get(name, Taken(0, 0, 0))
            taken[name] = Taken(tokens[0], meter.total, max(meter.highest, more.memory))
            return result

        def watch(module: Any, function: str, name: Callable[..., str]) -> None:
            inner = getattr(module, function)
            patch.setattr(module, function, lambda *a, **k: watched(name(*a), lambda: inner(*a, **k)))

        def counted(*args: Any, **more: Any) -> Any:
            tokens[0] += int(args[3].real.sum())
            return likelihood_pass(*args, **more)

        for module in (fitting, querying, scoring, explaining):
            patch.setattr(module, "likelihood_pass", counted)
        watch(checking, "checked_layers", lambda *_: "check")
        stage = {"moments": "moments", "squares": "eigenvalues" if settings.curvature == "ekfac" else "squares"}
        watch(fitting, "run_stage", lambda one, *_: f"fit: {stage[one.name]}")
        watch(fitting, "probe", lambda *_: "fit: sampling noise")
        _ = session.curvature
        if groups is not None:
            return taken
        watched("query", lambda: session.queries)
        watched("score", lambda: session.scores)
        session.keep_settings()
        watch(rescoring, "_files", lambda *_: "rescore")
        run = Run(session.folder, settings, found=kept(session), started=session)
        watched("report", lambda: write_report(run))
    return taken


def bytes_on_disk(folder: Path) -> dict[str, int]:
    """Of the folders that a plan names."""

    def size(path: Path) -> int:
        files = path.rglob("*") if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files if file.is_file())

    names = {
        "data": "data",
        "curvature": "curvature",
        "queries": "queries",
        "scores": "scores",
        "report": "report.html",
    }
    return {name: size(folder / there) for name, there in names.items()} | {"run": size(folder)}


def off(plan: Plan, taken: dict[str, Taken], disk: dict[str, int]) -> list[str]:
    """Every figure of a plan that is not within a quarter of what was measured, in words.

    The tokens of the rescoring and of the report alone are left to the sum of all tokens: they are those of the
    documents that win, which are not known (where questions are about facts, facts win, and they are shorter than
    stories). Their padded batches are as long as the longest, and with them operations and memory are known well
    enough.
    """
    planned = {one.name: one for one in plan.passes if one.name != "fit: eigenbases"}  # no product to be counted
    assert planned.keys() == taken.keys()
    pairs: dict[str, tuple[float, float]] = {}
    for name, found in taken.items():
        for what in (
            ("operations", "memory") if name in ("check", "rescore", "report") else ("tokens", "operations", "memory")
        ):
            pairs[f"{what}, {name}"] = getattr(planned[name], what), getattr(found, what)
    for what in ("tokens", "operations"):
        pairs[what] = tuple(sum(getattr(one, what) for one in some.values()) for some in (planned, taken))
    pairs["memory"] = tuple(max(one.memory for one in some.values()) for some in (planned, taken))
    pairs |= {f"disk, {name}": (size, disk[name]) for name, size in plan.disk.items()}
    pairs["disk"] = plan.disk_bytes, disk["run"]
    return [
        f"{name}: planned {expected:.4g}, measured {found:.4g}"
        for name, (expected, found) in pairs.items()
        if abs(expected - found) > WITHIN * found
    ]
