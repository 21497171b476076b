"""What was given, and what need not be: a curvature remembers its model, task and tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from whence.api.data import as_data
from whence.curvature import Curvature
from whence.data.queries import Query, QueryBatch, encode_queries
from whence.errors import InvalidSetting
from whence.jobs.log import Log
from whence.models.hf import context_length
from whence.tasks import CausalLM
from whence.types import OutputTask, Task


def known(
    curvature: Curvature | None, model: nn.Module | None, task: Task | None, tokenizer: Any
) -> tuple[nn.Module, Task, Any]:
    """What was given, and where it was not, what the curvature was fitted with."""
    origin = None if curvature is None else curvature.origin
    if origin is None and (model is None or task is None):
        missing = " and ".join(name for name, given in (("model", model), ("task", task)) if given is None)
        raise InvalidSetting(
            f"the curvature does not know its {missing}: it was not made by `whence.fit` in this process",
            hint="pass model=… and task=…",
        )
    if origin is None:
        assert model is not None
        assert task is not None
        return model, task, tokenizer
    return (
        origin.model if model is None else model,
        origin.task if task is None else task,
        origin.tokenizer if tokenizer is None else tokenizer,
    )


def task_of(model: Any, task: Task | None) -> Task:
    """The task given; of a language model of transformers, else, the one that it has.

    Raises:
        InvalidSetting: If it cannot be told, or the model is no module.
    """
    if not isinstance(model, nn.Module):
        raise InvalidSetting(
            f"the model is a {type(model).__name__}, not a torch module",
            hint="a checkpoint on disk is read by `whence.run`; here, load it first",
        )
    if task is not None:
        return task
    head = getattr(model, "get_output_embeddings", None)
    if callable(head) and head() is not None:
        return CausalLM()
    raise InvalidSetting(
        f"the loss of {type(model).__name__} is not known",
        hint="pass task=whence.Classification(), Regression() or CausalLM(), or one of your own",
    )


def with_outputs(task: Task) -> OutputTask:
    """The task, which must show its outputs.

    Raises:
        InvalidSetting: If it does not.
    """
    if not isinstance(task, OutputTask):
        raise InvalidSetting(
            f"{type(task).__name__} does not show its outputs", hint="give it `outputs` and `likelihood`"
        )
    return task


def parts_of(queries: Any, model: nn.Module, tokenizer: Any) -> list[QueryBatch]:
    """Questions, batches of them, or examples as queries of their own."""
    several: Any = [queries] if isinstance(queries, Query | QueryBatch) else queries
    if isinstance(several, Sequence) and several and all(isinstance(one, QueryBatch) for one in several):
        return list(several)
    if isinstance(several, Sequence) and several and all(isinstance(one, Query) for one in several):
        if tokenizer is None:
            raise InvalidSetting("the questions are text, and there is no tokenizer", hint="pass tokenizer=…")
        return encode_queries(several, tokenizer, context_length(model))
    data = as_data(several, tokenizer=tokenizer, model=model)
    documents = {d for unit in data.units for batch in data.batches(unit.number) for d in batch.document.tolist()}
    if len(documents) < data.sequences:
        raise InvalidSetting("a query is longer than the model's context, and is never cut", hint="shorten it")
    return [
        QueryBatch(batch, batch.ids.cpu(), torch.ones(len(batch), dtype=torch.float64))
        for unit in data.units
        for batch in data.batches(unit.number)
    ]


def count_of(parts: Sequence[QueryBatch]) -> int:
    """How many queries the batches have parts of."""
    return 1 + max(int(part.query.max()) for part in parts)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode for a while; each of its modules comes back in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def log_of(progress: bool) -> Iterator[Log]:
    """A log that speaks on stderr, or does not."""
    with Log.stderr() if progress else Log.silent() as log:
        yield log
