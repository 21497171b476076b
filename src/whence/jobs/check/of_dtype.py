"""Number types: whether scores in another one rank the rows as these do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from whence.jobs.check.findings import Finding, Verdict
from whence.jobs.check.trial import Agreement

RANKS = 0.9
"""Rank agreement below which half precision is no choice."""

OTHER = {"float32": "bfloat16", "bfloat16": "float32", "float64": "float32"}
"""What a run's number type is compared with."""


def dtype(own: str, ours: NDArray[np.float64], theirs: Callable[[], NDArray[np.float64]]) -> Finding:
    """Compare scores ``[q n]`` in the run's number type with those in another.

    Args:
        own: The run's.
        theirs: Computes the others: loading the model again is left until now.
    """
    other = OTHER[own]
    found = Agreement.between(ours, theirs())
    good = found.ranks >= RANKS
    where = f"{own} and {other}"
    text = (
        f"scores in {where} agree in rank at {found.ranks:.3f} (Spearman), "
        f"{found.kept} of the top {found.of} are the same; they differ by up to {found.difference:.1%} of the largest"
    )
    verdict: Verdict = "ok" if good else "wrong" if own == "bfloat16" else "note"
    advice = None
    if not good:
        advice = {
            "bfloat16": "run in float32 (--dtype float32)",
            "float32": "stay in float32: bfloat16 would rank otherwise",
            "float64": "stay in float64: float32 would rank otherwise",
        }[own]
    return Finding("number type", verdict, text, found.ranks, advice)
