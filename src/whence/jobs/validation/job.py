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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from whence.artifacts.atomic import write_text
from whence.counted import counted
from whence.errors import InvalidSetting
from whence.evaluate.decomposition import decompose, ladder
from whence.evaluate.lds import lds
from whence.evaluate.pbrf import Responses, pbrf
from whence.evaluate.proximal import Objective
from whence.evaluate.removal import removal
from whence.evaluate.statistics import mean_over_queries, pearson, spearman
from whence.jobs.chosen import Chosen, few_batches
from whence.jobs.log import Log
from whence.jobs.settings import RunSettings
from whence.jobs.validation.estimates import estimates, linearised
from whence.jobs.validation.judged import Judged, judged
from whence.jobs.validation.protocol import HINT, Protocol, bank_of, described, note_on
from whence.jobs.validation.told import told
from whence.jobs.valuation.folder import ValueSettings
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
    if count < 2:
        raise InvalidSetting(f"{count} are too few to correlate", hint="give --count 2 or more")
    protocol = None if recipe is None else Protocol.read(recipe)
    of = judged(Path(folder), settings, log, world)
    if protocol is None:
        found, lines = _pbrf(of, count)
    else:
        found, lines = {"retrain": _retrain, "lds": _lds, "removal": _removal}[check](of, protocol, count)
    asked = {"check": check, "method": of.method, "damping": str(of.curvature.damping), "questions": of.questions}
    result = _plain({**asked, **found})
    path = of.folder / "checks" / f"{check}.json"
    page = path.with_suffix(".html")
    write_text(path, json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(page, render_check(told(check, result, of.unit), title=f"{of.folder.name}: validate {check}"))
    return Validation(check, path, page, result, tuple(lines))


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
    points = _drawn(of, count)
    truth = _solve(of, points)
    scores, seconds = estimates(of, Chosen(of.data, points))
    agreement = {name: _agreement(values, truth.response) for name, values in scores.items()}
    asked = counted(len(truth.response), "question")
    lines = [f"against the proximal Bregman response of {len(points)} {of.unit}, {asked}"]
    lines += _table(agreement, seconds | {"pbrf": truth.seconds})
    lines += _unreached(truth)
    lines.append(f"asymmetry {truth.asymmetry:.2g} (0 where f moves linearly); control drift {truth.drift:.2g} nats")
    found = {"agreement": agreement, "seconds": seconds, "pbrf": truth.to_dict(), "scores": _lists(scores)}
    return found, lines


def _retrain(of: Judged, protocol: Protocol, count: int) -> tuple[dict[str, Any], list[str]]:
    points, n = _drawn(of, count), of.data.sequences
    cold, warm = bank_of(of, protocol), bank_of(of, protocol, warm=True)
    solves = {name: _solve(of, points, objective=name, epsilon=1 / n) for name in ("loss", "bregman")}
    linear, report = linearised(of, Chosen(of.data, points))
    scores, seconds = estimates(of, Chosen(of.data, points))
    spread = {name: _spread(values, points, n) for name, values in (scores | {"linearised": linear}).items()}
    two = spread["linearised"], spread[of.method]
    rungs = ladder(cold, warm, solves["loss"], solves["bregman"], *two, of.parts, seeds=range(protocol.seeds))
    steps = decompose(rungs)
    agreement = {name: _agreement(values, -rungs["retrained"]) for name, values in scores.items()}
    lines = [f"leaving out each of {len(points)} {of.unit}", *_table(agreement, seconds), "", *steps.lines()]
    found = {
        "agreement": agreement,
        "seconds": seconds,
        "points": points,
        "decomposition": steps.to_dict(),
        "linearised": report,
        "solves": {name: solve.to_dict() for name, solve in solves.items()},
        **described(cold, of, protocol),
    }
    lines += [f"{name}: {line}" for name, solve in solves.items() for line in _unreached(solve)]
    return found, lines + note_on(found)


def _lds(of: Judged, protocol: Protocol, count: int) -> tuple[dict[str, Any], list[str]]:
    bank = bank_of(of, protocol)
    scores, seconds = estimates(of, of.data)
    result = lds(scores, bank, of.parts, count=count, fraction=protocol.fraction, seeds=protocol.seeds)
    found = {**result.to_dict(), "seconds": seconds, **described(bank, of, protocol)}
    return found, result.lines() + note_on(found)


def _removal(of: Judged, protocol: Protocol, count: int) -> tuple[dict[str, Any], list[str]]:
    bank = bank_of(of, protocol)
    scores, seconds = estimates(of, of.data)
    result = removal(scores, bank, of.parts, share=protocol.share, draws=count, seeds=protocol.seeds)
    found = {**result.to_dict(), "seconds": seconds, **described(bank, of, protocol)}
    return found, result.lines() + note_on(found)


def _drawn(of: Judged, count: int) -> list[int]:
    """Of the training data, drawn with the run's seed."""
    total = of.data.sequences
    if count > total:
        raise InvalidSetting(f"{count} {of.unit} were asked for, and there are {total}", hint="lower --count")
    draw = np.random.default_rng(of.seed)
    return sorted(int(one) for one in draw.choice(total, count, replace=False))


def _solve(
    of: Judged, points: Sequence[int], *, objective: Objective = "bregman", epsilon: float | None = None
) -> Responses:
    curvature = of.curvature
    return pbrf(
        of.model,
        curvature.tracked(of.model),
        curvature.dampings,
        few_batches(of.data),
        of.task,
        of.parts,
        points,
        inverse=curvature,
        epsilon=epsilon,
        objective=objective,
        progress=partial(of.log.step, f"solve: {objective}, gradients at most"),
    )


def _unreached(truth: Responses) -> list[str]:
    if truth.converged:
        return []
    return [f"not every solve reached the gradient norm: the largest is {float(truth.gradient_norms.max()):.2g}"]


def _agreement(scores: Tensor, truth: Tensor) -> dict[str, Any]:
    """Pearson and Spearman over training examples, a question, and averaged over questions."""
    a, b = scores.double().cpu().numpy(), truth.double().cpu().numpy()
    found = {"pearson": pearson(a, b), "spearman": spearman(a, b)}
    return {
        name: {**mean_over_queries(values).to_dict(), "per_query": values.tolist()} for name, values in found.items()
    }


def _table(agreement: Mapping[str, Any], seconds: Mapping[str, float]) -> list[str]:
    width = max(map(len, [*agreement, *seconds]))
    lines = [f"{'':<{width}}  {'Pearson':<24}{'Spearman':<24}seconds"]
    for name in [*agreement, *(name for name in seconds if name not in agreement)]:
        cells = [_cell(agreement[name][kind]) if name in agreement else "" for kind in ("pearson", "spearman")]
        lines.append(f"{name:<{width}}  {cells[0]:<24}{cells[1]:<24}{seconds[name]:.1f}")
    return lines


def _cell(mean: Mapping[str, Any]) -> str:
    if mean["value"] is None:
        return "none"
    low, high = mean["interval"]["low"], mean["interval"]["high"]
    return f"{mean['value']:.3f}" + ("" if low == high else f" [{low:.3f}, {high:.3f}]")  # nothing varied


def _spread(values: Tensor, points: Sequence[int], count: int) -> Tensor:
    whole = torch.zeros(len(values), count, dtype=torch.float64)
    whole[:, list(points)] = values.double().cpu()
    return whole


def _lists(scores: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: values.tolist() for name, values in scores.items()}


def _plain(value: Any) -> Any:
    """JSON's types only: what is not a finite number is null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
