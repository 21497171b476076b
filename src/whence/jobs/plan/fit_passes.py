"""The passes of a fit, over all layers or over some: what a group of them takes, and what all groups take together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from whence.curvature.noise import QUESTION_TOKENS, in_groups, probes_of
from whence.jobs.plan import costs
from whence.jobs.plan.cost import Pass
from whence.jobs.plan.costs import Shape
from whence.jobs.plan.machine import Machine
from whence.jobs.plan.memory import Memory
from whence.jobs.plan.probe import Seconds
from whence.jobs.plan.workload import Workload
from whence.layers import TrackedLayer
from whence.layers.groups import Group
from whence.types import Labels


@dataclass(frozen=True)
class FitPasses:
    """A fit of the layers that ``machine`` and ``memory`` are of."""

    machine: Machine
    memory: Memory
    labels: Labels
    samples: int
    seed: int

    def part(self, layers: Group) -> FitPasses:
        """The same of some of the layers."""
        return replace(self, machine=self.machine.part(layers), memory=replace(self.memory, layers=layers))

    def in_groups(self, groups: Sequence[Group]) -> list[Pass]:
        """The groups one after the other: reads and costs add up, and memory is that of the group that takes most."""
        parts = [self.part(group).passes() for group in groups] if len(groups) > 1 else [self.passes()]
        return [_together(stages) for stages in zip(*parts, strict=True)]

    def passes(self) -> list[Pass]:
        """In their order."""
        curvature, found = self.memory.curvature, []
        if self.basis:
            found += [self._moments(), self._eigenbases()]
        if curvature in ("diagonal", "ekfac"):
            found.append(self._squares())
        return [*found, self._noise()] if found else []

    def heights(self, batch: int | None = None) -> dict[str, int]:
        """Stage → bytes at its height, the check before them included.

        Args:
            batch: What a pass takes, where that is not to be tried.
        """
        curvature, memory, machine, work = self.memory.curvature, self.memory, self.machine, self.work
        tried, batch = batch is None, machine.passing(self.labels).memory(work) if batch is None else batch
        longest = max(shape.t for shape in work.batches)
        two = (machine.whole or machine).plain.memory_of(Shape(2, longest, 2 * (longest - 1)))
        found = {"check": memory.check(two, costs.weights(self.layers))}
        if self.basis:
            found["fit: moments"] = memory.moments(batch + machine.transient(work, "moments"))
            found["fit: eigenbases"] = memory.eigenbases()
        if curvature in ("diagonal", "ekfac"):
            kind = "squares" if self.basis else "diagonal"
            found[self._eigenvalues] = memory.squares(batch + machine.transient(work, kind))
        if len(found) > 1:
            shapes, _, _ = self._probes()
            heaviest = max(shapes, key=lambda shape: shape.positions)
            alive = machine.plain.memory_of(heaviest) if tried else batch
            positions = sum(shape.positions for shape in shapes)
            found["fit: sampling noise"] = memory.noise(positions, heaviest.positions, alive)
        return found

    @property
    def basis(self) -> bool:
        """Whether gradients are rotated into an eigenbasis."""
        return self.memory.curvature in ("kfac", "ekfac")

    @property
    def work(self) -> Workload:
        return self.memory.train

    @property
    def layers(self) -> Sequence[TrackedLayer]:
        return self.machine.layers

    @property
    def _eigenvalues(self) -> str:
        return "fit: eigenvalues" if self.basis else "fit: squares"

    def _moments(self) -> Pass:
        work, machine, plain, samples = self.work, self.machine, self.machine.passing(self.labels), self.samples
        added = over(work, lambda shape: costs.moments(self.layers, shape, samples=samples))
        return Pass(
            "fit: moments",
            samples,
            samples * work.sequences,
            samples * work.tokens,
            samples * plain.operations(work) + added,
            (plain.seconds(work) + machine.added(work, "moments")) * samples,
            self.heights()["fit: moments"],
        )

    def _eigenbases(self) -> Pass:
        counted = costs.eigendecompositions(self.layers)
        return Pass("fit: eigenbases", 0, 0, 0, counted, self.machine.eigenbases(), self.memory.eigenbases())

    def _squares(self) -> Pass:
        work, machine, plain, samples = self.work, self.machine, self.machine.passing(self.labels), self.samples
        added = over(work, lambda shape: costs.rotated(self.layers, shape, basis=self.basis))
        return Pass(
            self._eigenvalues,
            samples,
            samples * work.sequences,
            samples * work.tokens,
            samples * (plain.operations(work) + added),
            (plain.seconds(work) + machine.added(work, "squares" if self.basis else "diagonal")) * samples,
            self.heights()[self._eigenvalues],
        )

    def _noise(self) -> Pass:
        """A few questions made of the data, and what they meet; again for layers whose traces are too many."""
        plain, (shapes, asked, others) = self.machine.plain, self._probes()
        positions = sum(shape.positions for shape in shapes)
        again = len(in_groups(self.layers, positions))
        added = costs.probed(self.layers, positions, asked.sequences * others.sequences, basis=self.basis)
        operations = again * sum(plain.counted.of(shape) for shape in shapes) + added
        return Pass(
            "fit: sampling noise",
            0,
            again * (asked.sequences + others.sequences),
            again * (asked.tokens + others.tokens),
            operations,
            self.machine.at_rate(operations, self.work),
            self.heights()["fit: sampling noise"],
        )

    def _probes(self) -> tuple[list[Shape], Workload, Workload]:
        """The probes' batches, and whom they are of: questions, and what they meet."""
        asked, others = (self.work.chosen(some) for some in probes_of(self.work.sequences, self.seed))
        few = [replace(one, scored=min(one.scored, QUESTION_TOKENS * one.n)) for one in asked.batches.elements()]
        return few + list(others.batches.elements()), asked, others


def over(work: Workload, count: Callable[[Shape], float]) -> float:
    """A count of operations over all batches."""
    return sum(batches * count(shape) for shape, batches in work.batches.items())


def _together(stages: Sequence[Pass]) -> Pass:
    """One stage of every group."""
    return Pass(
        stages[0].name,
        sum(one.passes for one in stages),
        sum(one.sequences for one in stages),
        sum(one.tokens for one in stages),
        sum(one.operations for one in stages),
        sum((one.seconds for one in stages), Seconds()),
        max(one.memory for one in stages),
    )
