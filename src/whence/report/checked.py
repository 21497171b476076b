"""What a check of the scores found, as a reader sees it.

    Validation ─► Agreement, one an estimator    its mean, how sure that is, and every question's own value
               ─► Scatter, one a question        what was measured against what was estimated
               ─► Gap, one a step                the way from retraining down to the estimator

Pictures are drawn by the template, as SVG whose places are worked out here. They need no script.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from whence.report.numbers import short

SIDE, MARGIN = 150, 8
"""Of a scatter plot, and the space around its dots."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval; the ends are None where nothing varied, the figure where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "none"
        if self.low is None or self.high is None or self.low == self.high:
            return short(self.value)
        return f"{short(self.value)} [{short(self.low)}, {short(self.high)}]"


@dataclass(frozen=True, slots=True)
class Agreement:
    """One estimator's figures."""

    method: str
    """As people write it."""
    mean: Estimate
    second: Estimate | None = None
    """By the other measure, where there are two."""
    each: tuple[float | None, ...] = ()
    """Every question's own value, of which ``mean`` is the mean."""
    seconds: float | None = None
    """What its scores took."""

    def __str__(self) -> str:
        return f"{self.method} {self.mean}"


@dataclass(frozen=True, slots=True)
class Scatter:
    """One question: a dot for each training sequence."""

    question: int
    """Its number, from one."""
    dots: tuple[tuple[float, float], ...]
    """What was measured and what was estimated, in the same unit."""

    @property
    def across(self) -> tuple[float, float]:
        return _ends([x for x, _ in self.dots])

    @property
    def along(self) -> tuple[float, float]:
        return _ends([y for _, y in self.dots])

    @property
    def corners(self) -> tuple[str, str, str, str]:
        """Both ends across, both ends along, as they are printed."""
        left, right, bottom, top = (f"{end:+.2g}".replace("-", "−") for end in (*self.across, *self.along))
        return left, right, bottom, top

    @property
    def places(self) -> list[tuple[float, float]]:
        """The dots in the plot, from its top left corner."""
        return [(_on(x, self.across), SIDE - _on(y, self.along)) for x, y in self.dots]

    @property
    def equality(self) -> tuple[float, float, float, float] | None:
        """The line on which estimates are right, as far as it crosses the plot."""
        low, high = max(self.across[0], self.along[0]), min(self.across[1], self.along[1])
        if low >= high:
            return None
        return _on(low, self.across), SIDE - _on(low, self.along), _on(high, self.across), SIDE - _on(high, self.along)


@dataclass(frozen=True, slots=True)
class Gap:
    """One step from retraining down to the estimator."""

    name: str
    above: str
    below: str
    difference: float
    """Root mean square over questions and training sequences, in nats."""
    share: float | None
    """Of the root mean square of what stands above."""
    pearson: Estimate
    spearman: Estimate


@dataclass(frozen=True, kw_only=True)
class Validation:
    """One comparison of the scores with a measure of truth."""

    name: str
    """The check, as `whence validate` calls it."""
    text: str
    """What the scores were compared with, as a sentence."""
    unit: str = "sequence"
    """What is trained on: a sequence of text, or an example."""
    dot: str = "a training sequence"
    """What is drawn as one: such a unit, or a group of them."""
    measure: str
    """What the figures are: a correlation, or nats."""
    second: str = ""
    """The other measure, where there are two."""
    rows: tuple[Agreement, ...] = ()
    """The run's own estimator first."""
    scatters: tuple[Scatter, ...] = ()
    gaps: tuple[Gap, ...] = ()
    rungs: tuple[Agreement, ...] = ()
    """How each step down still agrees with retraining."""
    asked: tuple[str, ...] = ()
    """Each question in words."""
    settings: tuple[tuple[str, str], ...] = ()
    """Everything that the figures depend on: name and value."""
    notes: tuple[str, ...] = ()
    """What a reader should hold against it."""

    @property
    def figure(self) -> str:
        """The figures as one line."""
        return f"{self.measure}: {', '.join(map(str, self.rows))}"

    @cached_property
    def axis(self) -> Axis:
        """Wide enough for every figure, its interval and every question."""
        rows = [*self.rows, *self.rungs]
        ends = [value for row in rows for value in (row.mean.value, row.mean.low, row.mean.high, *row.each)]
        known = [value for value in ends if value is not None]
        return Axis.over([*known, 0.0, *([] if self.measure.endswith("nats") else [1.0])])

    @property
    def longest(self) -> float:
        """The largest gap, in nats."""
        return max((gap.difference for gap in self.gaps), default=0.0) or 1.0

    @property
    def questions(self) -> int:
        """How many have a value of their own."""
        return max((len(row.each) for row in self.rows), default=0)


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from left to right, and where on it a value lies, in percent."""

    low: float
    high: float
    step: float

    @classmethod
    def over(cls, values: Sequence[float]) -> Axis:
        """From below the smallest to above the largest, with two to five steps of a round length.

        Example:
            >>> Axis.over([-0.13, 0.4, 1.0])
            Axis(low=-0.5, high=1.0, step=0.5)
        """
        low, high = min(values), max(values)
        if low == high:
            low, high = low - 0.5, high + 0.5
        size = 10.0 ** math.floor(math.log10(high - low))
        step = next(size * k for k in (0.5, 1, 2, 5) if (high - low) / (size * k) <= 4)
        return cls(step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9), step)

    def place(self, value: float) -> str:
        """For an SVG's attribute."""
        return f"{2 + 96 * (value - self.low) / (self.high - self.low):.2f}%"

    @property
    def ticks(self) -> list[tuple[str, str]]:
        """Place and name of each."""
        marks = [self.low + k * self.step for k in range(round((self.high - self.low) / self.step) + 1)]
        round_marks = [0.0 if abs(mark) < self.step / 2 else mark for mark in marks]
        return [(self.place(mark), f"{mark:g}".replace("-", "−")) for mark in round_marks]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _on(value: float, ends: tuple[float, float]) -> float:
    share = (value - ends[0]) / (ends[1] - ends[0])
    return round(MARGIN + (SIDE - 2 * MARGIN) * share, 1)
