"""What a sceptical reader asks of a report: what was counted, how exactly, and what it was held against."""

from __future__ import annotations

from dataclasses import dataclass, field

from whence.report.checked import Validation


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
class Swept:
    """The same documents ranked at another damping: no refit, the question solved again."""

    damping: str
    spearman: float | None
    """Rank agreement with the report's own damping over the documents shown."""
    first_ten: int
    """Of its ten highest, how many are among the report's ten highest."""
    of: int
    """Ten, or as many as raise the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """What a filter lost of one question's top, estimated from a random sample of all documents."""

    k: int
    """The best of the documents kept: as many as are shown, or as raise the answer."""
    recall: float | None
    low: float
    high: float
    exact: bool
    """Whether nothing had to be estimated."""
    kept: int
    left_out: int
    drawn: int
    """Of those left out, the sampled ones."""
    above: int
    """How many of them score as high as the k-th best kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WouldKeep:
    """What a filter would have kept of one question's top, where nothing was filtered."""

    of: int
    """The documents shown that raise the answer."""
    held: list[int]
    """How many of them are among its first documents, for each of `Trust.firsts`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckRow:
    """One line of ``whence check``."""

    name: str
    verdict: str
    """``ok``; ``note``, worth knowing; ``wrong``, the scores would not mean what they say."""
    text: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """What a sceptical reader asks first. A field left empty is shown as not recorded."""

    dtype: str = ""
    damping: str = ""
    noise: str = ""
    """The estimate of label-sampling noise, as a sentence."""
    validations: list[Validation] = field(default_factory=list)
    checks: list[CheckRow] = field(default_factory=list)
    documents: int = 0
    sequences: int = 0
    tokens: int = 0
    windowed: int = 0
    """Documents longer than the context, read as several windows whose scores were added."""
    unscored: int = 0
    """Documents in which no token carried loss."""
    filter: str = ""
    """The filter whose first documents each question was scored on; empty where all were scored."""
    filter_kept: int = 0
    """How many that filter was to keep of each question."""
    filter_bias: str = ""
    """What such a filter favours, as the rest of a sentence."""
    firsts: list[tuple[str, int]] = field(default_factory=list)
    """How many documents TF-IDF would have kept, as a share in words and as a number: columns of `WouldKeep.held`."""
    limit: int | None = None
    """The documents that were to be read of the training data at most; None when all were."""
