"""Sizes that a straight line cannot promise: a probability cannot pass 1, nor a loss fall below 0.

    f ≤ 0      log p(answer), or minus a loss
    score > −f      out of range: one more copy would do more than there is to do

The order of such scores is meaningful and their size is not. A difference of two log-probabilities has no ceiling.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from whence.counted import counted

RANKING = "read these as a ranking, their size is out of range"


def out_of_range(per_copy: NDArray[Any], measured: float) -> int:
    """How many scores promise more than there is.

    Args:
        per_copy: Nats of f that one more copy adds; NaN of what was not scored.
        measured: f, at most 0.

    Example:
        >>> import numpy as np
        >>> out_of_range(np.array([0.2, 26200.0, np.nan]), -3.1)
        1
    """
    return int((per_copy > -measured).sum())


def said_of_answer(count: int, measured: float) -> str:
    """Of documents, for a person."""
    are = "is" if count == 1 else "are"
    return (
        f"{RANKING}: log p(answer) is {measured:.3g} and cannot rise above 0, yet {counted(count, 'document')} {are} "
        "predicted to raise it by more"
    )


def said_of_loss(count: int, loss: float) -> str:
    """Of examples, for a person."""
    are = "is" if count == 1 else "are"
    return (
        f"{RANKING}: the loss is {loss:.3g} and cannot fall below 0, yet {counted(count, 'example')} {are} predicted "
        "to lower it by more (a higher --damping makes smaller steps)"
    )
