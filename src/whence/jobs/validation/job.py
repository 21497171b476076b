"""Validate a run or a valuation: its scores against what they approximate, for its own model, data and questions.

    pbrf      the proximal Bregman response of some training sequences     needs nothing beside the run
    retrain   leaving each of them out: retrained, warm start, … five gaps  needs the training recipe
    lds       random subsets retrained: the linear datamodeling score       needs the training recipe
    removal   each question's top share left out, beside a random one       needs the training recipe

Results lie in RUN/checks as JSON; retrained models too, and are used again by every check of the same recipe.
The run's own estimator is always judged beside gradient dot product and cosine. Of a valuation, training examples take
the place of sequences, and its validation examples that of questions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from whence.artifacts.atomic import write_text
from whence.counted import counted
from whence.errors import InvalidSetting
from whence.evaluate.lds import lds
from whence.evaluate.removal import removal
from whence.jobs.chosen import Chosen
from whence.jobs.log import Log
from whence.jobs.settings import RunSettings
from whence.jobs.solved import Solved
from whence.jobs.validation.agreement import agreement_of, table
from whence.jobs.validation.estimates import estimates
from whence.jobs.validation.judged import Judged, judged
from whence.jobs.validation.leaving import leaving_out
from whence.jobs.validation.points import drawn, response
from whence.jobs.validation.protocol import HINT, Protocol, bank_of, described
from whence.jobs.validation.told import notes_on, told
from whence.jobs.valuation.settings import ValueSettings
from whence.report.check_page import render_check
from whence.world import World

Check = Literal["pbrf", "retrain", "lds", "removal"]
COUNTS: dict[Check, int] = {"pbrf": 16, "retrain": 8, "lds": 64, "removal": 8}
"""How many when not given: training sequences, left-out sequences, subsets, random removals."""


@dataclass(frozen=True)
class Validation:
    """What a check found, and where it was written."""

    check: Check
    path: Path
    page: Path
    """The same as a picture."""
    result: Mapping[str, Any]
    lines: tuple[str, ...]

    def text(self) -> str:
        """For a person."""
        return "\n".join([*self.lines, f"written: {self.path}", f"figures: {self.page}"])

    def to_dict(self) -> dict[str, Any]:
        """For a machine: what the file holds."""
        return dict(self.result)


def validate(
    folder: Path | str,
    settings: RunSettings | ValueSettings,
    check: Check,
    *,
    count: int | None = None,
    recipe: Path | None = None,
    log: Log | None = None,
    world: World | None = None,
) -> Validation:
    """Run one check on the questions of a run or of a valuation.

    Args:
        settings: Of a run over text, or of a valuation: they say what the folder is.
        count: Training sequences (``pbrf``, ``retrain``), subsets (``lds``) or random draws (``removal``).
        recipe: A `Protocol` file; every check but ``pbrf`` needs one.

    Raises:
        InvalidSetting: If the recipe is missing or not wanted, or the curvature is undamped; before any pass.
    """
    log, world = log or Log.silent(), world or World.current()
    if world.size > 1:
        raise InvalidSetting("a validation runs in one process", hint="call it without torchrun")
    if (recipe is None) != (check == "pbrf"):
        need = "solves near the run's own model and retrains nothing" if recipe else "retrains models"
        hint = "leave --recipe out" if recipe else f"give --recipe FILE.toml with {HINT}"
        raise InvalidSetting(f"{check} {need}", hint=hint)
    if isinstance(settings, RunSettings):
        _refuse_what_cannot_be_judged(settings, check)
    count = COUNTS[check] if count is None else count
    if count < (least := 1 if check == "removal" else 3):  # through two points any line is a perfect one
        raise InvalidSetting(f"--count {count} is too few for {check}", hint=f"give --count {least} or more")
    protocol = None if recipe is None else Protocol.read(recipe)
    of = judged(Path(folder), settings, log, world)
    if protocol is None:
        found, lines = _pbrf(of, count)
    else:
        found, lines = {"retrain": leaving_out, "lds": _lds, "removal": _removal}[check](of, protocol, count)
    judging = {"method": of.method, "damping": str(of.curvature.damping), "questions": of.questions}
    asked = {"check": check, **judging, "asked": list(of.asked_in_words)}
    result = _plain({**asked, **found})
    path = of.folder / "checks" / f"{check}.json"
    page = path.with_suffix(".html")
    write_text(path, json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    seen, solved = told(check, result, of.unit), [str(Solved.read(one)) for one in result["solved"]]
    write_text(page, render_check(seen, title=f"{of.folder.resolve().name}: validate {check}"))
    return Validation(check, path, page, result, (*lines, *solved, *notes_on(result)))


def _refuse_what_cannot_be_judged(settings: RunSettings, check: Check) -> None:
    if settings.adapter is not None and check != "pbrf":
        raise InvalidSetting(
            f"{check} retrains whole models, and this run's training was of an adapter", hint="`validate pbrf` does not"
        )
    if settings.curvature == "identity":
        raise InvalidSetting(
            "gradients without curvature have no damping, and so no proximal objective", hint="validate an ekfac run"
        )


def _pbrf(of: Judged, count: int) -> tuple[dict[str, Any], list[str]]:
    points = [one for (one,) in drawn(of, count)]
    truth = response(of, points)
    made = estimates(of, Chosen(of.data, points))
    agreement = {name: agreement_of(values, truth.response) for name, values in made.scores.items()}
    asked = counted(len(truth.response), "question")
    lines = [f"against the proximal Bregman response of {len(points)} {of.unit}, {asked}"]
    lines += table(agreement, made.seconds | {"pbrf": truth.seconds})
    lines.append(f"asymmetry {truth.asymmetry:.2g} (0 where f moves linearly); control drift {truth.drift:.2g} nats")
    found = {**made.to_dict(), "agreement": agreement, "pbrf": truth.to_dict(), "scores": _lists(made.scores)}
    return found, lines


def _lds(of: Judged, protocol: Protocol, count: int) -> tuple[dict[str, Any], list[str]]:
    bank = bank_of(of, protocol)
    made = estimates(of, of.data)
    result = lds(made.scores, bank, of.parts, count=count, fraction=protocol.fraction, seeds=protocol.seeds)
    return {**made.to_dict(), **result.to_dict(), **described(bank, of, protocol)}, result.lines()


def _removal(of: Judged, protocol: Protocol, count: int) -> tuple[dict[str, Any], list[str]]:
    bank = bank_of(of, protocol)
    made = estimates(of, of.data)
    result = removal(made.scores, bank, of.parts, share=protocol.share, draws=count, seeds=protocol.seeds)
    return {**made.to_dict(), **result.to_dict(), **described(bank, of, protocol)}, result.lines()


def _lists(scores: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: values.tolist() for name, values in scores.items()}


def _plain(value: Any) -> Any:
    """JSON's types only: what is not a finite number is null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
