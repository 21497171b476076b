"""What one step of a run takes: the row of a plan's table."""

from __future__ import annotations

from dataclasses import dataclass

from whence.jobs.plan.probe import Seconds


@dataclass(frozen=True, slots=True)
class Pass:
    """One step of a run."""

    name: str
    passes: int
    """How often it reads the training data through."""
    sequences: int
    tokens: int
    """Over all its passes."""
    operations: float
    """Of matrix products; a multiply and an add are two."""
    seconds: Seconds
    memory: int
    """Bytes alive at its height, above the loaded model."""
