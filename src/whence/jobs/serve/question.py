"""A question as it is shown: what was asked, said in a line or whole."""

from __future__ import annotations

from dataclasses import dataclass

from whence.data.queries import Query
from whence.jobs.opened import Answers
from whence.jobs.serve.order import Ranking

LONG = 160
"""Characters beyond which a question is set in small type."""
MOST = 4000
"""Characters shown of a prompt, or of a message: its end, which is what an answer continues."""
SHORT = 200
"""Characters of a prompt in a list."""


@dataclass(frozen=True, slots=True)
class Said:
    """A question in a list."""

    number: int
    id: str
    prompt: str
    completion: str
    rather_than: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on its own page."""

    said: Said
    measurement: float
    """The log-probability of its answer, or the difference of two, in nats."""
    messages: list[tuple[str, str]]
    """Role and content of each turn before the answer, where it is a chat."""
    cut: bool
    """Whether only the end of its prompt is shown."""
    metadata: list[tuple[str, str]]

    @property
    def long(self) -> bool:
        return len(self.said.prompt) + len(self.said.completion) > LONG


@dataclass(frozen=True, slots=True)
class Shape:
    """A ranking in a few numbers."""

    documents: int
    positive: int
    negative: int
    share_top: float
    """What the top 1 % of all documents hold of what raises the answer."""


def said_of(answers: Answers, number: int) -> Said:
    """A question in a line: of a long prompt, its end.

    Raises:
        InvalidSetting: If there is no such question.
    """
    query = answers.question(number)
    return _said(query, number, SHORT)


def asked_of(answers: Answers, number: int) -> Asked:
    """A question in full.

    Raises:
        InvalidSetting: If there is no such question.
    """
    query = answers.question(number)
    chat = query.parts[0].chat
    turns = [] if chat is None else chat.messages[: chat.given]
    return Asked(
        said=_said(query, number, MOST),
        measurement=answers.measurement[number],
        messages=[(str(turn.get("role", "")), _end(str(turn.get("content", "")), MOST)) for turn in turns],
        cut=len(query.prompt) > MOST,
        metadata=[(str(name), str(value)) for name, value in query.metadata.items()],
    )


def shape_of(ranking: Ranking) -> Shape:
    """How many documents raise and lower an answer, and how unevenly."""
    values = ranking.per_copy[ranking.lowest]
    positive = values[values > 0]
    top = -(-len(values) // 100)
    held = ranking.per_copy[ranking.highest[:top]].clip(min=0).sum()
    return Shape(
        len(values), len(positive), int((values < 0).sum()), float(held / positive.sum()) if len(positive) else 0.0
    )


def _said(query: Query, number: int, most: int) -> Said:
    than = query.rather_than
    return Said(
        number,
        query.id,
        _end(query.prompt, most),
        _start(query.completion, most),
        None if than is None else _start(than, most),
    )


def _end(text: str, most: int) -> str:
    return text if len(text) <= most else f"…{text[-most:]}"


def _start(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
