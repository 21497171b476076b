"""What a report says, as plain frozen data: every field is a number, a string, a list or a dict of them.

`dataclasses.asdict` gives JSON; no torch is needed. Every influence is in **nats per copy** unless its name says
``raw``: the change of the measurement when one more copy is added to the training data. So the parts of a document
(`Doc.by_token`, `Doc.by_layer`, `Doc.heat`, `Doc.by_answer`) add up to its `Doc.score_per_copy`.

Position or token? A value of *position* ``t`` belongs to the weight gradient that arises there, where token ``t + 1``
is predicted. `by_token`, `heat` and `output_tokens` are indexed by position and are drawn on token ``t + 1``;
`input_tokens` is indexed by the token itself and drawn on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from whence.report.shape import Against, GroupTotals, Matrix, Tail
from whence.report.trust import CoverageRow, Lost, Recall, Swept, Trust, WouldKeep


@dataclass(frozen=True, kw_only=True, slots=True)
class Shared:
    """Words that a document and a question have in common, in one order: token ranges, ends left out."""

    document: tuple[int, int]
    question: tuple[int, int]
    words: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Doc:
    """One training document and its influence on one question."""

    document: int
    source: str
    row: int
    """From 0, as the store counts."""
    place: str
    """Where it is, as a person counts: ``train.jsonl, line 12``."""
    hash: str = ""
    """Of what it says: exact copies share it."""
    tokens: list[str]
    """Surface text of each token (`pieces.surface`); undecodable bytes as ``<0xE2>`` or as surrogate escapes."""
    score_per_copy: float
    score_raw: float
    percentile: float
    """Share of all documents with a lower score, in percent, 0 to 100."""
    cosine: float | None = None
    self_normalised: float | None = None
    self_influence: float | None = None
    bm25_rank: int | None = None
    """Its place among all documents in a search for the question's own words, from 1; None where not searched."""
    quotes_answer: bool = False
    """Whether it holds the answer word for word."""
    shared: list[Shared] = field(default_factory=list)
    """Longest first; tokens of `Question.tokens`."""
    times: int = 1
    """Documents that say this, itself included: exact copies anywhere in the data, near ones among those shown."""
    copy_of: int | None = None
    """The document that it is folded under, as a copy; None where it stands for itself."""
    similarity: float = 1.0
    """To that document: Jaccard similarity of their runs of five words."""
    spurious: bool = False
    """The paper's flag: ‖a‖₂ / ‖a‖₁ > 2/3, one token carries the score."""
    sequences: int = 1
    """Windows that the document was read in; their scores were added."""
    windows: list[int] = field(default_factory=list)
    """Token at which each window but the first begins."""
    scored: list[bool] = field(default_factory=list)
    """Which tokens carried loss; empty means all but the first."""
    by_token: list[float] = field(default_factory=list)
    """Of position t, drawn on token t + 1. As many as tokens, or one fewer; empty when not computed."""
    by_answer: list[float] = field(default_factory=list)
    """One a token of `Question.answer`, which add up to the score; empty when not computed."""
    by_layer: list[float] = field(default_factory=list)
    """One a layer of `Question.layers`; empty when not computed."""
    heat: list[list[float]] = field(default_factory=list)
    """Layer groups × positions, rows named by `Question.groups`; empty when not computed."""
    output_tokens: list[float] | None = None
    """Of position t: how the log-probability of token t + 1 changes along the question's direction."""
    input_tokens: list[float] | None = None
    """Of token t: the same derivative of the gradient in the scale of its embedding."""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerToken:
    """One scored token of a question: a measurement of its own, and a part of the question's."""

    text: str
    log_p: float
    """Its log-probability after all before it; with a minus where it is the alternative's. They add up to f."""
    position: int | None
    """Its place in `Question.tokens`; None where it is the alternative's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One query: what was asked, what was answered, and the documents at both ends of the ranking."""

    id: str
    prompt: str
    completion: str
    tokens: list[str]
    scored: list[bool]
    measurement: float
    """log p(completion | prompt) in nats; of a contrastive question, the difference of the two."""
    tail: Tail
    raises: list[Doc]
    """Highest score first."""
    lowers: list[Doc]
    """Lowest score first."""
    answer: list[AnswerToken] = field(default_factory=list)
    """What `Doc.by_answer` is split into; empty when not computed."""
    leaders: list[Doc] = field(default_factory=list)
    """Documents at neither end that lead for a token of the answer; they have text and scores, and no other parts."""
    metadata: dict[str, Any] = field(default_factory=dict)
    noise: float | None = None
    """Standard deviation of a score, in nats per copy, that the sampling of labels is estimated to leave."""
    swept: list[Swept] = field(default_factory=list)
    lost: Lost | None = None
    """What a filter lost; None where nothing was filtered."""
    would_keep: WouldKeep | None = None
    """What a filter would have kept; None where one was used, or nothing was searched."""
    totals: list[GroupTotals] = field(default_factory=list)
    against: list[Against] = field(default_factory=list)
    rather_than: str | None = None
    planted: int | None = None
    """The document known to hold the answer, listed or not, as in the demo; None where nothing was planted."""
    out_of_range: int = 0
    """Documents with a score above −log p(answer), which no change of the model can reach."""
    layers: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    """Names of the rows of `Doc.heat`: depth and kind, ``3 attention``."""
    group_of: list[int] = field(default_factory=list)
    """Which of them each of `layers` is in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportData:
    """Everything in one report. `html.render` turns it into a file."""

    title: str
    created: str
    questions: list[Question]
    sentence: str = ""
    """Method, model and data in one sentence, for the head of the page."""
    method: dict[str, Any] = field(default_factory=dict)
    """Every setting, in the order to show them."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Digests of weights, tokenizer, data and artifacts; versions; machine. May be nested."""
    command: str = ""
    """What reproduces this report, for a shell."""
    coverage: list[CoverageRow] = field(default_factory=list)
    trust: Trust = field(default_factory=Trust)
    warnings: list[str] = field(default_factory=list)
    """What a reader must not miss; shown above everything."""
    notes: list[str] = field(default_factory=list)
    recall: Recall | None = None
    matrices: list[Matrix] = field(default_factory=list)
    """Groups of questions against groups of documents, one a grouping of the documents."""
