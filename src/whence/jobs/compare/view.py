"""A comparison as text of any width, and for a machine."""

from __future__ import annotations

import shutil
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from whence.counted import counted
from whence.report.numbers import signed
from whence.report.pieces import visible

NARROWEST, WIDEST = 60, 120
SELF = "self-influence"


@dataclass(frozen=True)
class Side:
    """One of the two."""

    path: str
    documents: int
    method: str
    alone: int
    """Documents that the other side does not have."""
    alone_names: tuple[str, ...]
    """The first few of them."""


@dataclass(frozen=True)
class Mover:
    """A document near an end of one ranking, whose rank is another in the other. Pairs are (A, B)."""

    document: tuple[int, int]
    rank: tuple[int, int]
    score: tuple[float, float]
    place: str
    text: str


@dataclass(frozen=True)
class Agreement:
    """One question in both runs, over the documents that both have."""

    id: str
    said: str
    documents: int
    """Scored in both."""
    spearman: float | None
    kendall: float | None
    """τ-b; None where there are too many documents for it, or all scores are equal."""
    overlaps: dict[int, tuple[int, int | None]]
    """k → how many of the k highest are among the k highest of the other, and of the k lowest."""
    movers: tuple[Mover, ...]
    unit: str

    @property
    def name(self) -> str:
        """In a table: its id, and what it says."""
        return self.said if self.unit == SELF else f"{self.id}  {self.said}"


@dataclass(frozen=True)
class Comparison:
    """How alike two runs rank the training data. Printing it computes nothing."""

    a: Side
    b: Side
    documents: int
    """In both."""
    differ: dict[str, tuple[str, str]]
    same: tuple[str, ...]
    agreements: tuple[Agreement, ...]
    ends: int
    """Documents at each end among which movers were looked for."""
    only_a: tuple[str, ...]
    """Questions that were asked of A alone."""
    only_b: tuple[str, ...]

    def text(self) -> str:
        """For a person, as wide as the terminal."""
        width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size((100, 24)).columns))
        moved = [self._moved(one, width) for one in self.agreements if one.movers]
        title = wrapped("", f"what moved most, of the {self.ends:,} at either end of A or B", width) if moved else []
        parts = [self._head(width), self._table(width), title, *moved]
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

    def to_dict(self) -> dict[str, Any]:
        """For a machine. Pairs are [A, B]."""
        out = asdict(self)
        for one, found in zip(self.agreements, out["agreements"], strict=True):
            found["overlaps"] = {str(k): {"highest": h, "lowest": low} for k, (h, low) in one.overlaps.items()}
        return out

    def _head(self, width: int) -> list[str]:
        lines = []
        for name, side in (("A", self.a), ("B", self.b)):
            lines.append(cut(f"{name}  {side.path}   {side.method}, {counted(side.documents, 'document')}", width))
        label = max((len(name) for name in self.differ), default=0)
        for name, (one, other) in self.differ.items():
            lines += wrapped(
                f"{'differ' if name == next(iter(self.differ)) else '':8}{name:<{label}}  ", f"{one} → {other}", width
            )
        if not self.differ:
            lines.append("differ  in no setting")
        lines += wrapped("same    ", ", ".join(self.same), width) if self.same else []
        lines += wrapped("both    ", f"{_questions(self.agreements)}, {counted(self.documents, 'document')}", width)
        for name, side, questions in (("A", self.a, self.only_a), ("B", self.b, self.only_b)):
            if questions:
                what = f"{counted(len(questions), 'question')}: {_few(questions)}"
                lines += wrapped(f"only {name}  ", what, width)
            if side.alone:
                lines += wrapped(
                    f"only {name}  ", f"{counted(side.alone, 'document')}: {_few(side.alone_names, side.alone)}", width
                )
        return lines

    def _table(self, width: int) -> list[str]:
        heads = ["Spearman", "Kendall", *(f"{end} {k}" for k in self._tops() for end in ("top", "last"))]
        room = width - sum(len(head) + 2 for head in heads)
        if room < 24:  # too many columns for the width: the largest k is left to --json
            heads = heads[:4]
            room = width - sum(len(head) + 2 for head in heads)
        counts = sorted({one.documents for one in self.agreements})
        over = " to ".join(f"{count:,}" for count in dict.fromkeys([counts[0], counts[-1]])) if counts else "0"
        lines = [f"agreement of ranks over {over} documents"[:room].ljust(room) + _cells(heads, heads)]
        for one in self.agreements:
            values = [_number(one.spearman), _number(one.kendall)]
            for k, (high, low) in one.overlaps.items():
                values += [f"{high}/{k}", "" if low is None else f"{low}/{k}"]
            lines.append(padded(cut(one.name, room - 1), room) + _cells(values[: len(heads)], heads))
        return lines

    def _tops(self) -> list[int]:
        return list(self.agreements[0].overlaps) if self.agreements else []

    def _moved(self, one: Agreement, width: int) -> list[str]:
        ranks = [f"{mover.rank[0]:,} → {mover.rank[1]:,}" for mover in one.movers]
        scores = [f"{signed(mover.score[0])} → {signed(mover.score[1])}" for mover in one.movers]
        first, second = max(10, *map(len, ranks)), max(len(one.unit), *map(len, scores))
        lines = [cut(one.name, width), f"  {'rank A → B':>{first}}   {one.unit:>{second}}"]
        for mover, rank, score in zip(one.movers, ranks, scores, strict=True):
            lines.append(cut(f"  {rank:>{first}}   {score:>{second}}   {mover.place}", width))
            said = " ".join(visible(mover.text).split())
            lines += [" " * (first + second + 8) + cut(said, width - first - second - 8)] if said else []
        return lines


def cut(text: str, width: int) -> str:
    """A text in so many columns of a terminal, Chinese letters taking two.

    Example:
        >>> cut("a long text", 7), cut("猫猫猫", 5), cut("short", 7)
        ('a long…', '猫猫…', 'short')
    """
    if columns(text) <= width:
        return text
    while text and columns(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def columns(text: str) -> int:
    """How many columns a text takes."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def padded(text: str, width: int) -> str:
    """A text with spaces up to a width."""
    return text + " " * (width - columns(text))


def wrapped(label: str, text: str, width: int) -> list[str]:
    """A text beside its label, further lines below its beginning."""
    lines = textwrap.wrap(text, width - len(label)) or [""]
    return [label + lines[0], *(" " * len(label) + line for line in lines[1:])]


def _cells(values: Sequence[str], heads: Sequence[str]) -> str:
    return "".join(f"  {value:>{len(head)}}" for value, head in zip(values, heads, strict=True)).rstrip()


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _questions(agreements: Sequence[Agreement]) -> str:
    asked = counted(sum(one.unit != SELF for one in agreements), "question")
    return f"{asked} and self-influence" if any(one.unit == SELF for one in agreements) else asked


def _few(names: Sequence[str], of: int | None = None) -> str:
    left = (of or len(names)) - min(3, len(names))
    return "; ".join(names[:3]) + (f"; and {left:,} more" if left > 0 else "")
