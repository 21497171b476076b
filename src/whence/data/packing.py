"""Several documents to a row of the model: kept apart, or run together as they were in pretraining.

    segments    each sequence keeps its own positions and sees itself alone; rows are filled up to the context
                [ doc 3 | doc 7 | doc 1 ···]        first to fit, longest first

    windows     documents end to end, cut every ``context`` tokens; attention crosses, as in Grosse et al. 2023
                … doc 3 ⟩⟨ doc 4 ⟩⟨ doc 5 |⟩⟨ doc 5, doc 6 …

Of windows, every token but the first of all is predicted once: a window begins with the token that the one before ended
on, and a document's first token is predicted by the last of the document before. So a document's part of a window
begins with that token, which is not its own: its ``offset`` is then −1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from whence.data.batches import Piece, collate
from whence.data.encode import Encoded, check_context
from whence.types import Layout

Pack = Literal["none", "windows", "segments"]


class Windower:
    """Documents one after another, cut into windows; holds nothing but where it is."""

    def __init__(self, context: int) -> None:
        check_context(context)
        self.context = context
        self.last: int | None = None
        """The token before, which is predicted from and not scored again."""
        self.used = 0
        """Tokens in the window that is open."""

    def add(self, document: Encoded) -> list[Piece]:
        """The parts of the next document, which comes uncut."""
        if not document.pieces:
            return []
        (whole,) = document.pieces
        return list(self._parts(whole.tokens, np.concatenate([[document.opens], whole.scored[1:]])))

    def _parts(self, ids: NDArray[np.int32], scored: NDArray[np.bool_]) -> Iterator[Piece]:
        at = 0
        while at < len(ids):
            begins = self.used == 0
            before = [] if self.last is None else [self.last]
            room = self.context - (len(before) if begins else self.used)
            taken = ids[at : at + room]
            marks = np.concatenate([np.zeros(len(before), np.bool_), scored[at : at + room]])
            marks[0] = False  # scored in the window before, or predicted by nothing
            yield Piece(np.concatenate([before, taken]).astype(np.int32), marks, at - len(before), begins)
            self.used = (self.used + len(taken) + (len(before) if begins else 0)) % self.context
            at, self.last = at + len(taken), int(taken[-1])


def end_to_end(pieces: Sequence[Piece]) -> Piece:
    """The parts of one window as one sequence: each but the first begins with the last token of the one before."""
    first, *others = pieces
    tokens = np.concatenate([first.tokens, *(piece.tokens[1:] for piece in others)])
    return Piece(tokens, np.concatenate([first.scored, *(piece.scored[1:] for piece in others)]))


def in_windows(pieces: Sequence[Piece], windows: Sequence[Sequence[int]], width: int) -> Layout:
    """How the parts of windows lie in them.

    Args:
        pieces: The batch's sequences.
        windows: Window → which of them it is made of, all of its parts in order.
        width: The batch's ``t``.
    """
    whole = [end_to_end([pieces[n] for n in members]) for members in windows]
    rows = collate(whole)
    place, own = np.zeros((len(pieces), width), np.int64), np.zeros((len(pieces), width), np.bool_)
    for row, members in enumerate(windows):
        start = row * rows.inputs.shape[1]
        for n in members:
            length = len(pieces[n])
            _put(place, own, n, start, length, length if n == members[-1] else length - 1)
            start += length - 1
    return Layout(rows.inputs, None, torch.from_numpy(place), torch.from_numpy(own), rows.targets, rows.scored)


def apart(pieces: Sequence[Piece], context: int, width: int) -> Layout:
    """Sequences side by side in rows of up to ``context`` tokens, each with positions of its own."""
    rows = first_fit([len(piece) for piece in pieces], context)
    used = [sum(len(pieces[n]) for n in members) for members in rows]
    wide = max(used)
    inputs = np.zeros((len(rows), wide), np.int64)
    position = np.zeros((len(rows), wide), np.int64)
    place, own = np.zeros((len(pieces), width), np.int64), np.zeros((len(pieces), width), np.bool_)
    for row, members in enumerate(rows):
        start = 0
        for n in members:
            stop = start + len(pieces[n])
            inputs[row, start:stop] = pieces[n].tokens
            position[row, start:stop] = np.arange(len(pieces[n]))
            _put(place, own, n, row * wide + start, len(pieces[n]), len(pieces[n]))
            start = stop
        position[row, start:] = np.arange(wide - start)  # padding is a sequence like the others, which nobody reads
    return Layout(*map(torch.from_numpy, (inputs, position, place, own)))


def first_fit(lengths: Sequence[int], context: int) -> list[list[int]]:
    """Rows of up to ``context`` tokens: each length, longest first, goes into the first row that has room.

    Example:
        >>> first_fit([3, 5, 2, 1], context=6)
        [[1, 3], [0, 2]]
    """
    rows: list[list[int]] = []
    used: list[int] = []
    for n in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        row = next((row for row, taken in enumerate(used) if taken + lengths[n] <= context), len(rows))
        if row == len(rows):
            rows.append([])
            used.append(0)
        rows[row].append(n)
        used[row] += lengths[n]
    return rows


def _put(place: NDArray[np.int64], own: NDArray[np.bool_], n: int, start: int, length: int, mine: int) -> None:
    place[n] = start
    place[n, :length] = np.arange(start, start + length)
    own[n, :mine] = True
