r"""What a filter lost: the documents that it left out and that score as high as the best of those it kept.

    t        the k-th highest score among the documents kept
    p        share of a random sample of the others that score at least t
    missing  ≈ p × documents left out            recall ≈ k / (k + missing)

The sample is drawn from all documents without looking at scores, so that its members outside the filter are a sample of
what was left out. The interval is Clopper and Pearson's for p (1934: exact for a binomial count, and wide for draws
without replacement), carried through: recall falls as p rises.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class FilterRecall:
    """Of the documents that score as high as the k best that were kept, how many the filter kept: an estimate."""

    k: int
    """The best kept: as many as are shown, or as many as raise the answer where fewer do."""
    recall: float | None
    """0 to 1; None where nothing kept raises the answer, or nothing that was left out was drawn."""
    low: float
    high: float
    """95 % interval."""
    kept: int
    left_out: int
    drawn: int
    """Sampled documents among those left out."""
    above: int
    """How many of them score as high as the k-th best kept."""

    @property
    def exact(self) -> bool:
        """Whether nothing was estimated: nothing left out, or all of it drawn."""
        return self.drawn == self.left_out

    def __str__(self) -> str:
        if self.left_out == 0:
            return "recall 1: nothing was left out"
        if self.k == 0:
            return f"no document that was kept raises it; {self.above} of {self.drawn} sampled of the others do"
        known = "unknown" if self.recall is None else f"{'' if self.exact else 'about '}{self.recall:.2f}"
        span = "" if self.exact else f" [{self.low:.2f}, {self.high:.2f}]"
        return (
            f"recall of the top {self.k:,} {known}{span}: {self.above:,} of {self.drawn:,} "
            f"{'documents left out' if self.exact else 'sampled of the others'} score as high"
        )


def filter_recall(
    kept: NDArray[np.float64], sample: NDArray[np.float64], left_out: int, *, top: int, level: float = LEVEL
) -> FilterRecall:
    """Estimate what a filter lost of a question's top.

    Args:
        kept: Scores of the documents that it kept, ``[n]``.
        sample: Scores of those drawn at random among the documents that it left out, ``[s]``; s ≤ ``left_out``.
        left_out: How many it left out.
        top: How many documents are shown.

    Example:
        >>> found = filter_recall(np.array([3.0, 2.0, 1.0]), np.array([2.5, 0.1, 0.2, 0.3]), left_out=8, top=2)
        >>> found.above, found.recall
        (1, 0.5)
    """
    high = np.sort(kept[kept > 0])[::-1][:top]
    k, drawn = len(high), len(sample)
    assert drawn <= left_out
    above = int((sample >= high[-1]).sum()) if k else int((sample > 0).sum())
    ends = _clopper_pearson(above, drawn, level) if drawn < left_out else (above / max(drawn, 1),) * 2
    low, top_end = (_recall(k, share * left_out) for share in reversed(ends))
    known = left_out == 0 or (k > 0 and drawn > 0)
    recall = _recall(k, left_out * above / max(drawn, 1)) if known else None
    return FilterRecall(k, recall, low, top_end, len(kept), left_out, drawn, above)


def _recall(k: int, missing: float) -> float:
    """1 where there is nothing to find."""
    return k / (k + missing) if k + missing > 0 else 1.0


def _clopper_pearson(hits: int, draws: int, level: float) -> tuple[float, float]:
    """The interval of a share of which so many draws were hits."""
    from scipy.special import betaincinv  # a third of a second, which only filtered runs need pay

    tail = (1 - level) / 2
    low = float(betaincinv(hits, draws - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, draws - hits, 1 - tail)) if hits < draws else 1.0
    return low, high
