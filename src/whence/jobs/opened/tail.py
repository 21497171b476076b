"""How unevenly influence is spread over the documents that raise an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from whence.evaluate.tail import PowerLaw, power_law
from whence.jobs.views import View
from whence.report.notebook import Column, facts, loglog
from whence.report.numbers import count, percent
from whence.report.shape import Tail

if TYPE_CHECKING:
    from whence.jobs.opened.run import Run


class TailView(View):
    """Influences above zero, largest first, thinned evenly in the logarithm of their rank.

    ``rank`` 1 is the largest, and ``share`` is of all documents that have at least as much.
    """

    def __init__(self, title: str, tail: Tail, law: PowerLaw | None) -> None:
        rows = [
            {"rank": rank, "per_copy": value, "share": rank / tail.n}
            for value, rank in zip(tail.values, tail.ranks, strict=True)
        ]
        columns = [
            Column("rank", "rank", "count"),
            Column("per_copy", "nats per copy", "influence"),
            Column("share", "share of documents", "share"),
        ]
        super().__init__(title, columns, rows, value="per_copy")
        self.tail = tail
        self.law = law
        """Fitted to the largest; its interval is ``law.interval``. None where too few documents raise the answer."""

    @property
    def sentence(self) -> str:
        """What the tail says."""
        head = (
            f"{count(self.tail.positive)} of {count(self.tail.n)} documents raise it; the top 1 % of all hold "
            f"{percent(self.tail.share_top_1pct)} of what does"
        )
        return f"{head}. Power law: {self.law}" if self.law is not None else f"{head}. Too few for a power law"

    def __repr__(self) -> str:
        return f"{self.title}\n{self.sentence}"

    def _repr_html_(self) -> str:
        law = self.law
        line = None
        if law is not None and self.tail.values:
            ends = (law.threshold, max(law.threshold, self.tail.values[0]))
            line = [(x, law.share_above(x)) for x in ends]
        picture = loglog(
            [(row["per_copy"], row["share"]) for row in self],
            line,
            across="influence, nats per copy",
            up="share of documents with at least this",
        )
        return facts(self.title, [("", self.sentence)]) + picture


def tail_view(run: Run, question: int) -> TailView:
    """The tail of one question."""
    raw = run.raw(question)
    per_copy = raw[~np.isnan(raw)] / run.train_size  # of the documents scored, where a filter left others out
    return TailView(f"Tail of what raises {run.said(question)}", Tail.of(per_copy), power_law(per_copy))
