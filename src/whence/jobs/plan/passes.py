"""The passes of a run, in its order, each with what it would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from whence.curvature.noise import QUESTION_TOKENS, in_groups, probes_of
from whence.influence.score import EXPANDED_ELEMENTS
from whence.jobs.log import Log
from whence.jobs.plan import costs
from whence.jobs.plan.check import check
from whence.jobs.plan.machine import Machine
from whence.jobs.plan.memory import Memory
from whence.jobs.plan.probe import Seconds, timed
from whence.jobs.plan.view import Pass
from whence.jobs.plan.workload import Workload
from whence.jobs.report.answers import MOST_TOKENS
from whence.jobs.report.question import SWEEP
from whence.jobs.rescored import ends_again
from whence.layers import TrackedLayer
from whence.layers.groups import by_reads
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

    def check(self, tracked: Tracked) -> Pass:
        """Two sequences, before anything long."""
        shape, operations, seconds = check(self.machine, tracked, self.train)
        alive = self.machine.plain.memory_of(shape)
        return Pass("check", 0, shape.n, shape.positions, operations, seconds, self.memory.check(alive))

    def fit(self, samples: int, seed: int) -> list[Pass]:
        """The stages of this curvature, and the look at its sampling noise."""
        curvature, passes = self.memory.curvature, []
        if self.basis:
            passes += [self._moments(samples), self._eigenbases()]
        if curvature in ("diagonal", "ekfac"):
            passes.append(self._squares(samples))
        return [*passes, self._noise(seed)] if passes else []

    def _moments(self, samples: int) -> Pass:
        self.log.note("plan: trying moments")
        work, machine, plain = self.train, self.machine, self.machine.passing(self.labels)
        added = self._over(work, lambda shape: costs.moments(self.layers, shape, samples=samples))
        return Pass(
            "fit: moments",
            samples,
            samples * work.sequences,
            samples * work.tokens,
            samples * plain.operations(work) + added,
            (plain.seconds(work) + machine.added(work, "moments")) * samples,
            self.memory.moments(plain.memory(work) + machine.transient(work, "moments")),
        )

    def _eigenbases(self) -> Pass:
        counted = costs.eigendecompositions(self.layers)
        seconds = _eigenbases(self.layers, self.machine.device)
        return Pass("fit: eigenbases", 0, 0, 0, counted, seconds, self.memory.eigenbases())

    def _squares(self, samples: int) -> Pass:
        self.log.note("plan: trying eigenvalues")
        work, machine, plain = self.train, self.machine, self.machine.passing(self.labels)
        kind = "squares" if self.basis else "diagonal"
        added = self._over(work, lambda shape: costs.rotated(self.layers, shape, basis=self.basis))
        return Pass(
            "fit: eigenvalues" if self.basis else "fit: squares",
            samples,
            samples * work.sequences,
            samples * work.tokens,
            samples * (plain.operations(work) + added),
            (plain.seconds(work) + machine.added(work, kind)) * samples,
            self.memory.squares(plain.memory(work) + machine.transient(work, kind)),
        )

    def _noise(self, seed: int) -> Pass:
        """A few questions made of the data, and what they meet; once for each group of layers."""
        plain, numbers = self.machine.plain, probes_of(self.train.sequences, seed)
        asked, others = (self.train.chosen(some) for some in numbers)
        shapes = [_as_questions(shape) for shape in asked.batches.elements()] + list(others.batches.elements())
        positions = sum(shape.positions for shape in shapes)
        groups = len(in_groups(self.layers, positions))
        heaviest = max(shapes, key=lambda shape: shape.positions)
        added = costs.probed(self.layers, positions, asked.sequences * others.sequences, basis=self.basis)
        operations = groups * sum(plain.counted.of(shape) for shape in shapes) + added
        return Pass(
            "fit: sampling noise",
            0,
            groups * (asked.sequences + others.sequences),
            groups * (asked.tokens + others.tokens),
            operations,
            self.machine.at_rate(operations, self.train),
            self.memory.noise(positions, heaviest.positions, plain.memory_of(heaviest)),
        )

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
            self.memory.query(machine.plain.memory(queries), sum(queries.batches.values())),
        )

    def score(self, scored: Workload) -> Pass:
        """The training data against all queries: all of them, or what a filter keeps."""
        work, machine, rank = scored, self.machine, self.memory.rank
        sink: dict[str, Any] = {
            "queries": self.memory.queries,
            "rank": rank,
            "by_token": "token" in self.memory.by,
        }
        met = self._over(work, lambda shape: costs.scores(self.layers, shape, **sink))
        out = 0.0 if rank is None or sink["by_token"] else self._multiplied_out(scored, rank)
        return Pass(
            "score",
            int(work is self.train.asked),
            work.sequences,
            work.tokens,
            machine.plain.operations(work) + met + out,
            machine.plain.seconds(work) + machine.added(work, "scores", **sink) + machine.at_rate(out, self.train),
            self.memory.score(machine.plain.memory(work) + machine.transient(work, "scores", **sink)),
        )

    def _multiplied_out(self, scored: Workload, rank: int) -> float:
        """Once where the dense matrices are kept, else for every batch."""
        count, shapes = self.memory.queries, scored.batches
        if count * costs.weights(self.layers) > EXPANDED_ELEMENTS:
            return self._over(
                scored, lambda shape: costs.multiplied_out(self.layers, shape.t, queries=count, rank=rank)
            )
        longest = max(shape.t for shape in shapes)
        return costs.multiplied_out(self.layers, longest, queries=count, rank=rank)

    def rescore(self, queries: Workload, top: int) -> list[Pass]:
        """Question by question, both ends at full rank in float32; nothing where the pass itself was so."""
        machine, memory, count = self.machine, self.memory, queries.documents
        ends = ends_again(memory.rank, machine.dtype, top)
        if not ends:
            return []
        again = self._documents(2 * ends)
        met = machine.plain.operations(again) + self._over(
            again, lambda shape: costs.scores(self.layers, shape, queries=1)
        )
        seconds = machine.plain.seconds(again) + machine.added(again, "scores", queries=1)
        operations, asking = self._one_by_one(queries)
        alive = machine.plain.memory(again) + machine.transient(again, "scores", queries=1)
        return [
            Pass(
                "rescore",
                0,
                queries.sequences + count * again.sequences,
                queries.tokens + count * again.tokens,
                operations + count * met,
                asking + seconds * count,
                memory.one_question(alive),
            )
        ]

    def report(self, queries: Workload, top: int) -> Pass:
        """Question by question: its gradient at full rank, and the shown documents explained."""
        self.log.note("plan: trying attributions")
        machine, memory, count = self.machine, self.memory, queries.documents
        shown = self._documents(2 * top)
        explained, seconds = self._explained(shown)
        operations, asking = self._one_by_one(queries)
        tokens = round(queries.scored / count)  # of an answer
        beside = (tokens if 1 < tokens <= MOST_TOKENS else 0) + len(SWEEP) * (memory.curvature != "identity")
        met = machine.plain.operations(shown)
        met += self._over(shown, lambda shape: costs.scores(self.layers, shape, queries=beside))
        seconds = seconds + machine.plain.seconds(shown) + machine.added(shown, "scores", queries=max(1, beside))
        alive = machine.plain.memory(shown) + machine.transient(shown, "self" if self.basis else "diagonal")
        return Pass(
            "report",
            0,
            (1 + beside) * queries.sequences + 2 * count * shown.sequences,
            (1 + beside) * queries.tokens + 2 * count * shown.tokens,
            (1 + beside) * operations + count * (explained + met),
            asking * (1 + beside) + seconds * count,
            memory.one_question(max(alive, machine.viewing(shown)), beside, machine.plain.memory(shown)),
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

        operations = machine.plain.operations(shown) + self._over(shown, split) + machine.views.operations(shown)
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
        added = self._over(queries, lambda shape: costs.rotated(self.layers, shape, basis=self.basis))
        return self.machine.plain.operations(queries) + added

    def _asking(self, queries: Workload) -> Seconds:
        """Seconds of the questions' gradients."""
        added = self.machine.added(queries, "gradients" if self.basis else "diagonal", queries=queries.documents)
        return self.machine.plain.seconds(queries) + added

    @staticmethod
    def _over(work: Workload, count: Any) -> float:
        """A count of operations over all batches."""
        return sum(batches * count(shape) for shape, batches in work.batches.items())


def _as_questions(shape: costs.Shape) -> costs.Shape:
    """The same sequences with their last few scored positions alone scored."""
    return replace(shape, scored=min(shape.scored, QUESTION_TOKENS * shape.n))


def _eigenbases(layers: Sequence[TrackedLayer], device: torch.device) -> Seconds:
    """Each width once, timed up to 1,024 and scaled by its cube beyond."""
    widths = [members[0].inputs for members in by_reads(layers).values()]
    widths += [layer.outputs for layer in layers for _ in range(2)]  # of half the draws too
    known: dict[int, Seconds] = {}
    for width in set(widths):
        small = min(width, 1024)
        sample = torch.randn(small, small, dtype=torch.float64, device=device)
        gram = sample @ sample.mT
        once = timed(lambda gram=gram: torch.linalg.eigh(gram), device, repeats=1)  # type: ignore[misc]
        known[width] = once * (width / small) ** 3
    return sum((known[width] for width in widths), Seconds())
