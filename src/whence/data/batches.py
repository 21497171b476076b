"""Sequences of different lengths as one `Batch`: padded on the right, nothing else added or dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whence.types import Batch, Layout


@dataclass(frozen=True, slots=True)
class Piece:
    """One sequence: a document, or a window of one.

    ``scored[t]`` says that token ``t`` itself carries loss, so ``scored[0]`` is never set: nothing here predicts it.
    """

    tokens: NDArray[np.int32]
    scored: NDArray[np.bool_]
    offset: int = 0
    """Position in its document of the first token."""
    begins: bool = True
    """Whether it begins a row of the model's, rather than going on with the piece before (`data.packing`)."""

    def __len__(self) -> int:
        return len(self.tokens)


def collate(
    pieces: Sequence[Piece],
    *,
    ids: Sequence[int] | NDArray[Any] | None = None,
    documents: Sequence[int] | NDArray[Any] | None = None,
    layout: Layout | None = None,
    device: torch.device | str = "cpu",
) -> Batch:
    """Pieces as the rows of a batch, as wide as the longest of them.

    The last token of a piece stays among the inputs: it is real, and what it would predict is not here.

    Args:
        ids: Sequence numbers; the row numbers when not given.
        documents: Document numbers; the row numbers when not given.
        layout: How they lie in the model's rows, where that is several to a row.

    Example:
        >>> piece = Piece(np.array([5, 6, 7], np.int32), np.array([False, False, True]))
        >>> batch = collate([piece])
        >>> batch.inputs.tolist(), batch.targets.tolist(), batch.scored.tolist()
        ([[5, 6, 7]], [[0, 7, 0]], [[False, True, False]])
    """
    rows, width = len(pieces), max(map(len, pieces))
    inputs = np.zeros((rows, width), np.int64)
    targets = np.zeros((rows, width), np.int64)
    real = np.zeros((rows, width), np.bool_)
    scored = np.zeros((rows, width), np.bool_)
    for row, piece in enumerate(pieces):
        length = len(piece)
        inputs[row, :length] = piece.tokens
        real[row, :length] = True
        scored[row, : length - 1] = piece.scored[1:]
        targets[row, : length - 1] = np.where(piece.scored[1:], piece.tokens[1:], 0)
    numbers = range(rows)
    arrays = {
        "ids": np.asarray(numbers if ids is None else ids, np.int64),
        "inputs": inputs,
        "targets": targets,
        "real": real,
        "scored": scored,
        "document": np.asarray(numbers if documents is None else documents, np.int64),
        "offset": np.asarray([piece.offset for piece in pieces], np.int64),
    }
    return Batch(**{name: torch.from_numpy(array) for name, array in arrays.items()}, layout=layout).to(device)
