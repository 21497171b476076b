"""What a filter keeps of the documents for each question, and the control sample: computed once and kept in the run.

    filters/<questions>/kept.safetensors    kept [q n], document numbers, closest first; control [s]

Each question has its own documents, whatever it is asked together with. The control sample is drawn from all documents
by the run's seed. It is scored for every question and shown for none but those whose filter keeps it: what it
scores says how much a filter lost (`evaluate.filter_recall`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from whence.artifacts.folder import claim, finished, mark_finished
from whence.artifacts.manifest import Manifest
from whence.artifacts.tensors import load_tensors, save_tensors
from whence.counted import counted
from whence.data.encode import Tokenizer
from whence.data.filters import FILTERS
from whence.data.queries import Query
from whence.data.selection import Selection
from whence.data.store import TokenStore
from whence.evaluate.filter_recall import FilterRecall, filter_recall
from whence.jobs.filter_setting import CONTROL, FilterSetting
from whence.jobs.progress import together

if TYPE_CHECKING:
    from whence.jobs.session import Session

FOLDER, NAME, SCHEMA = "filters", "kept.safetensors", 1


@dataclass(frozen=True)
class Filtered:
    """Which documents are scored."""

    kept: NDArray[np.int64]
    """``[q n]``: document numbers, closest first."""
    control: NDArray[np.int64]
    """``[s]``: drawn from all documents, ascending."""
    documents: int
    """All there are."""

    def mask(self, question: int) -> NDArray[np.bool_]:
        """The documents that a question is ranked on, ``[documents]``."""
        found = np.zeros(self.documents, np.bool_)
        found[self.kept[question]] = True
        return found

    def ranked(self, scores: NDArray[np.float64], questions: Sequence[int]) -> NDArray[np.float64]:
        """Scores ``[k documents]``, a row a question of these, with NaN where that is not ranked on a document."""
        rows = [np.where(self.mask(question), row, np.nan) for question, row in zip(questions, scores, strict=True)]
        return np.stack(rows) if rows else scores

    def selection(self, store: TokenStore) -> Selection:
        """All documents that are read, for whichever question; each is read whole."""
        read = np.zeros(self.documents, np.bool_)
        read[self.kept.ravel()] = True
        read[self.control] = True
        return Selection(store, np.flatnonzero(read[store.document_of]))

    def recall(self, question: int, scores: NDArray[np.float64], top: int) -> FilterRecall:
        """What the filter lost of a question's top.

        Args:
            scores: Of every document that was read, ``[documents]``, all by the same pass.
        """
        kept = self.mask(question)
        sample = self.control[~kept[self.control]]
        return filter_recall(scores[kept], scores[sample], int((~kept).sum()), top=top)

    @classmethod
    def read(cls, folder: Path, documents: int) -> Filtered:
        """What `filtered` left behind.

        Raises:
            ArtifactError: If it is not there.
        """
        found = load_tensors(folder / NAME)
        return cls(found["kept"].numpy(), found["control"].numpy(), documents)


def filtered(session: Session, setting: FilterSetting) -> Filtered:
    """What a filter keeps of a session's questions: by the main process, and kept.

    Raises:
        ArtifactMismatch: If the folder holds that of other data.
    """
    folder = session.folder / FOLDER / session.asked
    of = {"filter": str(setting), "control": CONTROL, "seed": session.settings.seed}
    manifest = Manifest("filter", SCHEMA, of, {name: session.sources[name] for name in ("tokenizer", "data")})
    together(session.world, lambda: claim(folder, manifest))
    documents = session.store.documents
    if session.world.main and not finished(folder):
        session.log.note(
            f"filter: looking for {setting.called} of {counted(documents, 'document')}, question by question"
        )
        search = FILTERS[setting.name]().counted_by(session.counted)
        asked = [tokens_asked(query, session.tokenizer) for query in session.questions]
        kept = np.stack([search.top(tokens, setting.count) for tokens in asked])
        draw = np.random.default_rng(session.settings.seed)
        control = np.sort(draw.choice(documents, min(CONTROL, documents), replace=False))
        save_tensors(folder / NAME, {"kept": torch.from_numpy(kept), "control": torch.from_numpy(control)})
        mark_finished(folder, [NAME])
    session.world.barrier()
    return Filtered.read(folder, documents)


def tokens_asked(query: Query, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """The words that a question is searched by, as tokens: its prompt and every completion that it asks about."""
    said = [query.prompt + query.completion, *(part.completion for part in query.parts[1:])]
    ids = [tokenizer.encode(text, add_special_tokens=False) for text in said]
    return np.array([token for some in ids for token in some], np.int64)


def document_tokens(store: TokenStore) -> Iterator[NDArray[np.int32]]:
    """The tokens of every document, in the order of the data."""
    return (store.document_tokens(document) for document in range(store.documents))
