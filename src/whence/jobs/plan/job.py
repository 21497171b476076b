"""From settings to a plan."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from whence.capture.check import AT_ONCE
from whence.jobs.filter_setting import FilterSetting
from whence.jobs.log import Log
from whence.jobs.model import base_model, put_adapter
from whence.jobs.plan.check import grouped
from whence.jobs.plan.disk import Disk
from whence.jobs.plan.machine import Machine
from whence.jobs.plan.memory import Memory
from whence.jobs.plan.page import report_bytes
from whence.jobs.plan.passes import Passes
from whence.jobs.plan.probe import resident
from whence.jobs.plan.subject import Subject, refuse_unknown_costs
from whence.jobs.plan.view import Plan
from whence.jobs.plan.within import Chosen
from whence.jobs.plan.workload import Workload
from whence.jobs.questions import asked_in
from whence.jobs.rescored import ends_again
from whence.jobs.settings import RunSettings
from whence.jobs.stream import device_of
from whence.layers.lora import Params
from whence.layers.select import track
from whence.models.hf import context_length, load_tokenizer
from whence.tasks import CausalLM
from whence.types import Labels, Task


def plan(settings: RunSettings, *, log: Log | None = None) -> Plan:
    """Passes, operations, memory, disk, time and coverage of ``whence run`` with these settings.

    With a limit of memory, of the settings that the run would choose for it.

    Raises:
        WhenceError: As the run itself would, for anything that can be known before its first pass.
    """
    refuse_unknown_costs(settings)
    log = log or Log.silent()
    tokenizer = load_tokenizer(settings.tokenizer or settings.model)
    model = base_model(settings)
    put_adapter(model, settings)
    context = settings.context or context_length(model)
    subject = Subject(model, CausalLM(), settings, asked_in(settings), tokenizer, context, log)
    log.note("plan: reading the training text for its lengths")
    lengths = subject.read()
    chosen = None if settings.memory is None else subject.fitted_into(lengths)
    batch_tokens, rank = (
        (settings.batch_tokens, settings.rank) if chosen is None else (chosen.batch_tokens, chosen.rank)
    )
    queries, split = subject.asked(batch_tokens)
    return plan_for(
        model,
        lengths.batched(batch_tokens),
        subject.task,
        queries=queries,
        split=split,
        layers=settings.layers,
        params=settings.params,
        curvature=settings.curvature,
        samples=settings.samples,
        labels=settings.labels,
        seed=settings.seed,
        store=settings.store,
        rank=rank,
        by=settings.by,
        top=settings.top,
        filter=FilterSetting.parse(settings.filter),
        chosen=chosen,
        log=log,
    )


def plan_for(
    model: nn.Module,
    train: Workload,
    task: Task,
    *,
    queries: Workload | None = None,
    split: Workload | None = None,
    layers: str | Sequence[str] = "blocks",
    params: Params | None = None,
    curvature: str = "ekfac",
    samples: int = 1,
    labels: Labels = "sampled",
    seed: int = 0,
    store: str = "float32",
    rank: int | str | None = "auto",
    by: Sequence[str] = (),
    top: int = 20,
    filter: FilterSetting | None = None,  # noqa: A002
    report: bool = True,
    chosen: Chosen | None = None,
    log: Log | None = None,
) -> Plan:
    """The plan of a language model already loaded and a workload already measured.

    Args:
        queries: The questions' shapes; without them the plan ends with the fit.
        split: Their answers' tokens, where the pass takes those as queries.
        filter: Which documents each question is scored on; all by default.
        report: Also the explaining of what a report shows.
        chosen: What was chosen to stay within some memory.
    """
    log = log or Log.silent()
    device = device_of(model)
    before = resident(device) if chosen is None else chosen.limit.baseline
    tracked = grouped(model, track(model, layers, params), task)
    asked = split or queries
    memory = Memory.of(
        model, tracked.layers, train, queries, asked, curvature, store, rank, by, mapped=chosen is not None
    )
    most = train.documents if filter is None or queries is None else filter.most(train.documents, queries.documents)
    scored = train.asked.some_documents(most)
    disk = Disk.of(memory, scored=scored, again=ends_again(memory.rank, memory.dtype, top))
    rehearsal = Passes(Machine(model, tracked.layers, task), memory, labels, log)
    groups = [tracked.layers] if chosen is None else chosen.groups.among(tracked.layers)
    at_once = AT_ONCE if chosen is None else min(AT_ONCE, chosen.groups.largest(tracked.layers))
    passes = [rehearsal.check(tracked, at_once), *rehearsal.fit(samples, seed).in_groups(groups)]
    if queries is not None and asked is not None:
        passes += [rehearsal.query(asked), rehearsal.score(scored), *rehearsal.rescore(queries, top)]
        if report:
            passes.append(rehearsal.report(queries, top))
    page = report_bytes([layer.name for layer in tracked.layers], train, queries, top) if queries and report else None
    return Plan(
        passes=tuple(passes),
        epoch=rehearsal.epoch(),
        baseline=before,
        on_device=device.type == "cuda",
        disk=disk.when_done(page),
        disk_while_fitting=disk.while_fitting(memory, groups),
        coverage=tracked.coverage,
        documents=train.documents,
        sequences=train.sequences,
        windowed=train.windowed,
        tokens=train.tokens,
        padded=train.padded,
        units=train.units,
        queries=memory.questions,
        rank=memory.rank,
        model_parameters=memory.parameters,
        filter=filter,
        scored=most,
        chosen=chosen,
    )
