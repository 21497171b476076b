"""Whole-corpus search: which documents hold some words, letter for letter.

    index    every document's text, folded (NFKC, no case, spaces alike), end to end in an unnamed temporary file
    find     the file is read from one end to the other, a few megabytes at a time; a text of 20,000 documents takes
             a fraction of a second, in every script alike, and no word is missed for how a tokenizer cut it

The file is on disk and vanishes with the process; memory holds two numbers a document. It is made once, in the
background, when a page of the run is first looked at.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whence.data.filters import BM25
from whence.data.store import TokenStore

MOST_WORDS = 12
BLOCK = 4 * 2**20
"""Bytes read at a time; a longer document is read whole."""
BETWEEN = b"\xff"
"""Ends a document: no byte of UTF-8."""
_SPACES = re.compile(r"\s+")
_WORDS = re.compile(r'"([^"]*)"|(\S+)')


@dataclass(frozen=True)
class Hits:
    """Documents that hold all the words, ascending."""

    documents: NDArray[np.int64]
    match: NDArray[np.float64]
    """BM25 of the words, ``[d]``; each is counted wherever its letters stand, inside longer words too."""


def fold(text: str) -> str:
    r"""A text as it is searched: width, case and the kind of its spaces do not matter.

    Example:
        >>> fold("Straße\n  ﬁne ＡＢＣ")
        'strasse fine abc'
    """
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text).casefold())


def words_of(asked: str) -> list[str]:
    """What is looked for, folded: words, and phrases in double quotes.

    Example:
        >>> words_of('capital "of  France" "half')
        ['capital', 'of france', '"half']
    """
    found = (fold(phrase or word).strip() for phrase, word in _WORDS.findall(asked))
    return list(dict.fromkeys(word for word in found if word))[:MOST_WORDS]


class Reader:
    """Documents as text: what stands between special tokens, with a space for them."""

    def __init__(self, store: TokenStore, tokenizer: Any) -> None:
        self.store, self.tokenizer = store, tokenizer
        self._special = frozenset(tokenizer.all_special_ids)

    def text(self, document: int, most: int | None = None) -> str:
        """What a document says, or its first ``most`` tokens."""
        tokens = self.store.document_tokens(document)[:most].tolist()
        runs = (list(run) for special, run in groupby(tokens, self._special.__contains__) if not special)
        return " ".join(str(self.tokenizer.decode(run)) for run in runs)


class TextIndex:
    """The folded text of a store's documents; `find` once it is `ready`."""

    def __init__(self, store: TokenStore, tokenizer: Any) -> None:
        self.store, self.reader = store, Reader(store, tokenizer)
        self.done = 0
        """Documents that are in it."""
        self.problem: str | None = None
        """Why it could not be made."""
        self._ends = np.zeros(store.documents, np.int64)
        self._lengths = np.zeros(store.documents, np.int64)
        self._ended = threading.Event()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (kept open for as long as this is there)

    def begin(self) -> None:
        """Make it in the background."""
        threading.Thread(target=self._build, name="text index", daemon=True).start()

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether it can be searched, after waiting so long for it at the most."""
        return self._ended.wait(seconds) and self.problem is None

    def find(self, words: Sequence[str]) -> Hits:
        """Documents that hold every one of some folded words.

        Args:
            words: At least one, none empty.
        """
        needles = [word.encode("utf-8", "backslashreplace") for word in words]
        counts: list[list[int]] = []
        documents: list[int] = []
        holding = np.zeros(len(needles), np.int64)
        for first, stop, text in self._blocks():
            for document in self._candidates(text, needles, first, stop):
                part = text[self._begin(document) - self._begin(first) : self._ends[document] - self._begin(first)]
                found = [part.count(needle) for needle in needles]
                holding += np.array(found) > 0
                if all(found):
                    documents.append(document)
                    counts.append(found)
        return self._hits(documents, counts, holding)

    def _hits(self, documents: list[int], counts: list[list[int]], holding: NDArray[np.int64]) -> Hits:
        numbers, match = np.array(documents, np.int64), np.zeros(len(documents))
        bm25 = BM25.counted_elsewhere(self._lengths)
        for word, times in enumerate(np.array(counts, np.int32).reshape(-1, len(holding)).T):
            match += bm25.rarity(int(holding[word])) * bm25.weights(numbers.astype(np.int32), times)
        return Hits(numbers, match)

    def _candidates(self, text: bytes, needles: Sequence[bytes], first: int, stop: int) -> Iterator[int]:
        """Documents of a block that hold any of the words, ascending."""
        start, ends = self._begin(first), self._ends[first:stop]
        found: set[int] = set()
        for needle in needles:
            at = text.find(needle)
            while at >= 0:
                document = first + int(np.searchsorted(ends, at + start, side="right"))
                found.add(document)
                at = text.find(needle, int(self._ends[document]) - start)
        yield from sorted(found)

    def _blocks(self) -> Iterator[tuple[int, int, bytes]]:
        """Runs of whole documents with their text: the first, the one after the last, and all between."""
        first = 0
        while first < len(self._ends):
            start = self._begin(first)
            stop = max(first + 1, int(np.searchsorted(self._ends, start + BLOCK, side="right")))
            yield first, stop, os.pread(self._file.fileno(), int(self._ends[stop - 1]) - start, start)
            first = stop

    def _begin(self, document: int) -> int:
        return int(self._ends[document - 1]) if document else 0

    def _build(self) -> None:
        at = 0
        try:
            for document in range(self.store.documents):
                text = fold(self.reader.text(document))
                kept = text.encode("utf-8", "backslashreplace") + BETWEEN
                self._file.write(kept)
                at += len(kept)
                self._ends[document], self._lengths[document] = at, len(text)
                self.done = document + 1
            self._file.flush()
        except Exception as error:  # told to whoever searches: a thread has nobody to raise to
            self.problem = f"{type(error).__name__}: {error}"
        finally:
            self._ended.set()
