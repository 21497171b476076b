"""The adapter: whether it is on the model, and whether it does anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import nn

from whence.jobs.adapter import compare_losses
from whence.jobs.check.findings import Finding
from whence.jobs.check.rows import Rows
from whence.models.lora import LoraAdapter
from whence.types import Task

NAME = "adapter"


def adapter(model: nn.Module, found: LoraAdapter, task: Task, rows: Rows) -> Iterator[Finding]:
    """The loss with it and without it. That all its tensors found their places was checked when it was loaded."""
    losses = compare_losses(model, rows, task)
    gain = losses.without - losses.with_adapter
    base = found.base if found.base is None or not Path(found.base).is_absolute() else Path(found.base).name
    text = losses.line.removeprefix("adapter: ") + (f"; it was trained on {base}" if base else "")
    if found.idle or losses.same:
        advice = (
            "it changes nothing: it was saved before its first step, or its weights were lost; save it after training"
        )
        yield Finding(NAME, "wrong", "every B factor is zero" if found.idle else text, gain, advice)
    elif gain < 0:
        advice = "its own training rows should be likelier with it: is it the base model, and are they its rows?"
        yield Finding(NAME, "note", text, gain, advice)
    else:
        yield Finding(NAME, "ok", text, gain)
