"""What a report says, as plain frozen data: every field is a number, a string, a list or a dict of them.

`dataclasses.asdict` gives JSON; no torch is needed. Every influence is in **nats per copy** unless its name says
``raw``: the change of the measurement when one more copy is added to the training data. So the parts of a document
(`Doc.by_token`, `Doc.by_layer`, `Doc.heat`) add up to its `Doc.score_per_copy`.

Position or token? A value of *position* ``t`` belongs to the weight gradient that arises there, where token ``t + 1``
is predicted. `by_token`, `heat` and `output_tokens` are indexed by position and are drawn on token ``t + 1``;
`input_tokens` is indexed by the token itself and drawn on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TAIL_POINTS = 400
"""Points kept of a tail: more than a figure has pixels to show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Doc:
    """One training document and its influence on one question."""

    document: int
    source: str
    row: int
    tokens: list[str]
    """Surface text of each token (`pieces.surface`); undecodable bytes as ``<0xE2>`` or as surrogate escapes."""
    score_per_copy: float
    score_raw: float
    percentile: float
    """Share of all documents with a lower score, in percent, 0 to 100."""
    cosine: float | None = None
    self_normalised: float | None = None
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
class Tail:
    """Positive influences, largest first, and the rank each of the kept ones has among all documents."""

    values: list[float]
    ranks: list[int]
    """1 is the largest; ``ranks[k] / n`` is the share of documents with at least ``values[k]``."""
    n: int
    positive: int
    share_top_1pct: float
    """Share of the sum of positive influence held by the highest-scoring 1 % of all n documents, 0 to 1."""

    @classmethod
    def of(cls, scores: Iterable[float]) -> Tail:
        """The tail of all documents' scores, thinned evenly in log rank.

        Example:
            >>> tail = Tail.of([3.0, -1.0, 1.0])
            >>> tail.values, tail.ranks, tail.n, tail.share_top_1pct
            ([3.0, 1.0], [1, 2], 3, 0.75)
        """
        every = np.asarray(list(scores) if not isinstance(scores, np.ndarray) else scores, dtype=np.float64)
        high = np.sort(every[every > 0])[::-1]
        if not len(high):
            return cls(values=[], ranks=[], n=len(every), positive=0, share_top_1pct=0.0)
        keep = np.unique(np.geomspace(1, len(high), TAIL_POINTS).round().astype(int)) - 1
        top = high[: -(-len(every) // 100)]
        return cls(
            values=[float(f"{value:.5g}") for value in high[keep]],
            ranks=[int(rank) + 1 for rank in keep],
            n=len(every),
            positive=len(high),
            share_top_1pct=float(top.sum() / high.sum()),
        )


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
    rather_than: str | None = None
    planted: int | None = None
    """The document known to hold the answer, listed or not, as in the demo; None where nothing was planted."""
    out_of_range: int = 0
    """Documents with a score above −log p(answer), which no change of the model can reach."""
    layers: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    """Names of the rows of `Doc.heat`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CoverageRow:
    """One kind of parameter: whether gradients through it were counted, and if not, why."""

    kind: str
    parameters: int
    share: float
    """Of all parameters, 0 to 1."""
    tracked: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecallRow:
    """How often one method put the planted document first, or among the first ten."""

    method: str
    at_1: float
    at_10: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Recall:
    """The demo's table; the method of this report comes first."""

    rows: list[RecallRow]
    questions: int
    """Questions with a planted answer that the rates are taken over."""
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """What a sceptical reader asks first. A field left empty is shown as not recorded."""

    dtype: str = ""
    damping: str = ""
    noise: str = ""
    """The estimate of label-sampling noise, as a sentence."""
    documents: int = 0
    sequences: int = 0
    tokens: int = 0
    windowed: int = 0
    """Documents longer than the context, read as several windows whose scores were added."""
    unscored: int = 0
    """Documents in which no token carried loss."""
    limit: int | None = None
    """The documents that were to be read of the training data at most; None when all were."""


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
