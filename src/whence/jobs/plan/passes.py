"""The passes of a run, in its order, each with what it would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from whence.capture.check import AT_ONCE
from whence.influence.score import EXPANDED_ELEMENTS
from whence.jobs.log import Log
from whence.jobs.plan import costs
from whence.jobs.plan.check import check
from whence.jobs.plan.cost import Pass
from whence.jobs.plan.fit_passes import FitPasses, over
from whence.jobs.plan.machine import Machine
from whence.jobs.plan.memory import Memory
from whence.jobs.plan.probe import Seconds
from whence.jobs.plan.workload import Workload
from whence.jobs.report.answers import MOST_TOKENS
from whence.jobs.report.question import SWEEP
from whence.jobs.rescored import ends_again
from whence.layers import TrackedLayer
from whence.layers.select import Tracked
from whence.types import Labels


@dataclass(frozen=True)
class Passes:
    """Each pass from what the machine takes for it and what memory it holds."""

    machine: Machine
    memory: Memory
    labels: Labels
    log: Log

    @property
    def train(self) -> Workload:
        return self.memory.train

    @property
    def layers(self) -> Sequence[TrackedLayer]:
        return self.machine.layers

    @property
    def basis(self) -> bool:
        """Whether gradients are rotated into an eigenbasis."""
        return self.memory.curvature in ("kfac", "ekfac")

    def check(self, tracked: Tracked, at_once: int = AT_ONCE) -> Pass:
        """Two sequences, before anything long; so many weights' gradients at a time."""
        shape, operations, seconds = check(self.machine, tracked, self.train, at_once)
        alive = self.machine.plain.memory_of(shape)
        return Pass("check", 0, shape.n, shape.positions, operations, seconds, self.memory.check(alive, at_once))

    def fit(self, samples: int, seed: int) -> FitPasses:
        """The stages of this curvature, and the look at its sampling noise."""
        return FitPasses(self.machine, self.memory, self.labels, samples, seed)

    def heights(self, queries: Workload | None, asked: Workload | None, top: int, *, report: bool) -> dict[str, int]:
        """Pass after the fit → bytes at its height.

        Args:
            asked: What meets the data: the questions, or their answers' tokens.
        """
        if queries is None or asked is None:
            return {}
        found = {"query": self._query_height(asked), "score": self._score_height(self.train.asked)}
        if ends := ends_again(self.memory.rank, self.machine.dtype, top):
            found["rescore"] = self._rescore_height(self._documents(2 * ends))
        return found | ({"report": self._report_height(queries, self._documents(2 * top))} if report else {})

    def _query_height(self, asked: Workload) -> int:
        return self.memory.query(self.machine.plain.memory(asked), sum(asked.batches.values()))

    def _score_height(self, work: Workload) -> int:
        machine = self.machine
        return self.memory.score(machine.plain.memory(work) + machine.transient(work, "scores", **self._meeting))

    def _rescore_height(self, again: Workload) -> int:
        machine = self.machine
        return self.memory.one_question(machine.plain.memory(again) + machine.transient(again, "scores", queries=1))

    def _report_height(self, queries: Workload, shown: Workload) -> int:
        machine = self.machine
        alive = machine.plain.memory(shown) + machine.transient(shown, "self" if self.basis else "diagonal")
        beside, met = self._beside(queries), machine.plain.memory(shown)
        return self.memory.one_question(max(alive, machine.viewing(shown)), beside, met)

    @property
    def _meeting(self) -> dict[str, Any]:
        """How queries meet the data in the pass over all of it."""
        return {"queries": self.memory.queries, "rank": self.memory.rank, "by_token": "token" in self.memory.by}

    def _beside(self, queries: Workload) -> int:
        """What the documents of a question are also met with: its answer's tokens, and other dampings."""
        tokens = round(queries.scored / queries.documents)
        return (tokens if 1 < tokens <= MOST_TOKENS else 0) + len(SWEEP) * (self.memory.curvature != "identity")

    def query(self, queries: Workload) -> Pass:
        """The questions' gradients, solved."""
        self.log.note("plan: trying queries and scores")
        machine, count, rank = self.machine, queries.documents, self.memory.rank
        solving = costs.solved(self.layers, queries=count, rank=rank, basis=self.basis)
        return Pass(
            "query",
            0,
            queries.sequences,
            queries.tokens,
            self._asked(queries) + solving,
            self._asking(queries) + machine.at_rate(solving, self.train),
            self._query_height(queries),
        )

    def score(self, scored: Workload) -> Pass:
        """The training data against all queries: all of them, or what a filter keeps."""
        work, machine, rank = scored, self.machine, self.memory.rank
        sink = self._meeting
        met = over(work, lambda shape: costs.scores(self.layers, shape, **sink))
        out = 0.0 if rank is None or sink["by_token"] else self._multiplied_out(scored, rank)
        return Pass(
            "score",
            int(work is self.train.asked),
            work.sequences,
            work.tokens,
            machine.plain.operations(work) + met + out,
            machine.plain.seconds(work) + machine.added(work, "scores", **sink) + machine.at_rate(out, self.train),
            self._score_height(scored),
        )

    def _multiplied_out(self, scored: Workload, rank: int) -> float:
        """Once where the dense matrices are kept, else for every batch."""
        count, shapes = self.memory.queries, scored.batches
        if count * costs.weights(self.layers) > EXPANDED_ELEMENTS:
            return over(scored, lambda shape: costs.multiplied_out(self.layers, shape.t, queries=count, rank=rank))
        longest = max(shape.t for shape in shapes)
        return costs.multiplied_out(self.layers, longest, queries=count, rank=rank)

    def rescore(self, queries: Workload, top: int) -> list[Pass]:
        """Question by question, both ends at full rank in float32; nothing where the pass itself was so."""
        machine, memory, count = self.machine, self.memory, queries.documents
        ends = ends_again(memory.rank, machine.dtype, top)
        if not ends:
            return []
        again = self._documents(2 * ends)
        met = machine.plain.operations(again) + over(again, lambda shape: costs.scores(self.layers, shape, queries=1))
        seconds = machine.plain.seconds(again) + machine.added(again, "scores", queries=1)
        operations, asking = self._one_by_one(queries)
        return [
            Pass(
                "rescore",
                0,
                queries.sequences + count * again.sequences,
                queries.tokens + count * again.tokens,
                operations + count * met,
                asking + seconds * count,
                self._rescore_height(again),
            )
        ]

    def report(self, queries: Workload, top: int) -> Pass:
        """Question by question: its gradient at full rank, and the shown documents explained."""
        self.log.note("plan: trying attributions")
        machine, count = self.machine, queries.documents
        shown = self._documents(2 * top)
        explained, seconds = self._explained(shown)
        operations, asking = self._one_by_one(queries)
        beside = self._beside(queries)
        again = -(-beside // max(1, self.memory.at_once(beside)))
        met = again * machine.plain.operations(shown)
        met += over(shown, lambda shape: costs.scores(self.layers, shape, queries=beside))
        seconds = (
            seconds + machine.plain.seconds(shown) * again + machine.added(shown, "scores", queries=max(1, beside))
        )
        return Pass(
            "report",
            0,
            (1 + beside) * queries.sequences + (1 + again) * count * shown.sequences,
            (1 + beside) * queries.tokens + (1 + again) * count * shown.tokens,
            (1 + beside) * operations + count * (explained + met),
            asking * (1 + beside) + seconds * count,
            self._report_height(queries, shown),
        )

    def _one_by_one(self, queries: Workload) -> tuple[float, Seconds]:
        """Every question's gradient at full rank, by itself."""
        solving = costs.solved(self.layers, queries=queries.documents, rank=None, basis=self.basis)
        seconds = self._asking(queries) + self.machine.at_rate(solving, self.train)
        return self._asked(queries) + solving, seconds

    def _explained(self, shown: Workload) -> tuple[float, Seconds]:
        """Scores by layer and token, self-influence and attributions of the documents of one question."""
        machine, basis = self.machine, self.basis

        def split(shape: costs.Shape) -> float:
            by_token = costs.scores(self.layers, shape, queries=1, by_token=True)
            return by_token + costs.rotated(self.layers, shape, basis=basis)

        operations = machine.plain.operations(shown) + over(shown, split) + machine.views.operations(shown)
        seconds = machine.plain.seconds(shown) + machine.views.seconds(shown)
        seconds = seconds + machine.added(shown, "scores", queries=1, by_token=True)
        return operations, seconds + machine.added(shown, "self" if basis else "diagonal")

    def epoch(self) -> Pass:
        """A plain training epoch over the same data: the unit in which cost is told."""
        work, step = self.train, self.machine.epoch
        return Pass(
            "training epoch",
            1,
            work.sequences,
            work.tokens,
            step.operations(work),
            step.seconds(work),
            step.memory(work),
        )

    def _documents(self, count: int) -> Workload:
        """So many documents, as sequences."""
        work = self.train.asked
        return work.sample(round(min(count, work.documents) * work.sequences / work.documents))

    def _asked(self, queries: Workload) -> float:
        """Operations of the questions' gradients."""
        added = over(queries, lambda shape: costs.rotated(self.layers, shape, basis=self.basis))
        return self.machine.plain.operations(queries) + added

    def _asking(self, queries: Workload) -> Seconds:
        """Seconds of the questions' gradients."""
        added = self.machine.added(queries, "gradients" if self.basis else "diagonal", queries=queries.documents)
        return self.machine.plain.seconds(queries) + added
