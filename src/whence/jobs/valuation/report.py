"""What a valuation leaves behind: tables of every training example, a JSON of the first of them, and the report."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from whence.artifacts.atomic import write_text
from whence.counted import counted
from whence.data.examples import Examples
from whence.jobs.report.provenance import coverage_rows, damping_in_words, solves_in_words, versions
from whence.jobs.solved import METHODS
from whence.jobs.validation.told import validated
from whence.jobs.valuation.folder import Valuation
from whence.jobs.valuation.settings import ValueSettings
from whence.jobs.valuation.values import agreement, predictions
from whence.layers.select import named
from whence.report.checked import Validation
from whence.report.gallery import Card, Gallery, Ranking, render_gallery
from whence.report.numbers import percent
from whence.report.png import data_uri

SMALL = 64
"""Pictures below so many pixels a side are drawn with their pixels as squares."""
MOST_COLUMNS = 24
"""Columns of a table that the report shows."""


def write_values(run: Valuation) -> None:
    """``values.csv``, every training example; ``values.json``, the first of them at both ends."""
    values = run.values
    _table(
        run.folder / "values.csv",
        ["query", "row", "place", "given", "raw", "per_copy"],
        (
            [query, row, run.train.place(row), _given(run, row), f"{raw:.9g}", f"{raw / values.train_size:.9g}"]
            for query, scores in enumerate(values.raw.tolist())
            for row, raw in enumerate(scores)
        ),
    )
    _json(run.folder / "values.json", values_dict(run))


def write_suspects(run: Valuation) -> None:
    """``suspects.csv``, every training label, most suspect first; ``suspects.json``, the first of them."""
    _table(
        run.folder / "suspects.csv",
        ["rank", "row", "place", "given", "suggested", "p_given", "p_suggested", "self_influence", "relative"],
        (
            [rank, *(one[name] for name in ("row", "place", "given", "suggested")), *_probabilities(one)]
            for rank, one in enumerate(suspect_rows(run, len(run.suspects)), 1)
        ),
    )
    _json(run.folder / "suspects.json", suspects_dict(run))


def values_dict(run: Valuation) -> dict[str, Any]:
    """The most helpful and most harmful examples of each query, for a machine."""
    values, top = run.values, run.settings.top
    queries = []
    for query, question in enumerate(run.asked_in_words):
        ends = {"helpful": values.helpful(top, query), "harmful": values.harmful(top, query)}
        beyond = {"out_of_range": values.out_of_range(query)}
        rows = {name: [_value_row(run, query, row) for row in found] for name, found in ends.items()}
        queries.append({"question": question, "loss": float(values.loss[query]), **beyond, **rows})
    solved = [one.to_dict() for one in values.solved]
    return {"out": str(run.folder), "train_size": values.train_size, "solved": solved, "queries": queries}


def suspects_dict(run: Valuation) -> dict[str, Any]:
    """The most suspect labels, for a machine."""
    return {
        "out": str(run.folder),
        "examples": len(run.suspects),
        "agreement": run.agreement,
        "suspects": suspect_rows(run, run.settings.top),
    }


def suspect_rows(run: Valuation, n: int) -> list[dict[str, Any]]:
    """The ``n`` most suspect labels: where each is, what it says and what the model would."""
    found, rows = run.suspects, []
    for row in found.top(n):
        p = (None, None) if found.probabilities is None else found.probabilities[row].tolist()
        rows.append(
            {
                "row": row,
                "place": run.train.place(row),
                "given": run.train.said(float(found.given[row])),
                "suggested": run.train.said(float(found.suggested[row])),
                "p_given": p[0],
                "p_suggested": p[1],
                "self_influence": float(found.self_influence[row]),
                "relative": None if found.relative is None else float(found.relative[row]),
            }
        )
    return rows


def write_gallery(run: Valuation, *, labels: bool) -> Path:
    """``report.html``, the rankings of a validation set; or (``labels``) ``suspects.html``."""
    path = run.folder / ("suspects.html" if labels else "report.html")
    write_text(path, render_gallery(gallery(run, labels=labels)))
    return path


def gallery(run: Valuation, *, labels: bool) -> Gallery:
    """Everything that the page says."""
    settings, train = run.settings, run.train
    coverage = named(run.model, list(run.curvature.blocks)).coverage
    name = Path(settings.model).name
    about = "their own labels" if labels else "the validation loss"
    command = f"whence self {run.folder} --labels" if labels else f"whence value {run.folder}"
    solves = [] if labels else solves_in_words(run.values.solved, run.curvature)
    unasked = ("valid", "each", "solver") if labels else ()
    return Gallery(
        title=f"Labels of {Path(settings.train).name}" if labels else f"Worth of {Path(settings.train).name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        kind=train.kind,
        sentence=f"{METHODS['ekfac' if labels else run.method]} influence of "
        f"{counted(len(train), 'training example')} on {about}, for the model {name}, "
        f"over {coverage.tracked} of its parameters.",
        rankings=[] if labels else _rankings(run),
        suspects=_suspects(run) if labels else [],
        columns=train.columns[:MOST_COLUMNS],
        quantity=not train.classes,
        facts=_facts(run, labels=labels),
        validations=[] if labels else _validations(run),
        coverage=coverage_rows(coverage),
        notes=[*solves, *run.curvature.notes, *coverage.notes, *_left_out(train)],
        warnings=run.warnings,
        command=command + _flags(run.settings, leave_out=unasked),
        method={key: value for key, value in asdict(settings).items() if value is not None and key not in unasked},
        provenance={
            "weights": run.sources["model"],
            "data": run.sources["data"],
            **versions(),
        },
    )


def _rankings(run: Valuation) -> list[Ranking]:
    values, top = run.values, run.settings.top
    valid, said = run.valid, predictions(run.model, run.valid.data, run.task)[0]
    rankings = []
    for query, question in enumerate(run.asked_in_words):
        ends = [values.helpful(top, query), values.harmful(top, query)]
        helpful, harmful = (
            [_card(run.train, row, run.said[0], float(values.per_copy[query, row])) for row in rows] for rows in ends
        )
        loss = float(values.loss[query])
        asked = _card(valid, query, said, loss) if run.settings.each or len(valid) == 1 else None
        rankings.append(Ranking(question=question, loss=loss, asked=asked, helpful=helpful, harmful=harmful))
    return rankings


def _validations(run: Valuation) -> list[Validation]:
    """Checks are of the influence on the validation loss; self-influence is judged by none."""
    return validated(
        run.folder, method=run.method, damping=run.damping, questions=run.questions_digest, unit="examples"
    )


def _suspects(run: Valuation) -> list[Card]:
    found = run.suspects
    cards = []
    for row in found.top(run.settings.top):
        other = None if found.probabilities is None else int(found.suggested[row])
        cards.append(_card(run.train, row, run.said[0], float(found.self_influence[row]), other))
    return cards


def _card(examples: Examples, row: int, said: Tensor, score: float, other: int | None = None) -> Card:
    """An example as it is shown.

    Args:
        other: The class to show beside the given one; the most probable of all when not given.
    """
    given = float(examples.data.targets[row].flatten()[0])
    p = said[row].softmax(0) if examples.classes else None
    model = float(said[row, 0]) if p is None else float(p.argmax() if other is None else other)
    shown: dict[str, Any] = {}
    if examples.pixels is not None:
        pixels = examples.pixels[row].permute(1, 2, 0).contiguous().numpy()
        shown = {
            "picture": data_uri(pixels[..., 0] if pixels.shape[2] == 1 else pixels),
            "small": max(pixels.shape[:2]) < SMALL,
        }
    elif examples.cells is not None:
        shown = {"cells": [f"{cell:.6g}" for cell in examples.cells[row, :MOST_COLUMNS].tolist()]}
    elif examples.texts:
        shown = {"text": examples.texts[row]}
    return Card(
        place=examples.place(row),
        given=examples.said(given),
        suggested=examples.said(model),
        score=score,
        p_given=None if p is None else float(p[int(given)]),
        p_suggested=None if p is None else float(p[int(model)]),
        **shown,
    )


def _facts(run: Valuation, *, labels: bool) -> list[tuple[str, str, str]]:
    agreed = "the model says the given label" if run.train.classes else "of the variance explained (R²)"
    facts = [
        ("Training examples", f"{len(run.train):,}", run.settings.train),
        ("On them", percent(run.agreement), agreed),
    ]
    if not labels:
        said, given = predictions(run.model, run.valid.data, run.task)
        facts.append(("Validation examples", f"{len(run.valid):,}", run.settings.valid or ""))
        if len(run.valid) > 1:
            facts.append(("On those", percent(agreement(said, given)), agreed))
    return [
        *facts,
        ("Damping", damping_in_words(run.curvature), "added to every eigenvalue before the curvature is inverted"),
    ]


def _left_out(train: Examples) -> list[str]:
    if len(train.columns) <= MOST_COLUMNS:
        return []
    return [f"the first {MOST_COLUMNS} of {len(train.columns)} columns are shown; all of them count"]


def _flags(settings: ValueSettings, *, leave_out: Sequence[str]) -> str:
    """The flags that differ from their defaults, as a shell reads them."""
    words = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value == field.default or field.name in leave_out:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        for one in value if isinstance(value, tuple) else (value,):
            words += [flag] if one is True else [flag, shlex.quote(str(one))]
    return "".join(f" {word}" for word in words)


def _value_row(run: Valuation, query: int, row: int) -> dict[str, Any]:
    raw = float(run.values.raw[query, row])
    per_copy = raw / run.values.train_size
    return {
        "row": row,
        "place": run.train.place(row),
        "given": _given(run, row),
        "raw": raw,
        "per_copy": per_copy,
    }


def _given(run: Valuation, row: int) -> str:
    return run.train.said(float(run.train.data.targets[row].flatten()[0]))


def _probabilities(one: dict[str, Any]) -> list[str]:
    values = (one["p_given"], one["p_suggested"], one["self_influence"], one["relative"])
    return ["" if value is None else f"{value:.6g}" for value in values]


def _table(path: Path, header: list[str], rows: Any) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _json(path: Path, value: dict[str, Any]) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
