"""Training examples to check scores at: which, and what the proximal objective says of each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from whence.errors import InvalidSetting
from whence.evaluate.pbrf import Responses, pbrf
from whence.evaluate.proximal import Objective
from whence.jobs.chosen import few_batches
from whence.jobs.validation.judged import Judged


def drawn(of: Judged, count: int, together: int = 1) -> list[list[int]]:
    """Groups of training examples, none in two of them, drawn with the run's seed.

    Raises:
        InvalidSetting: If there are not so many.
    """
    total, wanted = of.data.sequences, count * together
    if wanted > total:
        groups = "" if together == 1 else f", {together} together,"
        raise InvalidSetting(f"{count} {of.unit}{groups} were asked for, and there are {total}", hint="lower --count")
    draw = np.random.default_rng(of.seed).choice(total, wanted, replace=False)
    return sorted(sorted(group) for group in draw.reshape(count, together).tolist())


def response(
    of: Judged, points: Sequence[int], *, objective: Objective = "bregman", epsilon: float | None = None
) -> Responses:
    """The proximal response at each point, near the model as it is."""
    curvature = of.curvature
    return pbrf(
        of.model,
        curvature.tracked(of.model),
        curvature.dampings,
        few_batches(of.data),
        of.task,
        of.parts,
        points,
        inverse=curvature,
        epsilon=epsilon,
        objective=objective,
        progress=partial(of.log.step, f"solve: {objective}, gradients at most"),
    )
