"""whence's own passes, through the same jobs that its commands call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from bench import plain
from bench.model import Shape, build, query_tokens, train_tokens
from bench.timing import Suite
from whence.curvature import CURVATURES, Curvature, Damping, Estimator, Stage
from whence.influence.query import Queries
from whence.jobs.fit import fit
from whence.jobs.fitting import Fitting, run_stage
from whence.jobs.log import Log
from whence.jobs.query import QueryBatch, query_gradients
from whence.jobs.score import score, self_influence
from whence.jobs.stream import checked_layers
from whence.layers.select import track
from whence.tasks import CausalLM
from whence.types import Batch, Unit
from whence.world import World

RANK = 32
TASK = CausalLM()


class BenchData:
    """`types.Data` over equal sequences: 16 units, as a small store has, of whole batches where there are enough."""

    def __init__(self, tokens: Tensor, batch: int) -> None:
        self.tokens = tokens
        pieces = torch.arange(len(tokens)).split(batch)
        self.members = [pieces[start::16] for start in range(min(16, len(pieces)))]

    @property
    def sequences(self) -> int:
        return len(self.tokens)

    @property
    def units(self) -> list[Unit]:
        sizes = [sum(map(len, pieces)) for pieces in self.members]
        return [Unit(number, size, size * self.tokens.shape[1]) for number, size in enumerate(sizes)]

    @property
    def fingerprint(self) -> str:
        return "bench"

    def batches(self, unit: int) -> Iterator[Batch]:
        for rows in self.members[unit]:
            yield _batch(rows, self.tokens[rows])

    def gather(self, sequences: Sequence[int]) -> Iterator[Batch]:
        if len(sequences):
            rows = torch.tensor(list(sequences))
            yield _batch(rows, self.tokens[rows])

    def name(self, sequence: int) -> str:
        return f"bench sequence {sequence}"


class Passes:
    """whence over one bench model. What a pass makes is kept for those that need it."""

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.float32) -> None:
        self.shape = shape
        self.model = build(shape, dtype)
        self.data = BenchData(train_tokens(shape), shape.batch)
        self.tracked = checked_layers(self.model, track(self.model, "blocks"), TASK, self.data)
        self.estimator: Estimator | None = None
        self.stages: Iterator[Stage] = iter(())
        self.stage: Stage | None = None
        self.sums: dict[str, Tensor] = {}
        self.fitted: Curvature | None = None

    def begin(self) -> None:
        """An estimator that has seen nothing."""
        self.sums = {}
        self.estimator = CURVATURES["ekfac"](self.tracked.layers, 1)
        self.stages = self.estimator.stages()

    def stream(self) -> None:
        """The estimator's next stage: one pass over the data, its sum kept for `finish`."""
        self.stage = next(self.stages)
        keep = replace(self.stage, finish=self.sums.update)
        assert self.estimator is not None
        settings = {"labels": "sampled", "seed": 0, "samples": 1}
        of = Fitting(self.model, TASK, self.data, settings, Damping.parse(0.1), None, None, World(), Log.silent())
        run_stage(keep, self.tracked.layers, of, keep.name, keep.name)

    def finish(self) -> None:
        """Turn the stage's sum into what the next stage needs: after moments, the eigenbasis."""
        assert self.stage is not None
        sums, self.sums = self.sums, {}
        self.stage.finish(sums)

    def before_finish(self) -> None:
        """Sums of moments, those of the pass timed just before if it was that."""
        if not self.sums or self.stage is None or self.stage.name != "moments":
            self.begin()
            self.stream()

    def before_eigenvalues(self) -> None:
        """A basis, the one timed just before if it was that."""
        if self.sums or self.stage is None or self.stage.name != "moments":
            self.before_finish()
            self.finish()

    def curvature(self) -> Curvature:
        if self.fitted is None:
            self.before_eigenvalues()
            self.stream()
            self.finish()
            assert self.estimator is not None
            reads = {layer.name: layer.reads for layer in self.tracked.layers}
            self.fitted = Curvature(
                name="ekfac", blocks=self.estimator.blocks(), reads=reads, damping=Damping.parse(0.1)
            )
            # With what it keeps to tell its noise by, which a fit lets go of.
            self.estimator, self.stage, self.stages = None, None, iter(())
        return self.fitted

    def queries(self, count: int, *, rank: int | str | None = None, batch: int | None = None) -> Queries:
        tokens, size = query_tokens(self.shape)[:count], batch or count
        parts = [query_batch(part, first=size * number) for number, part in enumerate(tokens.split(size))]
        return query_gradients(self.curvature(), self.model, parts, task=TASK, rank=rank)

    def scores(self, count: int, *, batch: int | None = None, rank: int | None = None, **splits: Any) -> Any:
        """Query gradients, solve, and one training pass however the queries are batched."""
        queries = self.queries(count, rank=rank, batch=batch)
        return score(self.curvature(), queries, self.data, model=self.model, task=TASK, **splits)

    def self_influence(self) -> Tensor | None:
        return self_influence(self.curvature(), self.data, model=self.model, task=TASK)

    def query(self) -> None:
        """Gradient, solve, cut to rank 32 and rotate back: one query at a time."""
        for tokens in query_tokens(self.shape).split(1):
            query_gradients(self.curvature(), self.model, [query_batch(tokens)], task=TASK, rank=RANK)

    def total(self) -> None:
        """From nothing to scores of all queries, checks included."""
        curvature = fit(self.model, self.data, task=TASK)
        part = query_batch(query_tokens(self.shape))
        queries = query_gradients(curvature, self.model, [part], task=TASK, rank=None)
        score(curvature, queries, self.data, model=self.model, task=TASK)

    def must_hold_mb(self) -> dict[str, float]:
        """What a pass cannot do without, beside the model: factors, their running sums, prepared queries."""
        layers = self.tracked.layers
        inputs = {layer.reads: layer.inputs**2 for layer in layers}
        bases = sum(inputs.values()) + sum(layer.outputs**2 for layer in layers)
        weights = sum(layer.weights for layer in layers)
        factors, dense = bases + weights, self.shape.queries * weights
        low = self.shape.queries * RANK * sum(layer.outputs + layer.inputs for layer in layers)
        whole = ("scores_16", "scores_16_as_4", "per_layer_16", "per_token_16_dense", "total")
        held = {
            "moments": bases,
            "eigenvalues": factors,
            "scores_1": factors + low / self.shape.queries,
            "scores_1_dense": factors + weights,
            "scores_16_rank32": factors + max(low, dense),  # multiplied out, where that is the cheaper order
            "per_token_16": factors + low,
            "self_influence": factors,
            **dict.fromkeys(whole, factors + dense),
        }
        return {name: 4e-6 * numbers for name, numbers in held.items()}


def suite(shape: Shape) -> Suite:
    """whence's rows of the table."""
    passes = Passes(shape)
    every = shape.queries
    try:
        number = version("whence")
    except PackageNotFoundError:
        number = "this tree"
    rows = {
        "moments": passes.stream,
        "eigenbasis": passes.finish,
        "eigenvalues": passes.stream,
        "scores_16": partial(passes.scores, every),
        "scores_16_rank32": partial(passes.scores, every, rank=RANK),
        "scores_1": partial(passes.scores, 1, rank=RANK),
        "scores_1_dense": partial(passes.scores, 1),
        "scores_16_as_4": partial(passes.scores, every, batch=every // 4),
        "per_layer_16": partial(passes.scores, every, by_layer=True),
        "per_token_16": partial(passes.scores, every, by_token=True, rank=RANK),
        "per_token_16_dense": partial(passes.scores, every, by_token=True),
        "self_influence": passes.self_influence,
        "query": passes.query,
        "total": passes.total,
    }
    return Suite(
        name="whence",
        version=number,
        units=plain.units(shape),
        unit_of={"query": "FBA1"},
        prepare={
            **dict.fromkeys(rows, passes.curvature),
            "moments": passes.begin,
            "eigenbasis": passes.before_finish,
            "eigenvalues": passes.before_eigenvalues,
        },
        passes=rows,
        notes={
            "scores_16": "dense queries",
            "scores_1": "rank 32",
            "total": "checks before the fit included",
        },
        constant=frozenset(("FBA1", "eigenbasis", "query")),
        once=frozenset(("per_token_16_dense",)),
        facts={"must_hold_mb": passes.must_hold_mb()},
    )


def query_batch(tokens: Tensor, first: int = 0) -> QueryBatch:
    """Queries numbered from ``first``, each of one part."""
    numbers = torch.arange(first, first + len(tokens))
    return QueryBatch(_batch(numbers, tokens), numbers, torch.ones(len(tokens)))


def _batch(ids: Tensor, tokens: Tensor) -> Batch:
    """Equal sequences: all real, all but the last position scored."""
    real = torch.ones_like(tokens, dtype=torch.bool)
    scored = real.clone()
    scored[:, -1] = False
    targets = torch.where(scored, tokens.roll(-1, 1), 0)
    return Batch(ids, tokens, targets, real, scored, document=ids, offset=torch.zeros_like(ids))
