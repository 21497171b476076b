"""How well two sets of numbers agree, and how sure that is: correlations, and bootstraps over queries.

Every interval here is a percentile bootstrap over *queries*: what other queries of the kind might have shown,
with the training set, the model and the subsets taken as given.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from whence.errors import DataError
from whence.evaluate.recall import RESAMPLES, Interval, bootstrap


def ranks(values: Float[Array, "*q m"]) -> Float[Array, "*q m"]:
    """Ranks from 1 along the last axis; ties share the mean of theirs.

    Example:
        >>> ranks(np.array([3.0, 1.0, 3.0]))
        array([2.5, 1. , 2.5])
    """
    rows = values.reshape(-1, values.shape[-1])
    out = np.empty(rows.shape)
    for row, of in zip(rows, out, strict=True):
        ordered = np.sort(row)
        below, through = (np.searchsorted(ordered, row, side=side) for side in ("left", "right"))
        of[:] = (below + through + 1) / 2
    return out.reshape(values.shape)


def pearson(a: Float[Array, "q m"], b: Float[Array, "q m"]) -> Float[Array, " q"]:
    """Pearson correlation of each row of ``a`` with the same row of ``b``; NaN where one of them is constant."""
    _check(a, b)
    a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))


def spearman(a: Float[Array, "q m"], b: Float[Array, "q m"]) -> Float[Array, " q"]:
    """Spearman correlation row by row: Pearson's of the ranks, ties sharing theirs."""
    _check(a, b)
    return pearson(ranks(a), ranks(b))


def kendall(a: Float[Array, "q m"], b: Float[Array, "q m"]) -> Float[Array, " q"]:
    """Kendall's τ-b row by row, ties allowed for; NaN where a row is constant. O(m log² m).

    Example:
        >>> kendall(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 3.0, 2.0]])).round(3)
        array([0.333])
    """
    _check(a, b)
    return np.array([_tau(one, other) for one, other in zip(a, b, strict=True)])


def _tau(a: Array, b: Array) -> float:
    pairs = len(a) * (len(a) - 1) / 2
    order = np.lexsort((b, a))
    places = np.unique(b[order], return_inverse=True)[1]
    tied_a, tied_b, tied = (
        _tied(np.unique(values, axis=-1, return_counts=True)[1]) for values in (a, b, np.stack([a, b]))
    )
    left = (pairs - tied_a) * (pairs - tied_b)
    agree = pairs - tied_a - tied_b + tied - 2 * _inversions(places)
    return float(agree / np.sqrt(left)) if left > 0 else float("nan")


def _tied(counts: Array) -> float:
    return float((counts * (counts - 1.0)).sum() / 2)


def _inversions(places: Array) -> int:
    """Pairs in the wrong order, counted while blocks of doubling size are sorted; whole numbers below their count."""
    size = 1 << max(1, (len(places) - 1).bit_length())
    rows = np.concatenate([places, np.full(size - len(places), size)]).astype(np.int64)
    total, width = 0, 1
    while width < size:
        rows = rows.reshape(-1, 2, width)
        keys = rows + (np.arange(len(rows)) * (size + 1))[:, None, None]
        before = np.searchsorted(keys[:, 0].ravel(), keys[:, 1].ravel(), side="right")
        total += int((np.arange(1, len(rows) + 1).repeat(width) * width - before).sum())
        width *= 2
        rows = np.sort(rows.reshape(-1, width), axis=1)
    return total


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over queries and where it would fall for others of the kind."""

    value: float
    interval: Interval
    queries: int
    """Those that had a value: a constant row has no correlation."""

    def __str__(self) -> str:
        low, high = self.interval.low, self.interval.high
        interval = "" if low == high else f" [{low:.3f}, {high:.3f}]"  # one query, or all alike: nothing varied
        return f"{self.value:.3f}{interval}"

    def to_dict(self) -> dict[str, Any]:
        """JSON's types only; a mean over nothing is null."""
        if self.queries == 0:
            return {"value": None, "interval": None, "queries": 0}
        return asdict(self)


def mean_over_queries(values: Float[Array, " q"], *, seed: int = 0, resamples: int = RESAMPLES) -> Mean:
    """The mean of the finite values, with its bootstrap interval."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Mean(float("nan"), Interval(float("nan"), float("nan")), 0)
    return Mean(float(finite.mean()), bootstrap(finite, seed=seed, resamples=resamples), len(finite))


@dataclass(frozen=True, slots=True)
class Difference:
    """How much higher one method is than another over the same queries."""

    value: float
    interval: Interval
    p: float
    """Two-sided: twice the smaller share of resamplings on one side of zero; between 2 · 2⁻ⁿ of n queries, and 1."""

    def __str__(self) -> str:
        low, high = self.interval.low, self.interval.high
        interval = "" if low == high else f" [{low:+.3f}, {high:+.3f}]"
        return f"{self.value:+.3f}{interval}, p = {self.p:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """JSON's types only."""
        return asdict(self)


def paired(
    a: Float[Array, " q"], b: Float[Array, " q"], *, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES
) -> Difference:
    """Paired bootstrap of mean(a − b): both methods are seen on the same resampled queries.

    Queries where either has no value are left out.

    Raises:
        DataError: If no query has a value of both.
    """
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        raise DataError("no query has a value of both methods", hint="a row of equal numbers has no correlation")
    gap = (a - b)[both]
    draws = np.random.default_rng(seed).integers(len(gap), size=(resamples, len(gap)), dtype=np.int32)
    means = gap[draws].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    # One more than counted, of one more than drawn: no finite number of draws shows that p is zero.
    tail = (1 + min((means <= 0).sum(), (means >= 0).sum())) / (1 + resamples)
    # Of n differences all of one sign no test makes more than 2⁻ⁿ a side, however often they are drawn again.
    p = min(1.0, 2 * max(tail, 0.5 ** len(gap)))
    return Difference(float(gap.mean()), Interval(float(low), float(high), level), float(p))


def _check(a: Array, b: Array) -> None:
    if a.shape != b.shape or a.shape[1] < 2:
        raise DataError(f"a correlation needs two rows of at least two numbers, not {a.shape} and {b.shape}")
