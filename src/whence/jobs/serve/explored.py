"""One run as the explorer looks at it: opened once, its rankings and its text kept at hand, the model never loaded.

Everything is read from the run's own files. What has been read is given up when the run's data are made anew, and
questions that are answered meanwhile are seen at the next look.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from whence.artifacts.manifest import NAME as MANIFEST
from whence.data.store import TokenStore
from whence.errors import InvalidSetting
from whence.jobs.opened import Answers, Run, answers_of
from whence.jobs.prepare import FOLDER as DATA
from whence.jobs.serve.columns import Chosen, Column, columns_of, copies_of, documents_of
from whence.jobs.serve.order import Ranking
from whence.jobs.serve.search import Hits, TextIndex, words_of
from whence.jobs.settings import RunSettings
from whence.report.pieces import Style, vocabulary_style

RANKINGS = 4
"""Questions of a run whose rankings are kept in memory: three numbers a document."""
Sort = Literal["match", "data", "raises", "lowers", "longest", "shortest"]


BY_INFLUENCE: tuple[Sort, ...] = ("raises", "lowers")


@dataclass(frozen=True)
class Wanted:
    """Which documents, and in which order."""

    text: str = ""
    chosen: tuple[Chosen, ...] = ()
    copies: int | None = None
    """Only those that say the same as this one."""
    sort: Sort = "data"
    question: int = 0
    """By whose influence they are sorted, where they are."""

    @property
    def words(self) -> list[str]:
        """The text, folded and taken apart."""
        return words_of(self.text)

    @property
    def narrow(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.words or self.chosen or self.copies is not None)


class Explored:
    """A run's files, open. Its methods may be called from several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        """Held while a page is made: readers of the files below are not all made for several threads."""
        self._ranking = lru_cache(maxsize=RANKINGS)(self._read_ranking)

    @property
    def settings(self) -> RunSettings:
        """As they are now: a job writes them again after every stage.

        Raises:
            InvalidSetting: If they cannot be read.
        """
        return RunSettings.from_toml(self.folder / "settings.toml")

    @cached_property
    def run(self) -> Run:
        """The run without a question: its documents, and its tokenizer."""
        return Run(self.folder, self.settings)

    @property
    def store(self) -> TokenStore:
        """The prepared data, mapped.

        Raises:
            ArtifactError: If they are not there yet.
        """
        return self.run.store

    @property
    def answered(self) -> list[Answers]:
        """The sets of questions that are answered by now, the newest first."""
        return answers_of(self.folder)

    def asked(self, name: str | None) -> Answers | None:
        """One set of questions: that of a name, or the newest; None where nothing was asked yet.

        Raises:
            InvalidSetting: If there is none of that name.
        """
        found = self.answered
        if name is None:
            return found[0] if found else None
        for answers in found:
            if answers.scores == name:
                return answers
        raise InvalidSetting("these questions are not there (any more)", hint="go to the run, and on from there")

    def ranking(self, answers: Answers, question: int) -> Ranking:
        """Every document against one question."""
        return self._ranking(answers.scores, answers.written, question)

    def _read_ranking(self, scores: str, written: str, question: int) -> Ranking:
        answers = next(one for one in self.answered if (one.scores, one.written) == (scores, written))
        return Ranking.of(answers, question, self.store)

    @cached_property
    def columns(self) -> list[Column]:
        """What documents can be chosen by."""
        return columns_of(self.store)

    @cached_property
    def style(self) -> Style:
        """How the tokenizer writes its pieces."""
        return vocabulary_style(self.run.tokenizer.get_vocab())

    @cached_property
    def text(self) -> TextIndex:
        """The documents' text, on its way into a file from the first time that it is asked for."""
        index = TextIndex(self.store, self.run.tokenizer)
        index.begin()
        return index

    def documents(self, wanted: Wanted, answers: Answers | None) -> NDArray[np.int64]:
        """The documents that are wanted, in the order that is.

        Args:
            answers: Whose scores they are sorted by, where it is by influence.
        """
        hits = self.text.find(wanted.words) if wanted.words else None
        kept = np.ones(self.store.documents, np.bool_)
        if hits is not None:
            kept[:] = False
            kept[hits.documents] = True
        if wanted.chosen:
            kept &= documents_of(self.store, wanted.chosen)
        if wanted.copies is not None:
            kept &= copies_of(self.store, wanted.copies)
        order = self._order(wanted, hits, answers)
        return order[kept[order]]

    def _order(self, wanted: Wanted, hits: Hits | None, answers: Answers | None) -> NDArray[np.int64]:
        """Documents in the order that is wanted; of a search, perhaps only those that were found."""
        if wanted.sort == "match" and hits is not None:
            return hits.documents[np.argsort(-hits.match, kind="stable")]
        if wanted.sort in BY_INFLUENCE:
            if answers is None:
                raise InvalidSetting("nothing was asked of this run yet", hint="sort in the order of the data")
            ranking = self.ranking(answers, wanted.question)
            return ranking.highest if wanted.sort == "raises" else ranking.lowest
        if wanted.sort in ("longest", "shortest"):
            tokens = self.tokens
            return np.argsort(-tokens if wanted.sort == "longest" else tokens, kind="stable")
        return np.arange(self.store.documents)

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """How long every document is, ``[documents]``."""
        return np.bincount(self.store.document_of, self.store.lengths, self.store.documents).astype(np.int64)


class Shelf:
    """The runs that were opened, by their folders; one whose data were made anew is opened again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Path, tuple[tuple[int, int] | None, Explored]] = {}

    def take(self, folder: Path) -> Explored:
        """A run, opened."""
        manifest = folder / DATA / MANIFEST
        with self._lock:
            made = (stat.st_ino, stat.st_mtime_ns) if (stat := _stat(manifest)) is not None else None
            known = self._open.get(folder)
            if known is None or known[0] != made:
                known = self._open[folder] = (made, Explored(folder))
            return known[1]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
