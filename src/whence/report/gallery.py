"""The report on examples rather than documents: pictures, table rows and labelled texts, and what each is worth.

    Gallery ─► Ranking, one a question     the example asked about, what helps and what harms
            ─► suspects                    labels to look at: given and suggested

One file, no script at all. Text from outside is escaped by the template, as in `html`; pictures are inlined as PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from whence.report.checked import Validation
from whence.report.html import _day, _flat, environment, policy, read_asset
from whence.report.numbers import largest
from whence.report.trust import CoverageRow

STYLES = (
    "base.css",
    "report.css",
    "question.css",
    "document.css",
    "trust.css",
    "checked.css",
    "narrow.css",
    "print.css",
    "gallery.css",
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """One example as it is shown. Of picture, cells and text, one is there."""

    place: str
    """Where it is: ``spam.tsv, line 12``."""
    given: str
    """Its label, or its quantity."""
    suggested: str
    """What the model would say: its most probable class, or of a suspect the most probable other one."""
    score: float
    """Nats per copy of an influence; a self-influence of a suspect; the loss of a validation example."""
    p_given: float | None = None
    """The model's probability of the given class."""
    p_suggested: float | None = None
    picture: str = ""
    """A ``data:`` address of PNG."""
    small: bool = False
    """Whether the picture is so small that its pixels should be seen as squares."""
    cells: Sequence[str] = ()
    text: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the model says what the label says."""
        return self.given == self.suggested


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What helps and what harms one question."""

    question: str
    """Whose loss, in words: ``3,000 validation examples``; their mean, where they are several."""
    loss: float
    asked: Card | None = None
    """The validation example asked about, where it is one."""
    helpful: Sequence[Card] = ()
    harmful: Sequence[Card] = ()

    @property
    def overshoots(self) -> bool:
        """Whether more is promised than there is to lower: a straight line drawn too far."""
        return 0 < self.loss < max((card.score for card in self.helpful), default=0.0)


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Everything that the page says."""

    title: str
    created: str
    kind: str
    """``pictures``, ``table`` or ``texts``."""
    sentence: str
    rankings: Sequence[Ranking] = ()
    suspects: Sequence[Card] = ()
    columns: Sequence[str] = ()
    """Names of a table's cells."""
    quantity: bool = False
    """Whether the target is a quantity rather than a class."""
    facts: Sequence[tuple[str, str, str]] = ()
    """Name, value, meaning."""
    validations: Sequence[Validation] = ()
    """What the rankings were held against."""
    coverage: Sequence[CoverageRow] = ()
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    command: str = ""
    method: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


def render_gallery(data: Gallery) -> str:
    """One offline HTML file.

    Raises:
        ValueError: If a table row has not one cell a column.
    """
    cards = [*data.suspects, *(card for one in data.rankings for card in (*one.helpful, *one.harmful))]
    for card in cards:
        if len(card.cells) != len(data.columns):
            raise ValueError(f"{card.place} has {len(card.cells)} cells for {len(data.columns)} columns")
    style = "".join(read_asset(name) for name in STYLES)
    page = environment().get_template("gallery.html.j2")
    return page.render(
        data=data,
        style=Markup(style),
        policy=policy(style, []),
        created=_day(data.created),
        method=_flat(data.method),
        provenance=_flat(data.provenance),
        share=bar_share,
    )


def bar_share(card: Card, cards: Sequence[Card]) -> int:
    """A score over the largest of its list, in percent."""
    top = largest(one.score for one in cards)
    return round(100 * abs(card.score) / top) if top else 0
