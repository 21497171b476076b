"""What the checks of a run found, in words and figures, read back from RUN/checks.

    for found in validated(run.folder, damping=str(curvature.damping), questions=session.questions_digest):
        found.text        what the scores were compared with
        found.figure      the run's own estimator and the baselines, each with its interval
        found.notes       what a reader should hold against it

Nothing there means that the run was not validated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from whence.counted import counted
from whence.errors import ArtifactError
from whence.jobs.protocol import FAR, note_on

NAMES = {
    "ekfac": "EK-FAC",
    "kfac": "K-FAC",
    "diagonal": "diagonal Fisher",
    "ekfac_refined": "EK-FAC refined",
    "cg": "CG",
    "astra": "ASTRA",
    "lissa": "LiSSA",
}
"""Estimators as people write them; the others are words already."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One estimator's figure. The ends of the interval are None where nothing varied."""

    method: str
    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        name = NAMES.get(self.method, self.method)
        if self.value is None:
            return f"{name} none"
        interval = "" if self.low is None or self.high is None else f" [{_said(self.low)}, {_said(self.high)}]"
        return f"{name} {_said(self.value)}{interval}"


def _said(value: float) -> str:
    """Two decimals, or what is left of a number that two decimals would make nothing of."""
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:.1g}"


@dataclass(frozen=True, slots=True)
class Validated:
    """One check's result."""

    check: str
    text: str
    """What the scores were compared with, as a sentence."""
    measure: str
    """What the figures are: a correlation, or nats."""
    rows: tuple[Measured, ...]
    """The run's own estimator first."""
    notes: tuple[str, ...] = ()

    @property
    def figure(self) -> str:
        """The figures as one line."""
        return f"{self.measure}: {', '.join(map(str, self.rows))}"


def validated(
    folder: Path, *, damping: str, questions: str, unit: Literal["sequences", "examples"] = "sequences"
) -> list[Validated]:
    """Every check in RUN/checks, in the order in which `whence validate` lists them.

    Args:
        damping: The rule of the report that asks, and ``questions`` the digest of its questions: a check that was
            made with others says so in its notes.
        unit: What the training data consist of, in words.

    Raises:
        ArtifactError: If a file there is not a check's.
    """
    found = []
    for check, read in _READERS.items():
        path = folder / "checks" / f"{check}.json"
        if not path.exists():
            continue
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            text, measure, rows, notes = read(result, unit)
            notes = [*_other(result, damping, questions), *notes]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            hint = f"delete it, or run `whence validate {check}` again"
            raise ArtifactError(f"{path} is not the result of a check: {error!r}", hint=hint) from None
        found.append(Validated(check, text, measure, tuple(rows), tuple(notes)))
    return found


Read = tuple[str, str, list[Measured], list[str]]


def _pbrf(result: Mapping[str, Any], unit: str) -> Read:
    solved = result["pbrf"]
    points, questions = len(solved["points"]), len(solved["response"])
    text = f"The proximal Bregman response of {points:,} training {unit}, {counted(questions, 'question')}."
    short = [] if solved["gradient_norm"]["converged"] else ["Not every solve reached the gradient norm asked for."]
    return text, "Pearson correlation", _agreement(result), short


def _retrain(result: Mapping[str, Any], unit: str) -> Read:
    text = f"Retraining without each of {len(result['points']):,} training {unit}."
    return text, "Pearson correlation", _agreement(result), _apart(result)


def _lds(result: Mapping[str, Any], unit: str) -> Read:
    of = result["settings"]
    text = (
        f"Retraining on {of['subsets']:,} random subsets of {of['fraction']:.0%} of the training {unit} "
        f"({counted(of['seeds'], 'seed')} each): the linear datamodeling score."
    )
    return text, "Spearman correlation", list(_means(result["lds"])), _apart(result)


def _removal(result: Mapping[str, Any], unit: str) -> Read:
    of, asked = result["settings"], "on the answer" if unit == "sequences" else "asked about"
    text = (
        f"Retraining without each question's top {of['removed']:,} of {of['examples']:,} training {unit}, beside "
        f"{of['random draws']:,} random removals: how much the loss {asked} rises above those."
    )
    return text, "nats", list(_means(result["above_random"])), _apart(result)


_READERS: dict[str, Callable[[Mapping[str, Any], str], Read]] = {
    "pbrf": _pbrf,
    "retrain": _retrain,
    "lds": _lds,
    "removal": _removal,
}


def _agreement(result: Mapping[str, Any]) -> list[Measured]:
    return list(_means({name: of["pearson"] for name, of in result["agreement"].items()}))


def _means(means: Mapping[str, Any]) -> Iterator[Measured]:
    """The run's own estimator comes first, as `jobs.validate` writes it."""
    for name, mean in means.items():
        interval = mean["interval"]
        ends = (None, None) if interval is None or interval["low"] == interval["high"] else interval.values()
        low, high, *_ = ends
        yield Measured(name, mean["value"], low, high)


def _other(result: Mapping[str, Any], damping: str, questions: str) -> list[str]:
    notes = []
    if result["damping"] != damping:
        notes.append(f"Checked at damping {result['damping']}, not at {damping} as here.")
    if result["questions"] != questions:
        notes.append("Checked with other questions than those here.")
    return notes


def _apart(result: Mapping[str, Any]) -> list[str]:
    apart = result["distance_from_model"]
    if apart is not None and apart <= FAR:
        return []
    return [f"{note[0].upper()}{note[1:]}." for note in note_on(result)]
