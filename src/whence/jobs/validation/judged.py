"""What a check judges: a run over text or a valuation, opened and seen in one way.

judged(folder, settings, log, world)     loads model, data and questions, claims the folder, computes nothing long

              run over text                       valuation
data          its sequences                       its training examples
parts         its questions                       its validation set as one query, or each example of it
estimator     its curvature, or its solver        EK-FAC, or its solver
start         the folder of a checkpoint          what ``--model`` or ``--weights`` would name
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import nn

from whence.curvature import Curvature
from whence.curvature.inverse import Report
from whence.data.queries import QueryBatch
from whence.errors import InvalidSetting
from whence.evaluate.models import parameters_of
from whence.influence.query import Queries
from whence.jobs.log import Log
from whence.jobs.query import query_gradients
from whence.jobs.session import Session
from whence.jobs.settings import RunSettings
from whence.jobs.solved import refuse_unsolvable, solve, solved_by
from whence.jobs.summary import in_words
from whence.jobs.valuation.folder import Valuation
from whence.jobs.valuation.settings import ValueSettings
from whence.layers.lora import Params
from whence.models.hf import load_classifier, load_model
from whence.models.own import is_own, load_own
from whence.types import Data, Task
from whence.world import World


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A model, what it was trained on, what is asked of it, and the estimator whose scores are judged."""

    folder: Path
    model: nn.Module
    task: Task
    data: Data
    parts: Sequence[QueryBatch]
    questions: str
    """A digest of what is asked, however it is damped."""
    asked_in_words: Sequence[str]
    """Each question, for people."""
    unit: Literal["sequences", "examples"]
    """What the training data consist of, in words."""
    method: str
    seed: int
    params: Params | None
    log: Log
    fit: Callable[[], Curvature]
    """The fitted curvature; made when first called."""
    solve: Callable[[], tuple[Queries, list[Report]]] | None
    """The directions of all questions, at full rank, and how well they were solved; None where the curvature itself
    gives them."""
    start: Callable[[str], nn.Module]
    """The model as training began, from the ``start`` of a recipe."""

    @property
    def curvature(self) -> Curvature:
        """The fitted curvature, damped as asked."""
        return self.fit()

    def asked(self, curvature: Curvature) -> Queries:
        """The directions of the questions under a curvature, nothing cut off."""
        return query_gradients(curvature, self.model, self.parts, task=self.task, rank="full")

    def directions(self) -> tuple[Queries, list[Report]]:
        """Those of the estimator that is judged; no report of a fitted curvature."""
        return (self.asked(self.curvature), []) if self.solve is None else self.solve()


def judged(folder: Path, settings: RunSettings | ValueSettings, log: Log, world: World) -> Judged:
    """Open a run or a valuation.

    Raises:
        WhenceError: If a model, data or questions cannot be read, or the folder belongs to others.
    """
    if isinstance(settings, RunSettings):
        return _run(Session(folder, settings, log, world))
    return _valuation(Valuation(folder, settings, log))


def _run(session: Session) -> Judged:
    settings, parts = session.settings, session.parts  # what cannot be asked is refused before the folder is claimed
    session.open()
    refuse_unsolvable(session)
    fitted = settings.solver == "fitted"
    device = str(next(session.model.parameters()).device)
    return Judged(
        folder=session.folder,
        model=session.model,
        task=session.task,
        data=session.store,
        parts=parts,
        questions=session.questions_digest,
        asked_in_words=[in_words(query) for query in session.questions],
        unit="sequences",
        method=settings.method,
        seed=settings.seed,
        params=settings.params,
        log=session.log,
        fit=lambda: session.curvature,
        solve=None if fitted else lambda: solve(session),
        start=lambda start: load_model(start, dtype=settings.dtype, attention=settings.attention, device=device),
    )


def _valuation(run: Valuation) -> Judged:
    parts = run.parts
    run.open()
    return Judged(
        folder=run.folder,
        model=run.model,
        task=run.task,
        data=run.train.data,
        parts=parts,
        questions=run.questions_digest,
        asked_in_words=run.asked_in_words,
        unit="examples",
        method=run.method,
        seed=0,
        params=None,
        log=run.log,
        fit=lambda: run.curvature,
        solve=None if run.settings.solver == "fitted" else partial(_solved, run),
        start=lambda start: _start(run.settings.model, start),
    )


def _solved(run: Valuation) -> tuple[Queries, list[Report]]:
    solver, curvature, data = run.settings.solver, run.curvature, run.train.data
    return solved_by(solver, curvature, run.model, run.parts, task=run.task, data=data, log=run.log)


def _start(model: str, start: str) -> nn.Module:
    """Where the training of a valuation's model began.

    Raises:
        InvalidSetting: If it is told as a model of another kind, or is another one each time it is made.
    """
    if not is_own(model):
        if is_own(start) or start.endswith(".safetensors"):
            raise InvalidSetting(
                f"start = {start!r} is of a model made by a function, and {model} is a transformers classifier",
                hint="save the classifier before its training, head included, and name that folder as `start`",
            )
        return load_classifier(start)
    if start.endswith(".safetensors"):
        return load_own(model, start)
    if not is_own(start):
        raise InvalidSetting(
            f"start = {start!r} is neither weights nor a function, and {model} is made by a function",
            hint='start = "start.safetensors", its weights before training, or the function that gives them: '
            f'start = "{model}"',
        )
    made, again = load_own(start), load_own(start)
    if any(not t.equal(u) for t, u in zip(parameters_of(made).values(), parameters_of(again).values(), strict=True)):
        raise InvalidSetting(
            f"{start} gives other weights each time it is called, so nothing says which ones training began from",
            hint="save those as safetensors and name the file as `start`, or seed the function",
        )
    return made
