"""All checks, one after the other: seconds on the first rows, and nothing of a run is changed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from whence.artifacts.folder import finished
from whence.counted import counted
from whence.data.documents import read_documents
from whence.data.queries import QueryBatch, encode_queries
from whence.data.spec import parse_spec
from whence.data.store import TokenStore
from whence.errors import ArtifactError, WhenceError
from whence.jobs.check import of_adapter, of_batches, of_data, of_dtype, of_model, of_pairs
from whence.jobs.check.findings import Checks, Finding, guarded
from whence.jobs.check.rows import Rows
from whence.jobs.check.trial import QUESTIONS, Trial
from whence.jobs.log import Log
from whence.jobs.model import base_model, put_adapter
from whence.jobs.questions import asked_in
from whence.jobs.settings import RunSettings
from whence.layers.select import Tracked, track
from whence.models.hf import context_length, load_tokenizer
from whence.tasks import CausalLM

ROWS = 16
"""Rows that the model is run on, when not told otherwise."""
DOCUMENTS = 2000
"""Documents read for what is counted, where no run has read them all."""


def check(folder: Path | str | None, settings: RunSettings, *, rows: int = ROWS, log: Log | None = None) -> Checks:
    """Measure whatever would make a run with these settings wrong.

    Args:
        folder: A run. If it was made with these settings, its prepared data are read, and what is found is kept in
            its folder. None, or a folder that is no run of these settings, is left alone.
        rows: How many of the first rows the model is run on.

    Raises:
        WhenceError: If there is nothing to measure: a model, a tokenizer or a file that cannot be opened.
    """
    log = log or Log.silent()
    run = _run_of(folder, settings)
    tokenizer = load_tokenizer(settings.tokenizer or settings.model)
    model = base_model(settings)
    context = settings.context or context_length(model)
    parse_spec(settings.train)  # a file that is not there is a mistake in the command, not a finding
    with _store(run, settings, tokenizer, context) as (store, whole):
        checks = _Check(settings, model, context, log)
        if isinstance(store, TokenStore):
            first = Rows.first(store.trained, rows)
            log.note(f"check: the model runs on {counted(first.sequences, 'sequence')}, by themselves and together")
            checks.model_on(first, lambda: _questions(settings, tokenizer, context))
            if checks.fit_to_run:
                documents = islice(read_documents(settings.train, settings.limit, settings.columns), rows)
                checks.take("completions", lambda: of_pairs.pairs(model, tokenizer, list(documents), context))
                asked = asked_in(settings)[:QUESTIONS] if checks.asked else []
                checks.take("answers", lambda: of_pairs.answers(model, tokenizer, asked, context))
            checks.take("data", lambda: of_data.data(store, all_of_it=whole))
        else:
            checks.rows.append(Finding("data", "wrong", store.message, advice=store.hint))
    result = Checks(tuple(checks.rows))
    return result if run is None else replace(result, written=result.write(run))


class _Check:
    """The rows so far, and the model that they are about."""

    def __init__(self, settings: RunSettings, model: nn.Module, context: int, log: Log) -> None:
        self.settings, self.model, self.context, self.log = settings, model, context, log
        self.task = CausalLM()
        self.rows: list[Finding] = []
        self.fit_to_run = False
        """Whether the model, with its adapter, gives losses that are numbers."""
        self.asked = False
        """Whether the questions can be asked."""

    def take(self, name: str, find: Callable[[], Iterator[Finding] | Sequence[Finding]]) -> bool:
        """Add a check's rows, and say whether none of them is wrong."""
        found = guarded(name, find)
        self.rows += found
        return all(row.verdict != "wrong" for row in found)

    def model_on(self, rows: Rows, questions: Callable[[], list[QueryBatch]]) -> None:
        """Everything that the model is run for. What a wrong row would only repeat is left out."""
        settings, model, task = self.settings, self.model, self.task
        if not self.take("weights", lambda: of_model.weights(model)) or not self.take(
            "adapter", lambda: self._adapter(rows)
        ):
            return
        tracked: list[Tracked] = []
        self.take("layers", lambda: _kept(tracked, of_model.layers(model, settings.layers, settings.params)))
        self.fit_to_run = self.take("losses", lambda: of_model.losses(model, task, rows))
        if not self.fit_to_run or not tracked:
            return
        checked: list[Tracked] = []
        self.take("hooks", lambda: _kept(checked, of_model.whole_gradients(model, tracked[0], task, rows)))
        asked: list[QueryBatch] = []
        self.asked = self.take("questions", lambda: _told(asked, questions()))
        if checked and self.asked:
            self.take("scores", lambda: self._scores(checked[0], rows, asked))

    def _adapter(self, rows: Rows) -> Iterator[Finding]:
        found = put_adapter(self.model, self.settings)
        if found is not None:
            yield from of_adapter.adapter(self.model, found, self.task, rows)

    def _scores(self, tracked: Tracked, rows: Rows, asked: Sequence[QueryBatch]) -> Iterator[Finding]:
        trial = self._trial(self.model, tracked, rows, asked)
        ours = trial.scores(rows)
        self.log.note("check: the company that rows keep, by attention kernel")
        yield from of_batches.batches(trial, tracked, rows, self.settings.attention)
        if self.settings.pack == "segments":
            yield from of_batches.segments(trial, rows, self.context)
        self.log.note("check: the same in another number type")
        other = of_dtype.OTHER[self.settings.dtype]
        yield of_dtype.dtype(self.settings.dtype, ours, lambda: self._in(other, tracked, rows, asked))

    def _trial(self, model: nn.Module, tracked: Tracked, rows: Rows, asked: Sequence[QueryBatch]) -> Trial:
        damping = "none" if self.settings.curvature == "identity" else str(self.settings.damping)
        return Trial.of(model, tracked, self.task, rows, asked, damping)

    def _in(self, dtype: Any, tracked: Tracked, rows: Rows, asked: Sequence[QueryBatch]) -> NDArray[np.float64]:
        """Scores by the model loaded again in another number type."""
        settings = self.settings.replace(dtype=dtype)
        model = base_model(settings)
        put_adapter(model, settings)
        reads = {layer.name: layer.reads for layer in tracked.layers}
        pooled = [layer.name for layer in tracked.layers if layer.pooled]
        again = track(model, settings.layers, settings.params).with_reads(reads, pooled)
        return self._trial(model, again, rows, asked).scores(rows)


def _kept(place: list[Tracked], found: tuple[Tracked, list[Finding]]) -> list[Finding]:
    place.append(found[0])
    return found[1]


def _told(place: list[QueryBatch], asked: list[QueryBatch]) -> list[Finding]:
    place += asked
    if not asked:
        return []
    count = 1 + max(int(part.query.max()) for part in asked)
    text = f"{counted(count, 'question')} can be asked: every answer has tokens and fits the context"
    return [Finding("questions", "ok", text, count)]


def _questions(settings: RunSettings, tokenizer: Any, context: int) -> list[QueryBatch]:
    return encode_queries(asked_in(settings)[:QUESTIONS], tokenizer, context)


def _run_of(folder: Path | str | None, settings: RunSettings) -> Path | None:
    """The folder, if it is a run of these settings: what was found of others is not kept as its own."""
    if folder is None or not (Path(folder) / "settings.toml").exists() or not (Path(folder) / "manifest.json").exists():
        return None
    made = RunSettings.from_toml(Path(folder) / "settings.toml")
    asked = {"query": None, "ask": None, "answer": None, "rather_than": None, "top": 1, "by": ()}
    return Path(folder) if made.replace(**asked) == settings.replace(**asked) else None


@contextmanager
def _store(
    run: Path | None, settings: RunSettings, tokenizer: Any, context: int
) -> Iterator[tuple[TokenStore | WhenceError, bool]]:
    """Tokens of a run's data, or of the first documents in a folder that is gone afterwards; and whether of all.

    Data in which nothing can be used are a finding like any other.
    """
    if run is not None and finished(run / "data"):
        yield TokenStore.open(run / "data"), settings.limit is None
        return
    limit = min(settings.limit or DOCUMENTS, DOCUMENTS)
    with tempfile.TemporaryDirectory() as place:
        try:
            store = TokenStore.write(
                Path(place) / "data",
                read_documents(settings.train, limit, settings.columns),
                tokenizer,
                context=context,
                batch_tokens=settings.batch_tokens,
                pack=settings.pack,
            )
        except ArtifactError:
            raise
        except WhenceError as error:
            yield error, False
        else:
            yield store, settings.limit is None and store.documents < limit
