"""What was asked of a run and where the answers lie: all that is needed to read them without the model.

    answers/<scores>/answers.json           the questions, N, and the folders of their scores
                     shown-00000.parquet    the documents that a question's report explains, token by token

Written when the scores of a set of questions are finished; a run holds one such folder for every set.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whence.artifacts.atomic import write_text
from whence.artifacts.tensors import load_tensors, map_tensors
from whence.data.queries import Part, Query
from whence.data.store import TokenStore
from whence.errors import ArtifactError, InvalidSetting
from whence.evaluate.filter_recall import FilterRecall
from whence.jobs.filtered import FOLDER as FILTERS
from whence.jobs.filtered import Filtered
from whence.jobs.questions import NAME as QUESTIONS
from whence.jobs.questions import as_jsonl
from whence.jobs.rescored import Rescored, folder_name, rescored
from whence.jobs.solved import Solved, read_solved

if TYPE_CHECKING:
    from whence.jobs.session import Session

FOLDER, NAME, SETTINGS, SCHEMA = "answers", "answers.json", "settings.toml", 1
SCORES = "scores"


@dataclass(frozen=True)
class Answers:
    """One set of questions and its scores, as paths. Nothing is read before it is asked for."""

    run: Path
    scores: str
    """The name of the folder under ``scores/``, and of this one under ``answers/``."""
    rescored: str | None
    """Of the folder that holds both ends at full rank, where the pass itself was not."""
    questions: tuple[Query, ...]
    measurement: tuple[float, ...]
    """The log-probability of each answer, or the difference of two, in nats."""
    train_size: int
    layers: tuple[str, ...]
    by: tuple[str, ...]
    """How else the scores were kept: by ``layer``, by ``token``."""
    method: str
    """The curvature's name, or the solver's where questions were solved by another."""
    damping: str | None
    written: str
    filter: str | None = None
    """Which documents each question was scored on, as in the settings; None where that was all."""
    recall: tuple[FilterRecall, ...] = ()
    """What the filter lost of each question's top, as estimated; empty without a filter."""
    queries: str | None = None
    """Of the folder that holds the questions' directions as their solver left them; None where the fitted curvature
    is the solver, which makes them again whenever they are wanted."""

    @property
    def folder(self) -> Path:
        return self.run / FOLDER / self.scores

    @property
    def solved(self) -> tuple[Solved, ...]:
        """How well the questions were solved; nothing where the fitted curvature did it."""
        return () if self.queries is None else read_solved(self.run / "queries" / self.queries)

    @property
    def asked(self) -> str:
        """The name of the folder under ``queries/``."""
        return self.scores.partition("-by-")[0]

    def filtered(self, documents: int) -> Filtered | None:
        """Which documents each question was scored on; None where that was all."""
        return None if self.filter is None else Filtered.read(self.run / FILTERS / self.asked, documents)

    def question(self, number: int) -> Query:
        """One of the questions, from 0.

        Raises:
            InvalidSetting: If it is no number, or there are not so many.
        """
        count = len(self.questions)
        if not isinstance(number, int | np.integer) or not 0 <= number < count:
            known = [query.id for query in self.questions]
            raise InvalidSetting(
                f"there is no question {number!r}: {self.run} answered {count}",
                hint=f"questions are numbered from 0 to {count - 1}"
                + (f", and {number!r} is {known.index(str(number))}" if str(number) in known else ""),
            )
        return self.questions[number]

    def raw(self, question: int, store: TokenStore) -> NDArray[np.float64]:
        """Raw influence of every document on one question, ``[documents]``; NaN of those that were not scored."""
        self.question(question)
        return self.rows([question], store).raw[0]

    def rows(self, questions: Sequence[int], store: TokenStore) -> Rescored:
        """Raw influence of every document on some questions, ``[q documents]``: its sequences' scores, added."""
        total: NDArray[np.float64] | None = None
        for part in self._parts():
            values = part["total"][list(questions)]
            if total is None:
                total = np.full((len(questions), store.sequences), np.nan)
            total[:, part["sequence"]] = values
        assert total is not None
        raw = self._ranked(by_document(total, store), questions)
        again = np.zeros(raw.shape, dtype=bool)
        if self.rescored is not None:
            for row, question in enumerate(questions):
                known = load_tensors(self.run / SCORES / self.rescored / f"question-{question:05d}.safetensors")
                raw[row, known["document"]] = known["raw"].numpy()
                again[row, known["document"]] = True
        return Rescored(raw, again)

    def by_layer(self, question: int, store: TokenStore) -> NDArray[np.float64]:
        """A layer's part in the score of every document, ``[l documents]``, of the first pass.

        Raises:
            ArtifactError: If the scores were not kept by layer.
        """
        if "layer" not in self.by:
            raise ArtifactError(
                f"{self.run} did not keep its scores by layer",
                hint=f'ask again with by="layer", or `whence score {self.run} --by layer`: nothing is fitted again',
            )
        self.question(question)
        total = np.full((len(self.layers), store.sequences), np.nan)
        for part in self._parts():
            total[:, part["sequence"]] = part["by_layer"][:, question]
        return self._ranked(by_document(total, store), [question] * len(total))

    def _ranked(self, scores: NDArray[np.float64], questions: Sequence[int]) -> NDArray[np.float64]:
        """The same without what was read for another question, or to estimate what a filter lost."""
        found = self.filtered(scores.shape[1])
        return scores if found is None else found.ranked(scores, questions)

    def layers_of(self, question: int, document: int, store: TokenStore) -> NDArray[np.float64] | None:
        """A layer's part in one document's score, ``[l]``, of the first pass; None where scores were not kept so."""
        if "layer" not in self.by:
            return None
        self.question(question)
        sequences, total = store.sequences_of(document), np.zeros(len(self.layers))
        for part in self._parts():
            mine = np.isin(part["sequence"], sequences)
            if mine.any():
                total += part["by_layer"][:, question, mine].sum(-1, dtype=np.float64)
        return total

    def tokens_of(self, question: int, document: int, store: TokenStore) -> NDArray[np.float64] | None:
        """A position's part in one document's score, ``[t]`` along its tokens: position t predicts token t + 1.

        Of the first pass; None where scores were not kept so.
        """
        if "token" not in self.by:
            return None
        self.question(question)
        sequences, total = store.sequences_of(document), np.zeros(len(store.document_tokens(document)))
        begins = dict(zip(sequences, np.cumsum([0, *(store.length(s) - 1 for s in sequences)]), strict=False))
        for part in self._parts():
            ends = np.cumsum(part["lengths"])
            for row in np.flatnonzero(np.isin(part["sequence"], sequences)):
                values = part["by_token"][question, ends[row] - part["lengths"][row] : ends[row]]
                begin = begins[int(part["sequence"][row])]
                total[begin : begin + len(values)] += values
        return total

    def _parts(self) -> Sequence[dict[str, NDArray[Any]]]:
        """The work units' score files, mapped: a question's row is read, and not the others."""
        paths = sorted((self.run / SCORES / self.scores).glob("part-*.safetensors"))
        if not paths:
            raise ArtifactError(f"{self.run / SCORES / self.scores} holds no scores", hint="run `whence score` again")
        return [map_tensors(path) for path in paths]

    def keep(self) -> None:
        """Write ``answers.json``.

        Raises:
            StorageError: If the disk refuses.
        """
        record = asdict(self) | {"schema": SCHEMA}
        del record["run"]
        write_text(self.folder / NAME, json.dumps(record, indent=1, default=str) + "\n")

    @classmethod
    def read(cls, path: Path, run: Path) -> Answers:
        """What `keep` wrote.

        Raises:
            ArtifactError: If it cannot be read, or was written by a newer whence.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            schema = record.pop("schema")
            if schema > SCHEMA:
                raise ArtifactError(f"{path} was written by a newer whence", hint="upgrade: pip install -U whence")
            questions = tuple(
                Query(q["id"], tuple(Part.of(part) for part in q["parts"]), q["metadata"], q["name"])
                for q in record.pop("questions")
            )
            record |= {name: tuple(record[name]) for name in ("measurement", "layers", "by")}
            record["recall"] = tuple(FilterRecall(**one) for one in record.get("recall", ()))
            return cls(run=run, questions=questions, **record)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}", hint="run `whence score` again") from error


def kept(session: Session) -> Answers:
    """The answers of a session whose scores are finished, and both ends scored again; written by the main process."""
    read = by_document(session.scores.total.numpy(), session.store)
    filtered = session.filtered
    again = rescored(session, read if filtered is None else filtered.ranked(read, range(len(read))))
    settings, curvature = session.settings, session.curvature
    recall = () if filtered is None else tuple(filtered.recall(k, row, settings.top) for k, row in enumerate(read))
    if session.world.main:
        Answers(
            run=session.folder,
            scores=session.scores_name,
            rescored=folder_name(session) if again.again.any() else None,
            questions=tuple(session.questions),
            measurement=tuple(session.measurement.tolist()),
            train_size=session.train_size,
            layers=tuple(curvature.blocks),
            by=tuple(sorted(set(settings.by))),
            method=session.method,
            damping=None if curvature.damping is None else str(curvature.damping),
            filter=None if session.filter is None else str(session.filter),
            recall=recall,
            written=datetime.now(UTC).isoformat(timespec="microseconds"),
            queries=None if settings.solver == "fitted" else session.asked,
        ).keep()
        _keep_settings(session)
    session.world.barrier()
    return Answers.read(session.folder / FOLDER / session.scores_name / NAME, session.folder)


def _keep_settings(session: Session) -> None:
    """The settings that these answers came of, beside them: those of the run are of its newest."""
    folder, settings = session.folder / FOLDER / session.scores_name, session.settings
    if settings.query == str(session.folder / QUESTIONS):  # asked from Python: the next ones take that file's place
        rows = as_jsonl(session.questions)
        assert rows is not None
        write_text(folder / QUESTIONS, rows)
        settings = settings.replace(query=str(folder / QUESTIONS))
    write_text(folder / SETTINGS, settings.to_toml())


def answers_of(run: Path) -> list[Answers]:
    """Every set of questions that a run has answered, the newest first."""
    found = [Answers.read(path, run) for path in sorted((run / FOLDER).glob(f"*/{NAME}"))]
    return sorted(found, key=lambda answers: answers.written, reverse=True)


def by_document(total: NDArray[Any], store: TokenStore) -> NDArray[np.float64]:
    """Sequence scores ``[q n]`` → document scores ``[q documents]``."""
    sums = np.zeros((len(total), store.documents))
    for row, scores in enumerate(np.asarray(total, np.float64)):
        np.add.at(sums[row], store.document_of, scores)
    return sums
