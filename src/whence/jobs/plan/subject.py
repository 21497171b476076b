"""A model, its text and its questions, before batches are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from whence.data.answer_tokens import by_answer
from whence.data.queries import Query, encode_queries
from whence.errors import InvalidSetting
from whence.jobs.log import Log
from whence.jobs.plan.check import grouped
from whence.jobs.plan.machine import Machine
from whence.jobs.plan.memory import Memory
from whence.jobs.plan.passes import Passes
from whence.jobs.plan.probe import resident
from whence.jobs.plan.view import SLACK
from whence.jobs.plan.within import Chosen, Limit, Rehearsed, choose, halvings
from whence.jobs.plan.workload import Lengths, Workload, read_lengths
from whence.jobs.settings import RunSettings
from whence.jobs.sizes import bytes_of
from whence.jobs.stream import device_of
from whence.layers.select import track
from whence.types import Task


@dataclass
class Subject:
    """What a plan is of: a model with its text and questions, in batches of whatever size."""

    model: nn.Module
    task: Task
    settings: RunSettings
    questions: Sequence[Query]
    tokenizer: Any
    context: int
    log: Log

    def __post_init__(self) -> None:
        self.baseline = resident(device_of(self.model))
        """Bytes with the model loaded, before anything is tried."""

    def read(self) -> Lengths:
        """The training text, for its lengths."""
        of = self.settings
        return read_lengths(
            of.train,
            self.tokenizer,
            context=self.context,
            batch_tokens=of.batch_tokens,
            limit=of.limit,
            columns=of.columns,
            pack=of.pack,
        )

    def asked(self, batch_tokens: int) -> tuple[Workload | None, Workload | None]:
        """The questions' shapes, and those of their answers' tokens where the pass takes those as queries."""
        if not self.questions:
            return None, None
        parts = encode_queries(self.questions, self.tokenizer, self.context, batch_tokens)
        tokens = by_answer(parts) if "answer" in self.settings.by else None
        whole = Workload.of_queries(parts, len(self.questions))
        return whole, None if tokens is None else Workload.of_queries(tokens.batches, len(tokens))

    def fitted_into(self, lengths: Lengths | Workload, *, fitted: bool = False) -> Chosen:
        """Batch, rank and groups of layers that fit into the settings' memory.

        Args:
            lengths: Of text that can still be batched in any way; or the batches that there are.
            fitted: Whether the curvature is there already, and its fit need not fit.

        Raises:
            InvalidSetting: If nothing fits; names the layer or the pass that does not.
        """
        of = self.settings
        assert of.memory is not None, "no limit"
        machine = self.machine
        slack = 1.0 if machine.device.type == "cuda" else SLACK
        limit = Limit(bytes_of(of.memory), self.baseline, slack, of.memory)
        self.log.note(f"plan: looking for what fits into {of.memory}")

        def rehearse(size: int, rank: int | str) -> Rehearsed:
            train = lengths if isinstance(lengths, Workload) else lengths.batched(size)
            queries, split = self.asked(size)
            memory = Memory.of(
                self.model,
                machine.layers,
                train,
                queries,
                split or queries,
                of.curvature,
                of.store,
                rank,
                of.by,
                mapped=True,
            )
            passes = Passes(machine, memory, of.labels, self.log)
            return Rehearsed(passes, passes.fit(of.samples, of.seed), queries, split or queries, of.top, True)

        most = of.batch_tokens
        sizes = [most] if isinstance(lengths, Workload) else halvings(most, lengths.longest)
        return choose(rehearse, sizes, of.rank, limit, fitted=fitted)

    @cached_property
    def machine(self) -> Machine:
        """This machine, running the layers that the settings name."""
        tracked = grouped(self.model, track(self.model, self.settings.layers, self.settings.params), self.task)
        return Machine(self.model, tracked.layers, self.task)


def refuse_unknown_costs(settings: RunSettings) -> None:
    """What a solve takes depends on how it converges, and expected labels on the longest sequence's every word."""
    if settings.solver != "fitted":
        raise InvalidSetting(
            f"solver = {settings.solver} cannot be planned: how many products it takes is known when it has converged",
            hint="plan with solver = fitted; a product for q questions takes (3 + 4q)/3 epochs of training, and "
            "ekfac_refined takes five; a run says what its solve takes before it begins",
        )
    if settings.labels == "expected":
        raise InvalidSetting(
            "labels = expected cannot be planned: it takes a pass for each word at each position",
            hint="plan with labels = sampled, and multiply the passes of the fit",
        )
