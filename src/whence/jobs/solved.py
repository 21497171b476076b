"""Questions solved by another estimator than the fitted curvature, and how well that went.

    queries/<asked>/manifest.json    facts: solved, a `Solved` for each group of questions solved together

Their directions are kept whole, in the number type of the run, so that every view (ranking, tokens, layers) meets the
training text with the very same ones; nothing is cut, and nothing is scored again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from whence.artifacts.manifest import Manifest
from whence.counted import counted
from whence.curvature import Curvature
from whence.curvature.ggn import GaussNewton
from whence.curvature.inverse import TOO_LARGE, Inverse, Report, Solver
from whence.data.queries import QueryBatch
from whence.influence.query import Queries
from whence.jobs.chosen import few_batches
from whence.jobs.explain import full_rank_query
from whence.jobs.log import Log
from whence.jobs.query import load_queries, query_gradients, save_queries
from whence.jobs.refine import make_inverse, queries_in, refined_queries, solved_together
from whence.jobs.stream import device_of
from whence.layers.lora import Params
from whence.layers.select import track
from whence.types import Data, Task

if TYPE_CHECKING:
    from whence.jobs.session import Session

GRADIENTS = "gradients.safetensors"
METHODS = {
    "ekfac": "EK-FAC",
    "kfac": "K-FAC",
    "diagonal": "Diagonal-Fisher",
    "identity": "Gradient dot-product",
    "ekfac_refined": "Refined",
    "sampled": "Sampled-Fisher",
    "sampled_refined": "Refined sampled-Fisher",
    "cg": "Gauss-Newton (conjugate gradient)",
    "exact": "Exact Gauss-Newton",
    "astra": "Gauss-Newton (ASTRA)",
    "lissa": "Gauss-Newton (LiSSA)",
}
"""What a report calls an influence, by curvature or solver."""
SETTLED = 0.3
"""Relative residual up to which five products have all but reached the exact answer: see docs/damping.md."""


@dataclass(frozen=True, slots=True)
class Solved:
    """How well some questions were solved: what a report and a machine are told."""

    solver: str
    operator: str
    questions: int
    residual: float
    """‖∇f − (G + λI) x‖ / ‖∇f‖, the median over the questions."""
    worst: float
    steps: int
    products: float
    """Passes over all the training data; batches count by their share of it."""
    epochs: float
    """What the solve cost, in epochs of training: forward and backward of every sequence."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, report: Report) -> Solved:
        return cls(
            solver=report.inverse,
            operator=report.operator,
            questions=len(report.residuals),
            residual=float(report.residuals.median()),
            worst=float(report.residuals.max()),
            steps=int(report.iterations.max()),
            products=float(report.products),
            epochs=float(report.epochs),
            notes=report.notes,
        )

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Solved:
        """From what `to_dict` gave."""
        return cls(**{**kept, "notes": tuple(kept["notes"])})

    @property
    def advice(self) -> str | None:
        """What to do where the answer is far from solved: its scores may then be worse than the fitted curvature's."""
        if self.residual <= SETTLED:
            return None
        more = "" if self.solver == "cg" else ", or go on with --solver cg"
        return (
            f"a residual of {self.residual:.2g} is far from solved, and the scores may be worse than the fitted "
            f"curvature's own: raise --damping (10, then 100) until it is under {SETTLED}{more}"
        )

    def __str__(self) -> str:
        residual = f"relative residual {self.residual:.2g}" + (
            f" (worst {self.worst:.2g})" if self.questions > 1 else ""
        )
        return (
            f"{counted(self.questions, 'question')} solved by {self.solver}: {residual}, "
            f"{counted(self.products, 'product')}, {counted(self.epochs, 'epoch')} of training"
            + "".join(f"; {note}" for note in self.notes)
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON's types only."""
        return asdict(self) | {"notes": list(self.notes)}


def solve(session: Session) -> tuple[Queries, list[Report]]:
    """The directions of a session's questions, and how well they were solved; none of that by the fitted curvature.

    Raises:
        NumericalError: If the solver diverges, or cannot reach what it promises.
    """
    name, curvature, model, task = session.settings.solver, session.curvature, session.model, session.task
    if name == "fitted":
        batches = session.parts if session.answer is None else session.answer.batches
        return query_gradients(curvature, model, batches, task=task, rank=session.rank), []
    return solved_by(name, curvature, model, session.parts, task=task, data=session.store, log=session.log)


def solved_by(
    name: str,
    curvature: Curvature,
    model: nn.Module,
    parts: Sequence[QueryBatch],
    *,
    task: Task,
    data: Data,
    log: Log,
) -> tuple[Queries, list[Report]]:
    """The directions of some questions by a solver, whole, and how well it went; its cost is told before it begins."""
    inverse = make_inverse(name, curvature, model, task=task, data=few_batches(data))
    with announced(inverse, parts, log):
        return refined_queries(inverse, curvature, model, parts, task=task, rank="full")


@contextmanager
def announced(inverse: Inverse, parts: Sequence[QueryBatch], log: Log) -> Iterator[None]:
    """Say what solving some questions will take before it begins, and count it as it goes on."""
    assert isinstance(inverse, Solver)
    questions = queries_in(parts)
    groups = len(solved_together(questions, inverse.operator.parameters))
    log.note(
        f"solve: {inverse.name} takes {inverse.cost(questions, groups)} for {counted(questions, 'question')} "
        "(an epoch: forward and backward of all training data)"
    )
    began = inverse.spent

    def tell() -> None:
        done = math.floor(inverse.spent - began)
        log.step(STEP, done, max(done + 1, math.ceil(inverse.cost(questions, groups).epochs)))

    inverse.watch(tell)
    yield
    taken = max(1, math.ceil(inverse.spent - began))
    log.step(STEP, taken, taken)


STEP = "solve: epochs of training"


def refuse_unsolvable(session: Session) -> None:
    """Refuse a session's solver where it cannot take a matrix of this size: see `refuse_too_large`."""
    of = session.settings
    refuse_too_large(of.solver, session.model, of.layers, task=session.task, data=session.store, params=of.params)


def refuse_too_large(
    name: str, model: nn.Module, layers: Sequence[str], *, task: Task, data: Data, params: Params | None = None
) -> None:
    """Refuse a solver that cannot take a matrix of this size, before anything is fitted.

    Raises:
        InvalidSetting: As the solver would when its turn came.
    """
    if (refuse := TOO_LARGE.get(name)) is not None:
        refuse(GaussNewton(model, track(model, layers, params).layers, task, few_batches(data)))


def keep_queries(session: Session, path: Path) -> dict[str, Any]:
    """Solve and save; the facts of how it went. What is saved is forgotten, or reading it back would double it."""
    queries, reports = solve(session)
    save_queries(queries, path)
    return solved_facts(reports, session.log)


def solved_facts(reports: Sequence[Report], log: Log) -> dict[str, Any]:
    """What a manifest keeps of how well questions were solved, told as well; nothing of the fitted curvature."""
    solved = [Solved.of(report) for report in reports]
    for one in solved:
        log.note(str(one))
        if one.advice is not None:
            log.note(one.advice)
    return {"solved": [one.to_dict() for one in solved]} if solved else {}


def read_solved(folder: Path) -> tuple[Solved, ...]:
    """How the queries in a folder were solved; nothing where the fitted curvature did it.

    Raises:
        ArtifactError: If the folder is not one of queries.
    """
    kept: Sequence[Mapping[str, Any]] = Manifest.read(folder, kind="queries").facts.get("solved", [])
    return tuple(Solved.read(one) for one in kept)


def whole_query(
    session: Session, queries: str | None, curvature: Curvature, parts: Sequence[QueryBatch], row: int
) -> Queries:
    """One question's direction at full rank: the fitted curvature's, made again, or the one that its solver left.

    Args:
        queries: The folder that holds the solver's, under ``queries/``; None where the fitted curvature solves.
    """
    if queries is None:
        return full_rank_query(curvature, session.model, parts, session.task)
    path = session.folder / "queries" / queries / GRADIENTS
    return load_queries(path, device_of(session.model)).select([row])
