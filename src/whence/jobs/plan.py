"""``whence plan``: what a run would take, before it takes it.

Data are tokenised for their lengths and the model is loaded; no training text goes through it. Operations are
counted (`costs`), bytes follow from shapes, and what depends on the machine, the seconds and the activations of a
batch, is tried out on made-up tokens (`probe`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from whence.capture.check import verified
from whence.data.queries import ask, encode_queries, read_queries
from whence.influence.attribution import input_tokens, output_tokens
from whence.jobs import costs
from whence.jobs.costs import Shape
from whence.jobs.explain import RESCORED
from whence.jobs.log import Log
from whence.jobs.plan_machine import Machine
from whence.jobs.plan_memory import Memory
from whence.jobs.plan_view import Pass, Plan
from whence.jobs.probe import Operations, Seconds, made_up, operations, peak, resident, timed
from whence.jobs.query import resolve_rank
from whence.jobs.settings import RunSettings
from whence.jobs.stream import device_of
from whence.jobs.workload import Workload, read_workload
from whence.layers import TrackedLayer
from whence.layers.select import track
from whence.models.hf import context_length, load_model, load_tokenizer
from whence.tasks import CausalLM
from whence.types import Batch, Task


def plan(settings: RunSettings, *, log: Log | None = None) -> Plan:
    """Passes, operations, memory, disk, time and coverage of ``whence run`` with these settings.

    Raises:
        WhenceError: As the run itself would, for anything that can be known before its first pass.
    """
    log = log or Log.silent()
    tokenizer = load_tokenizer(settings.tokenizer or settings.model)
    device = None if settings.device == "auto" else settings.device
    model = load_model(settings.model, dtype=settings.dtype, attention=settings.attention, device=device)
    context = settings.context or context_length(model)
    questions = [] if settings.query is None else read_queries(settings.query)
    if settings.ask is not None and settings.answer is not None:
        questions.append(ask(settings.ask, settings.answer, settings.rather_than))
    parts = encode_queries(questions, tokenizer, context, settings.batch_tokens)
    log.note("plan: reading the training text for its lengths")
    train = read_workload(
        settings.train, tokenizer, context=context, batch_tokens=settings.batch_tokens, limit=settings.limit
    )
    return plan_for(
        model,
        train,
        CausalLM(),
        queries=Workload.of_queries(parts, len(questions)) if questions else None,
        layers=settings.layers,
        curvature=settings.curvature,
        samples=settings.samples,
        rank=settings.rank,
        by=settings.by,
        top=settings.top,
        log=log,
    )


def plan_for(
    model: nn.Module,
    train: Workload,
    task: Task,
    *,
    queries: Workload | None = None,
    layers: str | Sequence[str] = "blocks",
    curvature: str = "ekfac",
    samples: int = 1,
    rank: int | str | None = "auto",
    by: Sequence[str] = (),
    top: int = 20,
    report: bool = True,
    log: Log | None = None,
) -> Plan:
    """The plan of a language model already loaded and a workload already measured.

    Args:
        queries: The questions' shapes; without them the plan ends with the fit.
        report: Also the rescoring and explaining of what a report shows.
    """
    log = log or Log.silent()
    device, dtype = device_of(model), next(model.parameters()).dtype
    before = resident(device)
    small = train.typical(1)[0]
    small = Shape(min(2, small.n), min(16, small.t), 0)
    small = Shape(small.n, small.t, small.n * (small.t - 1))
    tracked = verified(model, track(model, layers), task, made_up(small, model))
    machine = Machine(model, tracked.layers, task)
    count = queries.documents if queries else 0
    kept = resolve_rank(rank, count, costs.weights(tracked.layers)) if count else None
    memory = Memory(tracked.layers, dtype, train, queries=count, rank=kept, by=by, curvature=curvature)
    passes = _fit_passes(machine, memory, curvature, samples, log)
    if queries is not None:
        passes += _score_passes(machine, memory, queries, curvature, kept, by, log)
        if report:
            passes += _report_passes(machine, memory, queries, curvature, kept, top, log)
    epoch = machine.epoch(train)
    return Plan(
        passes=tuple(passes),
        epoch=epoch,
        baseline=before,
        on_device=device.type == "cuda",
        disk=memory.disk(report and queries is not None, top),
        disk_while_fitting=memory.disk_while_fitting(),
        coverage=tracked.coverage,
        documents=train.documents,
        sequences=train.sequences,
        windowed=train.windowed,
        tokens=train.tokens,
        padded=train.padded,
        units=train.units,
        queries=count,
        rank=kept,
        model_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _fit_passes(machine: Machine, memory: Memory, curvature: str, samples: int, log: Log) -> list[Pass]:
    work, layers = memory.train, machine.layers
    alive = machine.activations(work)
    passes = [Pass("check", 0, 2, 0, 0.0, Seconds(), memory.check())]
    if curvature in ("kfac", "ekfac"):
        log.note("plan: trying moments")
        added = lambda shape: costs.moments(layers, shape, samples=samples) / samples  # noqa: E731
        passes.append(
            Pass(
                "fit: moments",
                samples,
                work.sequences,
                samples * work.tokens,
                samples * machine.operations(work, added),
                machine.seconds(work, "moments") * samples,
                memory.moments(alive + machine.transient(work, "moments")),
            )
        )
        passes.append(
            Pass(
                "fit: eigenbases",
                0,
                0,
                0,
                costs.eigendecompositions(layers),
                _eigenbases(layers, machine.device),
                memory.eigenbases(),
            )
        )
    if curvature in ("diagonal", "ekfac"):
        log.note("plan: trying eigenvalues")
        basis = curvature == "ekfac"
        kind = "squares" if basis else "diagonal"
        passes.append(
            Pass(
                "fit: eigenvalues" if basis else "fit: squares",
                samples,
                work.sequences,
                samples * work.tokens,
                samples * machine.operations(work, lambda shape: costs.rotated(layers, shape, basis=basis)),
                machine.seconds(work, kind) * samples,
                memory.squares(alive + machine.transient(work, kind)),
            )
        )
    return passes


def _eigenbases(layers: Sequence[TrackedLayer], device: torch.device) -> Seconds:
    """Each width once, timed up to 1,024 and scaled by its cube beyond."""
    widths = [members[0].inputs for members in costs.groups(layers).values()] + [layer.outputs for layer in layers]
    known: dict[int, Seconds] = {}
    for width in set(widths):
        small = min(width, 1024)
        sample = torch.randn(small, small, dtype=torch.float64, device=device)
        gram = sample @ sample.mT
        once = timed(lambda gram=gram: torch.linalg.eigh(gram), device, repeats=1)  # type: ignore[misc]
        known[width] = once * (width / small) ** 3
    return sum((known[width] for width in widths), Seconds())


def _score_passes(
    machine: Machine, memory: Memory, queries: Workload, curvature: str, rank: int | None, by: Sequence[str], log: Log
) -> list[Pass]:
    work, layers, count = memory.train, machine.layers, queries.documents
    basis = curvature in ("kfac", "ekfac")
    log.note("plan: trying queries and scores")
    solving = costs.solved(layers, queries=count, rank=rank, basis=basis)
    by_token = "token" in by
    asked = Pass(
        "query",
        1,
        queries.sequences,
        queries.tokens,
        machine.operations(queries, lambda shape: costs.rotated(layers, shape, basis=basis)) + solving,
        machine.seconds(queries, "gradients" if basis else "diagonal", queries=count) + machine.at_rate(solving, work),
        memory.query(machine.activations(queries), sum(queries.batches.values())),
    )
    met = machine.operations(
        work, lambda shape: costs.scores(layers, shape, queries=count, rank=rank, by_token=by_token)
    )
    scored = Pass(
        "score",
        1,
        work.sequences,
        work.tokens,
        met,
        machine.seconds(work, "scores", queries=count, rank=rank, by_token=by_token),
        memory.score(
            machine.activations(work) + machine.transient(work, "scores", queries=count, rank=rank, by_token=by_token)
        ),
    )
    return [asked, scored]


def _report_passes(
    machine: Machine, memory: Memory, queries: Workload, curvature: str, rank: int | None, top: int, log: Log
) -> list[Pass]:
    """Full-rank queries one by one, their candidates scored again, and the shown documents explained."""
    work, layers, count = memory.train, machine.layers, queries.documents
    basis = curvature in ("kfac", "ekfac")
    again = rank is not None or machine.dtype not in (torch.float32, torch.float64)
    rescored = count * min(2 * RESCORED, work.documents) / work.documents if again else 0.0
    shown = count * min(2 * top, work.documents) / work.documents
    log.note("plan: trying attributions")
    direction = {e.name: torch.zeros(e.outputs, e.inputs, dtype=machine.dtype, device=machine.device) for e in layers}

    def views(batch: Batch) -> None:
        output_tokens(machine.model, batch, direction, layers)
        input_tokens(machine.model, batch, direction, layers)

    counted: Operations = operations(views, machine.model)
    shape = work.typical(1)[0]
    few = machine.trial(shape, times=4)
    batch = made_up(few, machine.model)
    viewed = timed(lambda: views(batch), machine.device, repeats=1) * (work.padded / few.positions)
    alive = peak(lambda: views(batch), machine.device)
    met = machine.operations(work, lambda s: costs.scores(layers, s, queries=1))
    split = machine.operations(
        work,
        lambda s: costs.scores(layers, s, queries=1, by_token=True) + costs.rotated(layers, s, basis=basis),
    ) + sum(n * counted.of(s) for s, n in work.batches.items())
    solving = costs.solved(layers, queries=count, rank=None, basis=basis)
    own = machine.operations(queries, lambda s: costs.rotated(layers, s, basis=basis)) + solving
    seconds = machine.seconds(queries, "gradients" if basis else "diagonal", queries=1)
    seconds = seconds + machine.at_rate(solving, work)
    if again:
        seconds = seconds + machine.seconds(work, "scores", queries=1) * rescored
    explained = machine.seconds(work, "scores", queries=1, by_token=True) + viewed
    if basis:
        spare = machine.seconds(work, "self") + machine.seconds(work) * -1
        explained = explained + spare
    return [
        Pass(
            "report",
            1,
            round(work.sequences * (rescored + shown)),
            round(work.tokens * (rescored + shown)) + queries.tokens,
            own + rescored * met + shown * split,
            seconds + explained * shown,
            memory.report(max(machine.activations(work) + machine.transient(work, "self"), alive)),
        )
    ]


__all__ = ["Plan", "plan", "plan_for"]
