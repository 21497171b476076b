"""Scores as a table: a row for each question and document, a batch in memory at a time.

question        the question's id
document        number in the order of the data, from 0
source, row     the file, and the row in it from 0      place   the same as people count: train.jsonl, line 12
hash            of what it says: exact copies share it
tokens, scored  how many it has, and how many of them carry loss
raw, per_copy   its influence; per_copy is in nats. Higher raises the answer
rank            1 raises the answer most                percentile   of the documents scored, whose score is lower
                all four null of a document that a filter left out
rescored        whether it was scored again at full rank
self_influence, cosine    where `whence self` has computed them
metadata.…      every other column of its row
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from whence.artifacts.tensors import open_tensors
from whence.data.table import NAME, PREFIX
from whence.influence.topk import TopK
from whence.jobs.documents import read_self_influence, self_folder
from whence.jobs.opened import Run
from whence.jobs.summary import place

ROWS_AT_ONCE = 4096
_STORED = ["source", "row", "hash", "tokens", "scored"]
_SCORES = [
    ("raw", pa.float64()),
    ("per_copy", pa.float64()),
    ("rank", pa.int64()),
    ("percentile", pa.float64()),
    ("rescored", pa.bool_()),
]


@dataclass(frozen=True)
class Numbers:
    """What is known of every document against one question, ``[documents]`` each."""

    raw: NDArray[np.float64]
    rescored: NDArray[np.bool_]
    rank: NDArray[np.int64]
    """From 1, the highest score; ties in the order of the data. After all others, those that were not scored."""
    percentile: NDArray[np.float64]
    """Share of the documents scored with a lower score, in percent."""

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which have a score: all but those that a filter left out."""
        return ~np.isnan(self.raw)

    @classmethod
    def of(cls, raw: NDArray[np.float64], rescored: NDArray[np.bool_]) -> Numbers:
        """Ranks from scores."""
        rank = np.empty(len(raw), np.int64)
        rank[np.argsort(-raw, kind="stable")] = np.arange(1, len(raw) + 1)
        below = np.searchsorted(np.sort(raw), raw, side="left")
        percentile = np.asarray(below * (100 / max(1, int((~np.isnan(raw)).sum()))), np.float64)
        return cls(raw, rescored, rank, percentile)


class ScoreTable:
    """The rows, question by question.

    Args:
        questions: Numbers of the questions.
        top: Only so many documents at either end of each ranking, in its order; None is all, in the data's order.
    """

    def __init__(self, run: Run, questions: Sequence[int], top: int | None = None) -> None:
        self.run, self.questions, self.top = run, questions, top
        self.documents = run.store.documents
        self._path = run.store.folder / NAME
        stored = parquet.read_schema(self._path)
        self._metadata = [field for field in stored if field.name.startswith(PREFIX)]
        fields = [pa.field("question", pa.string()), pa.field("document", pa.int64())]
        fields += [stored.field(name) for name in _STORED[:2]] + [pa.field("place", pa.string())]
        fields += [stored.field(name) for name in _STORED[2:]] + [pa.field(*column) for column in _SCORES]
        if self.own is not None:
            fields += [pa.field("self_influence", pa.float64())]
            fields += [pa.field("cosine", pa.float64())] if self._asked_own is not None else []
        self.schema = pa.schema([*fields, *self._metadata], metadata={"whence": json.dumps(self._about())})

    @cached_property
    def own(self) -> NDArray[np.float64] | None:
        """Influence of every document on itself under the damping of these scores, where it is kept."""
        folder = self_folder(self.run.folder, self.run.answers.damping)
        known = read_self_influence(folder, self.documents)
        return None if known is None else known.numpy()

    @property
    def rows(self) -> int:
        """How many there are in all."""
        if self.top is None:
            return self.documents * len(self.questions)
        scored = [int(self.run.answers.rows([k], self.run.store).scored.sum()) for k in self.questions]
        return sum(min(count, 2 * self.top) for count in scored)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, in order."""
        for question in self.questions:
            known = self.run.answers.rows([question], self.run.store)
            numbers = Numbers.of(known.raw[0], known.again[0])
            yield from self._all(question, numbers) if self.top is None else self._ends(question, numbers, self.top)

    def _all(self, question: int, numbers: Numbers) -> Iterator[pa.RecordBatch]:
        first = 0
        for stored in self._stored():
            chosen = np.arange(first, first + stored.num_rows)
            yield self._batch(question, numbers, chosen, stored)
            first += stored.num_rows

    def _ends(self, question: int, numbers: Numbers, top: int) -> Iterator[pa.RecordBatch]:
        """Both ends in the order of the ranking: a few rows picked out of the table."""
        ends = TopK.of(numbers.raw, top)
        chosen = np.unique(np.concatenate([ends.highest, ends.lowest]))
        picked, first = [], 0
        for stored in self._stored():
            inside = chosen[(chosen >= first) & (chosen < first + stored.num_rows)]
            picked.append(stored.take(pa.array(inside - first)))
            first += stored.num_rows
        order = np.argsort(numbers.rank[chosen])
        rows = pa.Table.from_batches(picked).take(pa.array(order)).combine_chunks()
        yield self._batch(question, numbers, chosen[order], rows.to_batches()[0])

    def _stored(self) -> Iterator[pa.RecordBatch]:
        columns = [*_STORED, *(field.name for field in self._metadata)]
        with parquet.ParquetFile(self._path) as file:
            yield from file.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns)

    def _batch(self, question: int, numbers: Numbers, chosen: NDArray[np.int64], stored: pa.RecordBatch) -> Any:
        where = zip(stored["source"].to_pylist(), stored["row"].to_pylist(), strict=True)
        raw, unscored = numbers.raw[chosen], ~numbers.scored[chosen]
        columns: dict[str, Any] = {
            "question": [_plain(self.run.answers.questions[question].id)] * len(chosen),
            "document": chosen,
            "place": [place({"source": source, "row": row}) for source, row in where],
            "raw": pa.array(raw, mask=unscored),
            "per_copy": pa.array(raw / self.run.train_size, mask=unscored),
            "rank": pa.array(numbers.rank[chosen], mask=unscored),
            "percentile": pa.array(numbers.percentile[chosen], mask=unscored),
            "rescored": numbers.rescored[chosen],
        }
        if self.own is not None:
            columns["self_influence"] = self.own[chosen]
            if self._asked_own is not None:
                size = np.sqrt(self._asked_own[question] * self.own[chosen])
                columns["cosine"] = pa.array(raw / np.where(size > 0, size, 1.0), mask=(size <= 0) | unscored)
        arrays = [stored[field.name] if field.name not in columns else columns[field.name] for field in self.schema]
        return pa.record_batch([pa.array(a, f.type) for a, f in zip(arrays, self.schema, strict=True)], self.schema)

    @cached_property
    def _asked_own(self) -> NDArray[np.float64] | None:
        """Self-influence of every question; None where its answer's tokens were asked about one by one."""
        answers = self.run.answers
        path = self.run.folder / "queries" / answers.asked / "gradients.safetensors"
        if "answer" in answers.by or not path.exists():
            return None
        with open_tensors(path) as file:
            own: NDArray[np.float64] = file.get_tensor("self_influence").double().numpy()
            return own

    def _about(self) -> dict[str, Any]:
        """What a reader of the file alone should know; kept in the schema of a Parquet file."""
        answers = self.run.answers
        asked = [answers.questions[number] for number in self.questions]
        return {
            "sign": "higher: training more on the document would make the answer more likely",
            "per_copy": "raw / train_size: nats that one more copy of the document adds to the answer",
            "train_size": answers.train_size,
            "method": answers.method,
            "damping": answers.damping,
            "model": Path(self.run.settings.model).name,
            "questions": {q.id: [[part.prompt, part.completion, part.weight] for part in q.parts] for q in asked},
        }


def _plain(text: str) -> str:
    """The text with half surrogate pairs spelled out, which UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()
