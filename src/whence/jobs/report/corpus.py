"""What a report asks of all documents at once: how long, how often, in which groups, how like the question."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from whence.data.filters import BM25, TFIDF, Filter
from whence.data.rows import file_name, short_name
from whence.data.table import PREFIX
from whence.jobs.documents import read_self_influence, self_folder
from whence.jobs.filter_setting import KEPT
from whence.jobs.session import Session
from whence.report.pieces import display
from whence.report.words import script_of

MOST_TOKENS = 20_000_000
"""Training tokens up to which documents are searched and told apart by script: seconds, and memory like the text's."""
NOTHING = "–"
"""The group of documents without a value."""
HEAD = 200
"""Tokens that a document's script is told from."""


@dataclass(frozen=True)
class Grouping:
    """Every document in one group."""

    by: str
    names: list[str]
    of: NDArray[np.int64]
    """Document → its group's place in ``names``, ``[documents]``."""

    @classmethod
    def of_labels(cls, by: str, labels: Sequence[str]) -> Grouping:
        names, of = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
        return cls(by, [str(name) for name in names], of.astype(np.int64))

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the documents' values, a group each; NaN, a document that was not scored, adds nothing."""
        return np.bincount(self.of, weights=np.where(np.isnan(values), 0.0, values), minlength=len(self.names)).astype(
            np.float64
        )

    def scored(self, values: NDArray[np.float64]) -> tuple[Grouping, NDArray[np.float64]]:
        """The same of the documents that were scored, not NaN, and their values; groups of none are left off."""
        there = ~np.isnan(values)
        if there.all():
            return self, values
        present, of = np.unique(self.of[there], return_inverse=True)
        return Grouping(self.by, [self.names[group] for group in present], of.astype(np.int64)), values[there]

    @property
    def tells(self) -> bool:
        """Whether there are groups at all, and most documents that are in one are not alone there."""
        named = self.counts[[name != NOTHING for name in self.names]]
        return len(self.names) >= 2 and len(named) <= max(2, int(named.sum()) // 2)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Documents in each."""
        return np.bincount(self.of, minlength=len(self.names)).astype(np.int64)


class Corpus:
    """All documents of a run, looked at once for all of its questions."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.store = session.store
        self._table = self.store.to_arrow()
        self.hashes: list[str] = self._table.column("hash").to_pylist()
        self.times = Counter(self.hashes)
        """How many documents have each hash."""
        self.lengths: NDArray[np.int64] = self._table.column("tokens").to_numpy()

    def place(self, document: int) -> str:
        """Where a document is, as a person counts, its folder left off."""
        return short_name(self._sources[document], int(self._rows[document]))

    @cached_property
    def _sources(self) -> list[str]:
        return self._table.column("source").to_pylist()

    @cached_property
    def _rows(self) -> list[int]:
        return self._table.column("row").to_pylist()

    @cached_property
    def groupings(self) -> list[Grouping]:
        """By file, metadata column whose values repeat, script, exact copies: those that tell documents apart."""
        found = [Grouping.of_labels("file", [file_name(source) for source in self._sources])]
        for name in self._table.column_names:
            if name.startswith(PREFIX):
                field = self._table.schema.field(name)
                kept_as_json = (field.metadata or {}).get(b"json") == b"True"
                found.append(
                    Grouping.of_labels(
                        name.removeprefix(PREFIX),
                        [_label(value, kept_as_json) for value in self._table.column(name).to_pylist()],
                    )
                )
        if self.searchable:
            found.append(Grouping.of_labels("script", list(self._scripts())))
        found.append(Grouping.of_labels("copies", [self._copies(number) for number in range(len(self.hashes))]))
        return [one for one in found if one.tells]

    def _copies(self, document: int) -> str:
        """Exact copies go by the first of them."""
        hash_ = self.hashes[document]
        if self.times[hash_] == 1:
            return "said once"
        return f"{self.place(self._first[hash_])} × {self.times[hash_]}"

    @cached_property
    def _first(self) -> dict[str, int]:
        return {hash_: document for document, hash_ in reversed(list(enumerate(self.hashes)))}

    @property
    def searchable(self) -> bool:
        """Whether the text is little enough to be read once more for a report."""
        return int(self.lengths.sum()) <= MOST_TOKENS

    def _scripts(self) -> Iterator[str]:
        tokenizer = self.session.tokenizer
        said = self.session.surface(range(len(tokenizer)))
        for document in range(self.store.documents):
            head = self.store.tokens(self.store.sequences_of(document)[0])[:HEAD]
            pieces = display([said[token] for token in head.tolist()])
            yield script_of("".join(piece.text for piece in pieces if piece.kind != "special"))

    @cached_property
    def search(self) -> Filter | None:
        """BM25 over all documents; None where they are too many tokens."""
        return BM25().counted_by(self.session.counted) if self.searchable else None

    @cached_property
    def tfidf(self) -> Filter | None:
        """The filter of Grosse et al. over all documents; None where they are too many tokens."""
        return TFIDF().counted_by(self.session.counted) if self.searchable else None

    @property
    def firsts(self) -> list[tuple[str, int]]:
        """How many documents a filter might keep: shares of the data, by their names, and what Grosse et al. kept."""
        n = len(self.hashes)
        shares = [(f"{share} %", -(-share * n // 100)) for share in (1, 10)]
        return [*shares, ("", KEPT)] if n > KEPT else shares

    @cached_property
    def self_influence(self) -> NDArray[np.float64] | None:
        """Of every document, where `whence self` has finished with this damping."""
        folder = self_folder(self.session.folder, self.session.curvature.damping)
        known = read_self_influence(folder, self.store.documents)
        return None if known is None else known.double().numpy()


def _label(value: object, kept_as_json: bool) -> str:
    if value is None:
        return NOTHING
    if kept_as_json:
        value = json.loads(str(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
