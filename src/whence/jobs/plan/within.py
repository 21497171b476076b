"""Settings under which a run stays within some memory: batch, rank of queries, and groups of layers for the fit.

    batch     halved while that saves groups, each of which reads the data again; below a thousand tokens batches are
              slow, and are taken only where nothing else fits
    rank      where it is ``auto``: of queries whole, unless that does not fit
    groups    as few as fit, in the model's order

All of it is tried on made-up tokens, as every plan is. Nothing is chosen that changes a number beyond rounding, but for
the rank, which is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from whence.errors import InvalidSetting
from whence.jobs.layer_groups import LayerGroups
from whence.jobs.plan.fit_passes import FitPasses
from whence.jobs.plan.passes import Passes
from whence.jobs.plan.workload import Workload
from whence.jobs.query import AUTO_RANK
from whence.jobs.sizes import said
from whence.layers.groups import Group, by_reads, in_order

FEWEST_TOKENS = 1024
"""Smaller batches keep a processor waiting."""


@dataclass(frozen=True)
class Limit:
    """How much memory there is, and how much of it a pass may have.

    Args:
        whole: Bytes of the process, or of the accelerator.
        baseline: Bytes taken once the model is loaded.
        slack: Bytes taken for each that is alive.
        asked: ``whole`` as a person wrote it: sizes are said in units of its kind.
    """

    whole: int
    baseline: int
    slack: float
    asked: str | None = None

    @property
    def budget(self) -> int:
        """Bytes that may be alive at once above the model."""
        return int((self.whole - self.baseline) / self.slack)

    def takes(self, alive: int) -> int:
        """Bytes in all where so many are alive."""
        return self.baseline + round(self.slack * alive)

    def said(self, size: float) -> str:
        """A size, in units of the limit's kind."""
        return said(size, self.asked)

    def refusal(self, what: str, alive: int, hint: str) -> InvalidSetting:
        """That a pass does not fit: what it needs, and what to do."""
        needs, before = self.said(self.takes(alive)), self.said(self.baseline)
        of_it = f", {before} of it to begin with" if before != needs else ""
        return InvalidSetting(
            f"{what} needs {needs}{of_it}, and memory is {self.said(self.whole)}",
            hint=f"{hint}, or give at least --memory {-(-self.takes(alive) // 10**6)}MB",
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """What fits."""

    limit: Limit
    batch_tokens: int
    rank: int | str
    """As a setting."""
    groups: LayerGroups

    def __str__(self) -> str:
        layers = "all layers together" if len(self.groups) == 1 else f"layers in {len(self.groups)} groups"
        return f"within {self.limit.said(self.limit.whole)}: batches of up to {self.batch_tokens:,} tokens, {layers}"


@dataclass(frozen=True)
class Rehearsed:
    """The passes of a run with one size of batch and one rank."""

    passes: Passes
    fit: FitPasses
    queries: Workload | None
    asked: Workload | None
    """What meets the data: the questions, or their answers' tokens."""
    top: int
    report: bool

    def after_the_fit(self) -> dict[str, int]:
        return self.passes.heights(self.queries, self.asked, self.top, report=self.report)


def choose(
    rehearse: Callable[[int, int | str], Rehearsed],
    sizes: list[int],
    rank: int | str,
    limit: Limit,
    *,
    fitted: bool = False,
) -> Chosen:
    """The settings with the fewest reads of the data.

    Args:
        rehearse: Batch tokens and rank → what the passes take.
        sizes: Batch tokens to choose from, the largest first.
        rank: As a setting.
        fitted: Whether the curvature is there already.

    Raises:
        InvalidSetting: If nothing fits; names the layer or the pass that does not, with the smallest batch.
    """
    if limit.budget <= 0:
        raise limit.refusal("the model alone", 0, "take a smaller model, or dtype = bfloat16")
    best: Chosen | None = None
    refused: InvalidSetting | None = None
    for size in sizes:
        if best is not None and (size < FEWEST_TOKENS or len(best.groups) == 1):
            break
        try:
            found = _with_batches(rehearse, size, rank, limit, fitted=fitted)
        except InvalidSetting as error:
            refused = error
            continue
        best = found if best is None or len(found.groups) < len(best.groups) else best
    if best is None:
        assert refused is not None, "at least one size"
        raise refused
    return best


def halvings(largest: int, longest: int) -> list[int]:
    """Batch tokens from the setting down to one that holds no two of the longest sequences.

    Example:
        >>> halvings(8192, 1500)
        [8192, 4096, 2048]
    """

    def each() -> Iterator[int]:
        size = largest
        while True:
            yield size
            if size < 2 * longest:
                return
            size //= 2

    return list(each())


def _with_batches(
    rehearse: Callable[[int, int | str], Rehearsed], size: int, rank: int | str, limit: Limit, *, fitted: bool
) -> Chosen:
    trial = rehearse(size, rank)
    over = _first_over(trial, limit)
    if over is not None and rank == "auto" and trial.passes.memory.rank is None:
        rank = AUTO_RANK
        trial = rehearse(size, rank)
        over = _first_over(trial, limit)
    if not fitted:
        widest = max(by_reads(trial.fit.layers).values(), key=lambda some: sum(layer.weights for layer in some))
        _as_many_as_fit(trial.fit, [tuple(widest)], limit)  # first: a layer is the more telling refusal, and this one's
    if over is not None:
        name, alive = over
        hint = {"query": "ask fewer questions at once", "score": "ask fewer questions at once, or set rank = 32"}
        raise limit.refusal(f"the pass {name!r}", alive, hint.get(name, "track fewer layers with --layers"))
    groups = LayerGroups.count(trial.fit.layers, 1) if fitted else divide(trial.fit, limit)
    return Chosen(limit, size, rank, groups)


def _first_over(trial: Rehearsed, limit: Limit) -> tuple[str, int] | None:
    found = {name: alive for name, alive in trial.after_the_fit().items() if alive > limit.budget}
    return max(found.items(), key=lambda one: one[1]) if found else None


def divide(fit: FitPasses, limit: Limit) -> LayerGroups:
    """As few groups as fit, in the model's order; layers that read the same tensor stay together.

    Raises:
        InvalidSetting: If those of one tensor do not fit alone.
    """
    left = [tuple(members) for members in by_reads(fit.layers).values()]
    found: list[Group] = []
    while left:
        taken = _as_many_as_fit(fit, left, limit)
        found.append(in_order(fit.layers, [layer for members in left[:taken] for layer in members]))
        del left[:taken]
    return LayerGroups.of(found)


def _as_many_as_fit(fit: FitPasses, left: list[Group], limit: Limit) -> int:
    """How many of the next tensors' readers go together: reckoned, then tried."""
    first = fit.part(left[0])
    held = fit.memory.dtype.itemsize * max(shape.positions for shape in fit.work.batches)
    batch = first.machine.passing(fit.labels).memory(fit.work)

    def reckoned(count: int) -> int:
        inputs = sum(members[0].inputs for members in left[1:count])  # of the first they are in the batch
        return max(_group(fit, left, count).heights(batch + held * inputs).values())

    low, high = 1, len(left)
    while low < high:  # the most that are reckoned to fit: what they take grows with them
        middle = (low + high + 1) // 2
        low, high = (middle, high) if reckoned(middle) <= limit.budget else (low, middle - 1)
    while True:
        heights = _group(fit, left, low).heights()
        stage = max(heights, key=lambda name: heights[name])
        if heights[stage] <= limit.budget:
            return low
        if low == 1:
            names = " and ".join(layer.name for layer in left[0])
            longest = max(shape.t for shape in fit.work.batches)
            what = f"layer {names} ({stage}, with the model and batches of up to {longest} tokens a sequence)"
            raise limit.refusal(what, heights[stage], "leave it out with --layers, shorten the context")
        low -= 1


def _group(fit: FitPasses, left: list[Group], count: int) -> FitPasses:
    return fit.part(in_order(fit.layers, [layer for members in left[:count] for layer in members]))
