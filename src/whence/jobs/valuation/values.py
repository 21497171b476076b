"""What training examples are worth: their influence on the validation loss, and on themselves under their labels.

    f = −(1/V) Σ L(z_v)     the validation set as one query, or −L(z_v) of each of its examples

A positive score is helpful: training more on the example would lower the validation loss. A wrong label shows from
within too: self-influence is high where the model could not learn an example from the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.artifacts.fingerprint import model_fingerprint
from whence.artifacts.folder import claim, finished, mark_finished
from whence.artifacts.manifest import Manifest
from whence.counted import counted
from whence.curvature import Curvature
from whence.curvature.inverse import Report
from whence.data.queries import QueryBatch
from whence.data.relabelled import Relabelled
from whence.errors import InvalidSetting
from whence.influence.query import Queries
from whence.jobs.log import Log
from whence.jobs.out_of_range import out_of_range
from whence.jobs.query import load_queries, query_gradients, save_queries
from whence.jobs.score import score, self_influence
from whence.jobs.scored import Scores
from whence.jobs.settings import SolverName
from whence.jobs.solved import GRADIENTS, Solved, read_solved, solved_by, solved_facts
from whence.jobs.stream import device_of
from whence.tasks import Classification, Regression
from whence.types import Data, OutputTask, Task


@dataclass(frozen=True)
class Values:
    """Influence of every training example on the validation loss, or on the loss of each validation example."""

    raw: Float[Tensor, "q n"]
    """Positive helps: training more on the example lowers the loss."""
    loss: Float[Tensor, " q"]
    """The loss asked about: the mean over the validation set, or of one example, in nats."""
    train_size: int
    """N: how many examples the model was trained on."""
    solved: tuple[Solved, ...] = ()
    """How well a solver did; nothing where the fitted curvature solves."""

    @property
    def per_copy(self) -> Float[Tensor, "q n"]:
        """By how much one more copy of the example would lower the loss, in nats."""
        return self.raw / self.train_size

    def out_of_range(self, query: int = 0) -> int:
        """How many examples are predicted to lower a loss by more than there is of it: sizes are a ranking then."""
        return out_of_range(self.per_copy[query].numpy(), -float(self.loss[query]))

    def helpful(self, n: int = 10, query: int = 0) -> list[int]:
        """The examples that lower the loss most, most helpful first; only those that lower it."""
        return [row for row in self._ranked(query)[:n] if self.raw[query, row] > 0]

    def harmful(self, n: int = 10, query: int = 0) -> list[int]:
        """The examples that raise the loss most, most harmful first; only those that raise it."""
        return [row for row in self._ranked(query, sign=-1)[:n] if self.raw[query, row] < 0]

    def _ranked(self, query: int, sign: int = 1) -> list[int]:
        return torch.argsort(-sign * self.raw[query], stable=True).tolist()

    def __repr__(self) -> str:
        q, n = self.raw.shape
        return f"Values({counted(n, 'training example')}, {counted(q, 'query')})"


def value(
    curvature: Curvature,
    data: Data,
    valid: Data,
    *,
    model: nn.Module,
    task: OutputTask,
    each: bool = False,
    solver: SolverName = "fitted",
    train_size: int | None = None,
    folder: Path | None = None,
    log: Log | None = None,
) -> Values:
    """Influence of training examples on the loss of a validation set.

    Args:
        valid: Examples that the model was not trained on, with labels that can be relied on.
        each: Ask about each validation example by itself rather than about their mean. Memory: one gradient each.
        solver: What solves for the direction: the fitted curvature itself, or one on the exact Gauss-Newton matrix,
            nearer by far and many passes dearer.
        train_size: How many examples the model was trained on; those of ``data`` when not given.
        folder: Where query gradients and finished scores are kept; an interrupted call continues there.

    Raises:
        NumericalError: If a loss or a score is NaN or inf; names the example.
        ArtifactMismatch: If the folder's are of another model, data, curvature or validation set.
    """
    log = log or Log.silent()

    def solve() -> tuple[Queries, list[Report]]:
        parts = validation_queries(valid, each=each)
        if solver == "fitted":
            return query_gradients(curvature, model, parts, task=task), []
        return solved_by(solver, curvature, model, parts, task=task, data=data, log=log)

    if folder is None:
        queries, reports = solve()
        solved = tuple(Solved.of(report) for report in reports)
    else:
        sources = {"model": model_fingerprint(model), "data": valid.fingerprint, "curvature": curvature.fingerprint}
        settings = {**task.settings, "each": each}
        if solver != "fitted":  # it reads the training examples itself
            settings, sources = settings | {"solver": solver}, sources | {"train": data.fingerprint}
        manifest = Manifest("queries", 1, settings, sources)
        queries, solved = _kept(solve, folder / "queries", manifest, device_of(model), log)
    within = None if folder is None else folder / "scores"
    scores = score(curvature, queries, data, model=model, task=task, folder=within, log=log)
    assert isinstance(scores, Scores)  # every unit was asked for
    return Values(scores.total.cpu(), 0.0 - queries.measurement, train_size or data.sequences, solved)


def _kept(
    solve: Callable[[], tuple[Queries, list[Report]]], folder: Path, manifest: Manifest, device: torch.device, log: Log
) -> tuple[Queries, tuple[Solved, ...]]:
    """The queries of a folder, made there first if need be: the bits that its scores were made with."""
    claim(folder, manifest)
    path = folder / GRADIENTS
    if not finished(folder):
        queries, reports = solve()
        save_queries(queries, path)
        mark_finished(folder, [path.name], solved_facts(reports, log))
    return load_queries(path, device), read_solved(folder)


def validation_queries(valid: Data, *, each: bool) -> list[QueryBatch]:
    """The mean of a validation set as one query, or each of its examples as a query of its own."""
    weight = 1.0 if each else 1.0 / valid.sequences
    return [
        QueryBatch(
            batch,
            batch.ids.cpu() if each else torch.zeros(len(batch), dtype=torch.int64),
            torch.full((len(batch),), weight, dtype=torch.float64),
        )
        for unit in valid.units
        for batch in valid.batches(unit.number)
    ]


@dataclass(frozen=True)
class Suspects:
    """How suspect the label of every training example is, and what the model would say in its place."""

    self_influence: Float[Tensor, " n"]
    """gᵀ(G + λI)⁻¹g: high where the model could not learn the example from the others."""
    relative: Float[Tensor, " n"] | None
    """Log of self-influence at the given label over that at the suggested one; None for a quantity. What an example's
    own leverage, how unlike the others its input is, does to both cancels. It finds more wrong labels where the model
    did not learn them by heart, and fewer where it did (bench/results/mislabelled.md)."""
    given: Tensor
    """Class numbers ``[n]``, or quantities."""
    suggested: Tensor
    """The most probable class that is not the given one; of a quantity, the prediction."""
    probabilities: Float[Tensor, "n 2"] | None
    """The model's, of the given and of the suggested class; None for a quantity."""

    def __len__(self) -> int:
        return len(self.self_influence)

    def top(self, n: int = 10) -> list[int]:
        """The most suspect examples, most suspect first."""
        return torch.argsort(-self.self_influence, stable=True)[:n].tolist()

    def __repr__(self) -> str:
        return f"Suspects({counted(len(self), 'label')})"


def suspects(
    curvature: Curvature,
    data: Data,
    *,
    model: nn.Module,
    task: OutputTask,
    folder: Path | None = None,
    log: Log | None = None,
) -> Suspects:
    """Rank the labels of the training examples by how little the model believes in them.

    Args:
        data: The examples that the model was trained on, or others like them.
        folder: Where finished self-influences are kept; an interrupted call continues there.

    Raises:
        InvalidSetting: If the task has no labels that could be wrong one by one (a language model).
        NumericalError: If a loss is NaN or inf; names the example.
    """
    _labelled(task)
    within = None if folder is None else folder / "given"
    own = self_influence(curvature, data, model=model, task=task, folder=within, log=log)
    assert own is not None  # every unit was asked for
    return suspects_of(own, curvature, data, model=model, task=task, folder=folder, log=log)


def suspects_of(
    own: Float[Tensor, " n"],
    curvature: Curvature,
    data: Data,
    *,
    model: nn.Module,
    task: Task,
    folder: Path | None = None,
    log: Log | None = None,
) -> Suspects:
    """The labels of examples whose self-influence is known; of classes, one more pass at the suggested ones.

    Raises:
        InvalidSetting: If the task has no labels that could be wrong one by one (a language model).
    """
    said, given = predictions(model, data, _labelled(task))
    if isinstance(task, Regression):
        return Suspects(own.cpu(), None, given.flatten(1)[:, 0], said[:, 0], None)
    p = said.softmax(1)
    label = given[:, None]
    suggested = p.scatter(1, label, -1.0).argmax(1, keepdim=True)
    within = None if folder is None else folder / "suggested"
    as_suggested = Relabelled(data, suggested[:, 0])
    other = self_influence(curvature, as_suggested, model=model, task=task, folder=within, log=log)
    assert other is not None
    tiny = torch.finfo(torch.float64).tiny
    relative = own.cpu().double().clamp_min(tiny).log() - other.cpu().double().clamp_min(tiny).log()
    probabilities = torch.cat([p.gather(1, label), p.gather(1, suggested)], dim=1)
    return Suspects(own.cpu(), relative, given, suggested[:, 0], probabilities)


def _labelled(task: Task) -> Classification | Regression:
    if isinstance(task, Classification | Regression):
        return task
    raise InvalidSetting(
        f"{type(task).__name__} has no label an example that could be wrong",
        hint="rank documents by self-influence alone: `whence self RUN`",
    )


def predictions(model: nn.Module, data: Data, task: OutputTask) -> tuple[Float[Tensor, "n c"], Tensor]:
    """What the model says of every example, logits or predictions, and the targets: in float64, in their order."""
    said: Tensor | None = None
    given: Tensor | None = None
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            for unit in data.units:
                for batch in data.batches(unit.number):
                    outputs = task.outputs(model, batch.to(device_of(model))).double().cpu()
                    if said is None or given is None:
                        said = outputs.new_zeros(data.sequences, outputs.shape[1])
                        given = batch.targets.new_zeros(data.sequences, *batch.targets.shape[1:]).cpu()
                    rows = batch.ids.cpu()
                    said[rows], given[rows] = outputs, batch.targets.cpu()
    finally:
        model.train(was)
    assert said is not None
    assert given is not None
    return said, given


def agreement(said: Float[Tensor, "n c"], given: Tensor) -> float:
    """Share of labels that the model finds most probable; of quantities, the share of variance explained (R²)."""
    if said.shape[1] > 1 and given.ndim == 1:
        return float((said.argmax(1) == given).double().mean())
    target = given.double().view_as(said)
    spread = (target - target.mean(0)).square().sum()
    return float(1 - (said - target).square().sum() / spread) if spread > 0 else float("nan")
