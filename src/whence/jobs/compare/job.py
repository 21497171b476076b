"""Rank agreement between two runs, question by question, and the documents that moved most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whence.counted import counted
from whence.errors import InvalidSetting
from whence.evaluate.statistics import kendall, spearman
from whence.jobs.compare.matched import Matched
from whence.jobs.compare.sides import key_of, made_with, open_sides, self_influence_of
from whence.jobs.compare.view import SELF, Agreement, Comparison, Mover, Side
from whence.jobs.opened import Run
from whence.jobs.summary import place

ENDS = 100
"""Documents at each end of either ranking among which movers are looked for: in between, ranks are mostly noise."""
TOPS = (10, 100, 1000)
MOST_KENDALL = 2**20
"""Documents up to which Kendall's τ is worth its time: two seconds a question."""


def compare(a: Path, b: Path | None = None, *, top: int = 5) -> Comparison:
    """Compare the scores of two runs, or of two sets of answers of one.

    Args:
        top: Documents shown that moved most, for each question.

    Raises:
        ArtifactError: If one is no run with scores.
        InvalidSetting: If they share no question or no document.
    """
    one, other = open_sides(a, b)
    matched = Matched.of(one.store, other.store)
    if len(matched) < 2:
        counts = [
            f"{run.folder}: {counted(run.store.documents, 'document')} of {run.settings.train}" for run in (one, other)
        ]
        raise InvalidSetting(
            f"they share {counted(len(matched), 'document')}\n  " + "\n  ".join(counts),
            hint="documents are matched by what they say: both runs must have read some of the same data",
        )
    asked: list[_Asked] = []
    if one.found is not None and other.found is not None:
        theirs = {key_of(query): number for number, query in reversed(list(enumerate(other.found.questions)))}
        for number, query in enumerate(one.found.questions):
            if key_of(query) in theirs:
                raws = one.raw(number), other.raw(theirs[key_of(query)])
                asked.append(_Asked.of(query.id, one.said(number), raws, matched, ends=2))
    own = self_influence_of(one), self_influence_of(other)
    if own[0] is not None and own[1] is not None:
        asked.append(_Asked.of(SELF, SELF, (own[0], own[1]), matched, ends=1))
    sizes = [len(question.x) for question in asked] or [0]
    tops = [k for k in TOPS if 2 * k <= min(sizes)] or [max(1, min(sizes) // 2)]
    settings = made_with(one), made_with(other)
    paths = (a, b) if b is not None else (one.answers.folder, other.answers.folder)
    names = list(dict.fromkeys([*settings[0], *settings[1]]))
    return Comparison(
        a=_side(one, paths[0], matched.only_a),
        b=_side(other, paths[1], matched.only_b),
        documents=len(matched),
        differ={
            name: (settings[0].get(name, "–"), settings[1].get(name, "–"))
            for name in names
            if settings[0].get(name) != settings[1].get(name)
        },
        same=tuple(name for name in names if settings[0].get(name) == settings[1].get(name)),
        agreements=tuple(_agreement(question, (one, other), top, tops) for question in asked),
        ends=_ends(max(sizes)),
        only_a=_only(one, other),
        only_b=_only(other, one),
    )


@dataclass(frozen=True)
class _Asked:
    """One question, or self-influence, over the documents that both scored: a filter may have left some out."""

    name: str
    said: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    documents: tuple[NDArray[np.int64], NDArray[np.int64]]
    """Their numbers in either run."""
    ends: int
    """2 where low scores mean as much as high ones; 1 of self-influence, whose low end says little."""

    @classmethod
    def of(
        cls, name: str, said: str, raws: tuple[NDArray[np.float64], NDArray[np.float64]], matched: Matched, *, ends: int
    ) -> _Asked:
        both = ~np.isnan(raws[0][matched.a]) & ~np.isnan(raws[1][matched.b])
        a, b = matched.a[both], matched.b[both]
        return cls(name, said, raws[0][a], raws[1][b], (a, b), ends)


def _agreement(asked: _Asked, runs: tuple[Run, Run], top: int, tops: Sequence[int]) -> Agreement:
    """How alike two rankings are; no number where they have fewer than two documents in common."""
    x, y, ends = asked.x, asked.y, asked.ends
    places = _places(x), _places(y)
    n = len(x)
    tau = float(kendall(x[None], y[None])[0]) if 2 <= n <= MOST_KENDALL else float("nan")
    overlaps = {}
    for k in tops:
        high = int(((places[0] <= k) & (places[1] <= k)).sum())
        low = int(((places[0] > n - k) & (places[1] > n - k)).sum())
        overlaps[k] = (high, low if ends == 2 else None)
    scales = [1.0, 1.0] if ends == 1 else [run.train_size for run in runs]
    near = _ends(n)
    at_an_end = np.minimum(*places) <= near
    if ends == 2:
        at_an_end |= np.maximum(*places) > n - near
    moved = np.abs(places[0] - places[1]) * at_an_end
    chosen = [int(k) for k in np.argsort(-moved, kind="stable")[:top] if moved[k] > 0]
    movers = [
        Mover(
            document=(int(asked.documents[0][k]), int(asked.documents[1][k])),
            rank=(int(places[0][k]), int(places[1][k])),
            score=(float(x[k] / scales[0]), float(y[k] / scales[1])),
            place=place(runs[0].row(int(asked.documents[0][k]))),
            text=str(runs[0].found_row(int(asked.documents[0][k]))["text"]),
        )
        for k in chosen
    ]
    rho = float(spearman(x[None], y[None])[0]) if n > 1 else float("nan")
    unit = "nats per copy" if ends == 2 else SELF
    return Agreement(asked.name, asked.said, n, _finite(rho), _finite(tau), overlaps, tuple(movers), unit)


def _places(raw: NDArray[np.float64]) -> NDArray[np.int64]:
    """Ranks from 1, the highest score; ties in order."""
    places = np.empty(len(raw), np.int64)
    places[np.argsort(-raw, kind="stable")] = np.arange(1, len(raw) + 1)
    return places


def _ends(documents: int) -> int:
    return min(ENDS, max(1, documents // 4))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _side(run: Run, path: Path, alone: NDArray[np.int64]) -> Side:
    names = [place(run.row(int(number))) for number in alone[:3]]
    about = run.answers.method if run.found is not None else run.settings.curvature
    return Side(str(path), run.store.documents, about, len(alone), tuple(names))


def _only(run: Run, other: Run) -> tuple[str, ...]:
    """Questions that this run alone was asked."""
    if run.found is None or other.found is None:
        return ()
    theirs = set(map(key_of, other.found.questions))
    return tuple(run.said(k) for k, query in enumerate(run.found.questions) if key_of(query) not in theirs)
