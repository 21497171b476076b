r"""The upper tail of influences as a power law, fitted by maximum likelihood.

    p(x) = (α − 1)/x₀ · (x/x₀)^−α        x ≥ x₀          density exponent α
    P(X ≥ x) = (x/x₀)^−(α − 1)                            slope of the log-log CCDF: −(α − 1)

    α̂ = 1 + n / Σ ln(xᵢ/x₀)              σ = (α̂ − 1)/√n

over the n values *above* x₀, the largest value that is left out of the fit: given x₀, those n are a sample of the law
if the tail is one. Two exponents are told apart in writing, because papers plot one and fit the other. Grosse et al.
2023 (figure 8) fit the top 500 of 10 million sequences, or the top 0.01 % of more.

Sources: Clauset, Shalizi and Newman 2009, arXiv:0706.1062, equations 3.1 and 3.2; Hill 1975.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whence.errors import DataError

TOP = 500
"""Values fitted: as many as this, or the top 0.01 % where that is more."""
SHARE = 1e-4
FEWEST = 10
"""Fewer values above the threshold say nothing of an exponent."""


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """A tail's fit. The exponents' intervals are 95 % by the asymptotic normality of the estimator."""

    exponent: float
    """α of the density."""
    error: float
    """σ of α."""
    threshold: float
    """x₀: the law is of what lies above."""
    count: int
    """n values above it."""
    of: int
    """All values there were, positive or not."""
    ks: float
    """Kolmogorov–Smirnov distance between the n values and the law."""

    @property
    def ccdf_slope(self) -> float:
        """Slope of the log-log CCDF: 1 − α."""
        return 1 - self.exponent

    @property
    def interval(self) -> tuple[float, float]:
        """Of α, 95 %."""
        return self.exponent - 1.96 * self.error, self.exponent + 1.96 * self.error

    @property
    def ks_critical(self) -> float:
        """The distance that a true power law exceeds one time in twenty, its exponent being fitted to the same values.

        The logarithms of a Pareto sample are exponential, so that this is Lilliefors' test for the exponential with an
        unknown mean: 1.06/√n for many values (Lilliefors 1969; Stephens 1974 for small n).
        """
        root = math.sqrt(self.count)
        return 1.094 / (root + 0.26 + 0.5 / root) + 0.2 / self.count

    def share_above(self, x: float) -> float:
        """The law's share of *all* values that are at least ``x``, for ``x`` at the threshold or above."""
        return self.count / self.of * (x / self.threshold) ** self.ccdf_slope

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"density exponent {self.exponent:.2f} [{low:.2f}, {high:.2f}], CCDF slope {self.ccdf_slope:.2f}, "
            f"KS distance {self.ks:.3f}, over the top {self.count:,} of {self.of:,}"
        )


def fitted_count(of: int) -> int:
    """How many values are fitted of so many.

    Example:
        >>> fitted_count(100_000), fitted_count(50_000_000)
        (500, 5000)
    """
    return max(TOP, round(SHARE * of))


def power_law(values: ArrayLike, count: int | None = None) -> PowerLaw | None:
    """Fit the largest positive values; None where too few of them are above a threshold, or they are all alike.

    Where fewer than ``count`` are positive, all but the least of the positive ones are fitted: that one is x₀.

    Args:
        values: All influences on one question, of either sign.
        count: How many of the largest; default `fitted_count`, but where a tenth of the positive ones is less, that
            (of few positive ones up to half, at most 25): the fit is of a tail and not of the body.

    Raises:
        DataError: If a value is NaN.

    Example:
        >>> law = power_law(np.random.default_rng(0).pareto(1.5, 100_000) + 1)
        >>> low, high = law.interval
        >>> low < 2.5 < high and law.ks < law.ks_critical
        True
    """
    every: NDArray[np.float64] = np.asarray(values, dtype=np.float64).ravel()
    if np.isnan(every).any():
        raise DataError("a tail cannot be fitted to NaN")
    positive = np.sort(every[every > 0])[::-1]
    if count is None:
        count = min(fitted_count(len(every)), max(len(positive) // 10, min(25, len(positive) // 2)))
    count = min(count, len(positive) - 1)
    if count < FEWEST:
        return None
    threshold, top = float(positive[count]), positive[:count]
    top = top[top > threshold]
    if len(top) < FEWEST:
        return None
    n = len(top)
    exponent = 1 + n / float(np.log(top / threshold).sum())
    law = 1 - (top[::-1] / threshold) ** (1 - exponent)
    steps = np.arange(n + 1) / n
    ks = float(max((steps[1:] - law).max(), (law - steps[:-1]).max()))
    return PowerLaw(exponent, (exponent - 1) / math.sqrt(n), threshold, n, len(every), ks)
