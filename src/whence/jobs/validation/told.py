"""What the checks of a run found, read back from RUN/checks for people to see.

    for found in validated(run.folder, method="ekfac", damping="0.1", questions=session.questions_digest):
        found.text        what the scores were compared with
        found.rows        the run's own estimator and the baselines: mean, interval, every question
        found.notes       what a reader should hold against it

Nothing there means that the run was not validated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from whence.counted import counted
from whence.errors import ArtifactError
from whence.jobs.solved import SETTLED, Solved
from whence.jobs.validation.protocol import FAR, note_on
from whence.report.checked import Agreement, Estimate, Gap, Scatter, Validation

DRAWN = 6
"""Questions that have a scatter plot."""

Unit = Literal["sequences", "examples"]

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


def validated(folder: Path, *, method: str, damping: str, questions: str, unit: Unit = "sequences") -> list[Validation]:
    """Every check in RUN/checks, in the order in which `whence validate` lists them.

    Args:
        method: The curvature or solver of the report that asks, ``damping`` its rule, and ``questions`` the digest of
            its questions: a check that was made with others says so in its notes.
        unit: What the training data consist of, in words.

    Raises:
        ArtifactError: If a file there is not a check's.
    """
    found = []
    for check in _READERS:
        path = folder / "checks" / f"{check}.json"
        if not path.exists():
            continue
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            one = told(check, result, unit)
            found.append(replace(one, notes=(*_other(result, method, damping, questions), *one.notes)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            hint = f"delete it, or run `whence validate {check}` again"
            raise ArtifactError(f"{path} is not the result of a check: {error!r}", hint=hint) from None
    return found


def told(check: str, result: Mapping[str, Any], unit: Unit) -> Validation:
    """What the file of a check says."""
    return replace(_READERS[check](result, unit), asked=tuple(result["asked"]))


def _pbrf(result: Mapping[str, Any], unit: Unit) -> Validation:
    solved = result["pbrf"]
    points, questions = len(solved["points"]), len(solved["response"])
    rows = _agreement(result)
    own = next(iter(result["agreement"]))
    return Validation(
        name="pbrf",
        unit=unit.removesuffix("s"),
        text=f"The proximal Bregman response of {points:,} training {unit}, {counted(questions, 'question')}.",
        measure="Pearson correlation",
        second="Spearman",
        rows=rows,
        dot=f"a training {unit.removesuffix('s')}",
        scatters=_scatters(solved["response"], result["scores"][own]),
        settings=_settings(result),
        notes=_sentences(result),
    )


def _retrain(result: Mapping[str, Any], unit: Unit) -> Validation:
    steps, together = result["decomposition"], result["protocol"].get("together", 1)
    groups = "" if together == 1 else f"groups of {together:,} "
    return Validation(
        name="retrain",
        unit=unit.removesuffix("s"),
        text=f"Retraining without each of {len(result['points']):,} {groups}training {unit}.",
        measure="Pearson correlation",
        second="Spearman",
        rows=_agreement(result),
        dot=f"a training {unit.removesuffix('s')}" if together == 1 else f"a group of training {unit}",
        scatters=_scatters(steps["rungs"]["retrained"], steps["rungs"]["estimator"]),
        gaps=tuple(
            Gap(
                name=gap["gap"],
                above=gap["above"],
                below=gap["below"],
                difference=gap["difference_nats"],
                share=gap["share"],
                pearson=_estimate(gap["pearson"]),
                spearman=_estimate(gap["spearman"]),
            )
            for gap in steps["gaps"]
        ),
        rungs=tuple(Agreement(name, _estimate(mean)) for name, mean in steps["pearson_with_retraining"].items()),
        settings=_settings(result),
        notes=_sentences(result),
    )


def _lds(result: Mapping[str, Any], unit: Unit) -> Validation:
    of = result["settings"]
    return Validation(
        name="lds",
        unit=unit.removesuffix("s"),
        text=(
            f"Retraining on {of['subsets']:,} random subsets of {of['fraction']:.0%} of the training {unit} "
            f"({counted(of['seeds'], 'seed')} each): the linear datamodeling score."
        ),
        measure="Spearman correlation",
        rows=_rows(result, result["lds"], result["per_query"]),
        settings=_settings(result),
        notes=_sentences(result),
    )


def _removal(result: Mapping[str, Any], unit: Unit) -> Validation:
    of, rises = result["settings"], result["per_query"]
    asked = "on the answer" if unit == "sequences" else "asked about"
    above = {
        name: [rise - other for rise, other in zip(rises[name], rises["random"], strict=True)]
        for name in result["above_random"]
    }
    return Validation(
        name="removal",
        unit=unit.removesuffix("s"),
        text=(
            f"Retraining without each question's top {of['removed']:,} of {of['examples']:,} training {unit}, "
            f"beside {of['random draws']:,} random removals: how much the loss {asked} rises above those."
        ),
        measure="nats",
        rows=_rows(result, result["above_random"], above),
        settings=_settings(result),
        notes=_sentences(result),
    )


_READERS: dict[str, Callable[[Mapping[str, Any], Unit], Validation]] = {
    "pbrf": _pbrf,
    "retrain": _retrain,
    "lds": _lds,
    "removal": _removal,
}


def _agreement(result: Mapping[str, Any]) -> tuple[Agreement, ...]:
    of = result["agreement"]
    pearson = {name: one["pearson"] for name, one in of.items()}
    second = {name: one["spearman"] for name, one in of.items()}
    return _rows(result, pearson, {name: mean["per_query"] for name, mean in pearson.items()}, second)


def _rows(
    result: Mapping[str, Any],
    means: Mapping[str, Any],
    each: Mapping[str, Any],
    second: Mapping[str, Any] | None = None,
) -> tuple[Agreement, ...]:
    """The run's own estimator comes first, as `jobs.validation.job` writes it."""
    return tuple(
        Agreement(
            method=NAMES.get(name, name),
            mean=_estimate(mean),
            second=None if second is None else _estimate(second[name]),
            each=tuple(each[name]),
            seconds=result.get("seconds", {}).get(name),
        )
        for name, mean in means.items()
    )


def _estimate(mean: Mapping[str, Any]) -> Estimate:
    interval = mean["interval"] or {"low": None, "high": None}
    return Estimate(mean["value"], interval["low"], interval["high"])


def _scatters(measured: Sequence[Sequence[float]], estimated: Sequence[Sequence[float]]) -> tuple[Scatter, ...]:
    pairs = list(zip(measured, estimated, strict=True))[:DRAWN]
    return tuple(Scatter(k, tuple(zip(*pair, strict=True))) for k, pair in enumerate(pairs, start=1))


def _other(result: Mapping[str, Any], method: str, damping: str, questions: str) -> list[str]:
    notes = []
    if result["method"] != method:
        checked, here = (NAMES.get(name, name) for name in (result["method"], method))
        notes.append(f"Checked scores by {checked}, not by {here} as here.")
    if result["damping"] != damping:
        notes.append(f"Checked at damping {result['damping']}, not at {damping} as here.")
    if result["questions"] != questions:
        notes.append("Checked with other questions than those here.")
    return notes


def notes_on(result: Mapping[str, Any], *, far_only: bool = False) -> list[str]:
    """What a reader should hold against a check, as lines.

    Args:
        far_only: Leave out how near retraining came to the run's own model where it came near enough.
    """
    found = [f"{one}: {line}" if one else line for one, solve in _solves(result) for line in _short(solve)]
    found += [advice for one in result["solved"] if (advice := Solved.read(one).advice) is not None]
    found += [line for one in result.get("linearised", ()) for line in _rung(Solved.read(one))]
    if "distance_from_model" in result:
        apart = result["distance_from_model"]
        found += [] if far_only and apart is not None and apart <= FAR else note_on(result)
    return found


def _sentences(result: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{note[0].upper()}{note[1:]}." for note in notes_on(result, far_only=True))


def _settings(result: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Everything that the figures depend on, and how the solves went, as name and value."""
    found: dict[str, Any] = {"estimator": result["method"], "damping": result["damping"]}
    found |= {f"solve {k}": str(Solved.read(one)) for k, one in enumerate(result["solved"], 1)}
    for rung, solve in _solves(result):
        of = {**solve["settings"], "asymmetry": solve["asymmetry"], "control drift, nats": solve["control_drift"]}
        found |= {f"{rung}: {name}" if rung else name: value for name, value in of.items()}
    found |= {f"linearised {k}": str(Solved.read(one)) for k, one in enumerate(result.get("linearised", ()), 1)}
    protocol = dict(result.get("protocol", {}))
    found |= protocol.pop("recipe", {}) | protocol | result.get("settings", {})
    if result.get("distance_from_model") is not None:
        found["retraining on everything, from the model"] = result["distance_from_model"]
    return tuple((name.replace("_", " "), _written(value)) for name, value in found.items())


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_written(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_written, value))
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _solves(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The proximal solves that a check made, by the rung that they are for where there are several."""
    return [("", result["pbrf"])] if "pbrf" in result else list(result.get("solves", {}).items())


def _short(solve: Mapping[str, Any]) -> list[str]:
    norms = solve["gradient_norm"]
    if norms["converged"]:
        return []
    return [
        f"{norms['short']} of {counted(norms['solves'], 'solve')} stopped short, and what is compared is where they "
        f"stopped: a gradient of {norms['tolerance']:.2g} of the push was asked for, the median reached is "
        f"{norms['median']:.2g} and the largest {norms['largest']:.2g}; more --damping makes solves shorter"
    ]


def _rung(solved: Solved) -> list[str]:
    if solved.residual <= SETTLED:
        return []
    return [
        f"the linearised rung is not solved: conjugate gradient left a residual of {solved.residual:.2g} (worst "
        f"{solved.worst:.2g}), so that the gaps above and below it, linearisation and solver, are not theirs alone; "
        "more --damping mends that"
    ]
