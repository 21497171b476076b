"""Token sequences held in memory: rows that a person has in Python, cut and batched as the token store's are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from whence.artifacts.fingerprint import DIGITS, settings_fingerprint
from whence.counted import counted
from whence.data.batches import Piece, collate
from whence.data.plan import make_plan
from whence.errors import DataError
from whence.types import Batch, Unit


class TokenData:
    """Rows as token sequences; implements `Data`.

    Args:
        rows: The sequences of each row: one, or the windows of one that is longer than the context, or none.
        batch_tokens: Padded tokens a batch may hold.

    Raises:
        DataError: If there is nothing to learn from.
    """

    def __init__(self, rows: Iterable[Sequence[Piece]], *, batch_tokens: int = 8192) -> None:
        pieces: list[Piece] = []
        of: list[int] = []
        self.documents = 0
        """How many rows there are, those with nothing scored included."""
        for number, windows in enumerate(rows):
            pieces += windows
            of += [number] * len(windows)
            self.documents = number + 1
        if not any(piece.scored.any() for piece in pieces):
            raise DataError("nothing in the data is scored", hint="give it rows with a token to predict")
        self.document_of: NDArray[np.int64] = np.array(of, np.int64)
        """Sequence → row, ``[n]``."""
        self._pieces = pieces
        self._lengths = np.array([len(piece) for piece in pieces], np.int64)
        self._plan = make_plan(self._lengths, batch_tokens)

    @property
    def units(self) -> Sequence[Unit]:
        return self._plan.units

    @property
    def sequences(self) -> int:
        return len(self._pieces)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(self._lengths.max())

    @cached_property
    def fingerprint(self) -> str:
        """A hash of tokens, of what is scored, and of how they are batched."""
        digest = hashlib.sha256()
        for piece, document in zip(self._pieces, self.document_of.tolist(), strict=True):
            digest.update(np.array([len(piece), document, piece.offset], "<i8").tobytes())
            digest.update(piece.tokens.astype("<i4").tobytes() + piece.scored.tobytes())
        return settings_fingerprint({"content": digest.hexdigest()[:DIGITS], "plan": self._plan.fingerprint})

    def batches(self, unit: int) -> Iterator[Batch]:
        for rows in self._plan.batches(unit):
            yield self._batch(rows)

    def gather(self, sequences: Sequence[int]) -> Iterator[Batch]:
        chosen = np.asarray(sequences, np.int64)
        if len(chosen):
            for rows in make_plan(self._lengths[chosen], self._plan.batch_tokens, units=1).batches(0):
                yield self._batch(chosen[rows])

    def name(self, sequence: int) -> str:
        """As a person finds it: ``data[3]``, and of a row of several sequences which of its tokens."""
        document, piece = int(self.document_of[sequence]), self._pieces[sequence]
        alone = np.searchsorted(self.document_of, [document, document + 1])
        if alone[1] - alone[0] == 1:
            return f"data[{document}]"
        return f"data[{document}], tokens {piece.offset} to {piece.offset + len(piece) - 1}"

    def _batch(self, rows: NDArray[np.int64]) -> Batch:
        return collate([self._pieces[row] for row in rows.tolist()], ids=rows, documents=self.document_of[rows])

    def __repr__(self) -> str:
        counts = (self.documents, "row"), (self.sequences, "sequence"), (int(self._lengths.sum()), "token")
        return f"TokenData({', '.join(counted(*one) for one in counts)})"
