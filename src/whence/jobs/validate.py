"""Validate a run: its scores against what they approximate, for its own model, data and questions.

    pbrf      the proximal Bregman response of some training sequences     needs nothing beside the run
    retrain   leaving each of them out: retrained, warm start, … five gaps  needs the training recipe
    lds       random subsets retrained: the linear datamodeling score       needs the training recipe
    removal   each question's top share left out, beside a random one       needs the training recipe

Results lie in RUN/checks as JSON; retrained models too, and are used again by every check of the same recipe.
The run's own estimator is always judged beside gradient dot product and cosine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from whence.artifacts.atomic import write_text
from whence.curvature import Curvature
from whence.errors import InvalidSetting
from whence.evaluate.decomposition import decompose, ladder
from whence.evaluate.lds import lds
from whence.evaluate.pbrf import Responses, pbrf
from whence.evaluate.proximal import Objective
from whence.evaluate.removal import removal
from whence.evaluate.statistics import mean_over_queries, pearson, spearman
from whence.influence.query import Queries
from whence.jobs.chosen import Chosen
from whence.jobs.fit import fit
from whence.jobs.log import Log
from whence.jobs.protocol import HINT, Protocol, bank_of, described, note_on
from whence.jobs.query import query_gradients
from whence.jobs.refine import make_inverse, refined_queries
from whence.jobs.score import score, self_influence
from whence.jobs.session import Session
from whence.jobs.settings import RunSettings
from whence.jobs.solved import few_batches, solve
from whence.types import Data
from whence.world import World

Check = Literal["pbrf", "retrain", "lds", "removal"]
COUNTS: dict[Check, int] = {"pbrf": 16, "retrain": 8, "lds": 64, "removal": 8}
"""How many when not given: training sequences, left-out sequences, subsets, random removals."""


@dataclass(frozen=True)
class Validation:
    """What a check found, and where it was written."""

    check: Check
    path: Path
    result: Mapping[str, Any]
    lines: tuple[str, ...]

    def text(self) -> str:
        """For a person."""
        return "\n".join([*self.lines, f"written: {self.path}"])

    def to_dict(self) -> dict[str, Any]:
        """For a machine: what the file holds."""
        return dict(self.result)


def validate(
    folder: Path | str,
    settings: RunSettings,
    check: Check,
    *,
    count: int | None = None,
    recipe: Path | None = None,
    log: Log | None = None,
    world: World | None = None,
) -> Validation:
    """Run one check on a run's questions.

    Args:
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
    if recipe is not None and settings.adapter is not None:
        raise InvalidSetting(
            f"{check} retrains whole models, and this run's training was of an adapter", hint="`validate pbrf` does not"
        )
    if settings.curvature == "identity":
        raise InvalidSetting(
            "gradients without curvature have no damping, and so no proximal objective", hint="validate an ekfac run"
        )
    count = COUNTS[check] if count is None else count
    if count < 2:
        raise InvalidSetting(f"{count} are too few to correlate", hint="give --count 2 or more")
    protocol = None if recipe is None else Protocol.read(recipe)
    session = Session(Path(folder), settings, log, world)
    _ = session.parts
    session.open()
    if protocol is None:
        found, lines = _pbrf(session, count)
    else:
        found, lines = {"retrain": _retrain, "lds": _lds, "removal": _removal}[check](session, protocol, count)
    of = {"method": session.method, "damping": str(session.curvature.damping)}
    result = {"check": check, **of, "questions": session.questions_digest, **found}
    path = session.folder / "checks" / f"{check}.json"
    write_text(path, json.dumps(_plain(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return Validation(check, path, _plain(result), tuple(lines))


def _pbrf(session: Session, count: int) -> tuple[dict[str, Any], list[str]]:
    points = _drawn(session, count)
    truth = _solve(session, points)
    scores, seconds = estimates(session, Chosen(session.store, points))
    agreement = {name: _agreement(values, truth.response) for name, values in scores.items()}
    lines = [f"against the proximal Bregman response of {len(points)} sequences, {len(truth.response)} questions"]
    lines += _table(agreement, seconds | {"pbrf": truth.seconds})
    if not truth.converged:
        lines.append(
            f"not every solve reached the gradient norm: the largest is {float(truth.gradient_norms.max()):.2g}"
        )
    lines.append(f"asymmetry {truth.asymmetry:.2g} (0 where f moves linearly); control drift {truth.drift:.2g} nats")
    found = {"agreement": agreement, "seconds": seconds, "pbrf": truth.to_dict(), "scores": _lists(scores)}
    return found, lines


def _retrain(session: Session, protocol: Protocol, count: int) -> tuple[dict[str, Any], list[str]]:
    points, n = _drawn(session, count), session.store.sequences
    cold, warm = bank_of(session, protocol), bank_of(session, protocol, warm=True)
    solves = {name: _solve(session, points, objective=name, epsilon=1 / n) for name in ("loss", "bregman")}
    linearised, report = _linearised(session, Chosen(session.store, points))
    scores, seconds = estimates(session, Chosen(session.store, points))
    whole = {name: _spread(values, points, n) for name, values in (scores | {"linearised": linearised}).items()}
    own = session.method
    seeds = range(protocol.seeds)
    rungs = ladder(
        cold, warm, solves["loss"], solves["bregman"], whole["linearised"], whole[own], session.parts, seeds=seeds
    )
    steps = decompose(rungs)
    agreement = {name: _agreement(values, -rungs["retrained"]) for name, values in scores.items()}
    lines = [f"leaving out each of {len(points)} sequences", *_table(agreement, seconds), "", *steps.lines()]
    found = {
        "agreement": agreement,
        "points": points,
        "decomposition": steps.to_dict(),
        "linearised": report,
        "solves": {name: solve.to_dict() for name, solve in solves.items()},
        **described(cold, session, protocol),
    }
    return found, lines + note_on(found)


def _lds(session: Session, protocol: Protocol, count: int) -> tuple[dict[str, Any], list[str]]:
    bank = bank_of(session, protocol)
    scores, seconds = estimates(session, session.store)
    result = lds(scores, bank, session.parts, count=count, fraction=protocol.fraction, seeds=protocol.seeds)
    found = {**result.to_dict(), "seconds": seconds, **described(bank, session, protocol)}
    return found, result.lines() + note_on(found)


def _removal(session: Session, protocol: Protocol, count: int) -> tuple[dict[str, Any], list[str]]:
    bank = bank_of(session, protocol)
    scores, seconds = estimates(session, session.store)
    result = removal(scores, bank, session.parts, share=protocol.share, draws=count, seeds=protocol.seeds)
    found = {**result.to_dict(), "seconds": seconds, **described(bank, session, protocol)}
    return found, result.lines() + note_on(found)


def estimates(session: Session, data: Data) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Raw scores ``[q n]`` of the run's own estimator, gradient dot product and cosine, and seconds of each."""
    model, task, parts = session.model, session.task, session.parts

    def asked(curvature: Curvature) -> Queries:
        return query_gradients(curvature, model, parts, task=task, rank="full")

    def scored(curvature: Curvature, queries: Queries) -> Tensor:
        found = score(curvature, queries, data, model=model, task=task)
        assert found is not None
        return found.total

    fitted = session.settings.solver == "fitted"
    own, seconds_own = _timed(
        lambda: scored(session.curvature, asked(session.curvature) if fitted else solve(session)[0])
    )
    layers = session.settings.layers
    plain = fit(model, data, task=task, layers=layers, curvature="identity")
    dot, seconds_dot = _timed(lambda: scored(plain, asked(plain)))
    norms, seconds_norms = _timed(lambda: self_influence(plain, data, model=model, task=task))
    assert norms is not None
    name = session.method
    scores = {name: own, "gradient dot": dot, "cosine": dot / norms.sqrt().clamp_min(1e-30)}  # a row's scale is free
    return scores, {name: seconds_own, "gradient dot": seconds_dot, "cosine": seconds_dot + seconds_norms}


def _drawn(session: Session, count: int) -> list[int]:
    """Training sequences, drawn with the run's seed."""
    total = session.store.sequences
    if count > total:
        raise InvalidSetting(f"{count} sequences were asked for, and there are {total}", hint="lower --count")
    draw = np.random.default_rng(session.settings.seed)
    return sorted(int(one) for one in draw.choice(total, count, replace=False))


def _solve(
    session: Session, points: Sequence[int], *, objective: Objective = "bregman", epsilon: float | None = None
) -> Responses:
    curvature = session.curvature
    return pbrf(
        session.model,
        curvature.tracked(session.model),
        curvature.dampings,
        few_batches(session),
        session.task,
        session.parts,
        points,
        inverse=curvature,
        epsilon=epsilon,
        objective=objective,
        progress=partial(session.log.step, f"solve: {objective}"),
    )


def _linearised(session: Session, data: Data) -> tuple[Tensor, list[str]]:
    """Scores by conjugate gradient on the exact Gauss-Newton matrix, and how well it was solved."""
    curvature, model, task = session.curvature, session.model, session.task
    inverse = make_inverse("cg", curvature, model, task=task, data=few_batches(session))
    queries, reports = refined_queries(inverse, curvature, model, session.parts, task=task, rank="full")
    found = score(curvature, queries, data, model=model, task=task)
    assert found is not None
    return found.total, [str(report) for report in reports]


def _agreement(scores: Tensor, truth: Tensor) -> dict[str, Any]:
    """Pearson and Spearman over training sequences, a question, and averaged over questions."""
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
    return f"{mean['value']:.3f} [{mean['interval']['low']:.3f}, {mean['interval']['high']:.3f}]"


def _spread(values: Tensor, points: Sequence[int], count: int) -> Tensor:
    whole = torch.zeros(len(values), count, dtype=torch.float64)
    whole[:, list(points)] = values.double().cpu()
    return whole


def _lists(scores: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: values.tolist() for name, values in scores.items()}


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return call(), time.perf_counter() - began


def _plain(value: Any) -> Any:
    """JSON's types only: what is not a finite number is null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
