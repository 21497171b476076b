"""Row 2: what a model's outputs are scored by. To add a task: one file, and a line in `TASKS`."""

from __future__ import annotations

from whence.tasks.causal_lm import CausalLM
from whence.tasks.classification import Classification
from whence.tasks.regression import Regression

TASKS = {"causal_lm": CausalLM, "classification": Classification, "regression": Regression}

__all__ = ["TASKS", "CausalLM", "Classification", "Regression"]
