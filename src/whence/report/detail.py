"""How much of each document a report holds: all of it, until it would be too heavy to pass on.

The first documents of a ranking keep everything longest; those after them lose layers × tokens first, then two of the
three attributions, then values by token, and at last the ends of their text. Numbers and places are never left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from whence.report.excerpt import peak_of, quote
from whence.report.model import Doc
from whence.report.pieces import display


@dataclass(frozen=True, slots=True)
class Detail:
    """How much a report holds of documents, counted from both ends of each ranking. None is all of it."""

    heat: int | None = None
    """Documents with layers × tokens."""
    views: int | None = None
    """Documents with all three attributions."""
    values: int | None = None
    """Documents with values by token (where the gradient arises) and by layer; of the others, the text alone."""
    text: int | None = None
    """Characters of those others' text, about the token with most influence."""

    def __str__(self) -> str:
        held = [f"layers × tokens of the first {self.heat} documents at each end of a ranking"]
        held += [] if self.views is None else [f"all three attributions of the first {self.views}"]
        held += [] if self.values is None else [f"values by token and layer of the first {self.values}"]
        held += [] if self.text is None else [f"{self.text} characters of the text of the others"]
        return f"{', '.join(held[:-1])} and {held[-1]}" if len(held) > 1 else held[0]


LEVELS = (
    Detail(),
    Detail(heat=20),
    Detail(heat=10, views=40),
    Detail(heat=5, views=20, values=60),
    Detail(heat=5, views=10, values=30, text=4000),
    Detail(heat=4, views=8, values=20, text=1500),
    Detail(heat=3, views=5, values=12, text=800),
    Detail(heat=2, views=4, values=8, text=500),
    Detail(heat=2, views=3, values=5, text=320),
    Detail(heat=1, views=2, values=3, text=250),
    Detail(heat=1, views=1, values=1, text=120),
)
"""Tried in this order until the pages fit `pages.BUDGET`; the last is taken whatever it weighs."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What of one document its page holds: tokens from ``start`` up to ``stop``."""

    heat: bool
    views: bool
    values: bool
    start: int
    stop: int


def shown_of(doc: Doc, rank: int | None, detail: Detail) -> Shown:
    """What a page holds of the document of this place in its list, from 0; of one in neither list, the least.

    A text is cut about the token with most influence.
    """
    whole = len(doc.tokens)

    def within(few: int | None) -> bool:
        return few is None or (rank is not None and rank < few)

    held = within(detail.heat), within(detail.views), within(detail.values)
    if held[2] or detail.text is None:
        return Shown(*held, 0, whole)
    found = quote(display(doc.tokens), [""] * whole, peak_of(doc), detail.text, lead=detail.text // 3)
    return Shown(*held, found.start, found.stop)
