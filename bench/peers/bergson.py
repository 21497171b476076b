"""Bergson's passes: its collectors and its own loop (`CollectorComputer`), on a model and data set already in memory.

    moments      CovarianceCollector            labels sampled, summed loss
    eigenvalues  LambdaCollector                 with the eigenvectors handed over in memory
    scores       TraceCollector → FactoredPreconditioner.apply → GradientCollector with a Scorer
    per_token    the same with attribute_tokens=True

Bergson writes its sums to disk at the end of a pass; that is a folder in memory or of temporary files here,
and a few milliseconds. It has no cut to a rank, no scores by layer, and self-influence only as the diagonal of an
N × N score matrix: those rows are empty.
"""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from bergson.collector.collector import CollectorComputer, HookCollectorBase
from bergson.collector.gradient_collectors import GradientCollector, TraceCollector
from bergson.config import HessianConfig, IndexConfig
from bergson.config.config import InversionConfig
from bergson.gradients import GradientProcessor
from bergson.hessians.eigenvectors import LambdaCollector, eigendecompose_owned
from bergson.hessians.hessian_approximations import fwd_bwd_hessian_factory
from bergson.hessians.kfac import CovarianceCollector
from bergson.hessians.preconditioner import FactoredPreconditioner
from bergson.score.score_writer import InMemorySequenceScoreWriter, InMemoryTokenScoreWriter
from bergson.score.scorer import Scorer
from datasets import Dataset
from safetensors.torch import load_file
from torch import Tensor

from bench import plain
from bench.model import Shape, build, query_tokens, train_tokens
from bench.timing import Suite

METHOD = "kfac"
"""Its name for the first stage; the eigenvalue correction makes it EK-FAC."""


class Passes:
    """Bergson over one bench model. What a pass makes is kept for those that need it."""

    def __init__(self, shape: Shape) -> None:
        logging.disable(logging.INFO)  # it sets its loggers' levels anew at every pass
        self.shape = shape
        self.model = build(shape).requires_grad_(False)
        self.model.get_input_embeddings().requires_grad_(True)  # as `setup_model_and_peft` leaves it
        self.folder = Path(tempfile.mkdtemp(prefix="bench-bergson-"))
        self.train = _dataset(train_tokens(shape))
        self.queries = _dataset(query_tokens(shape))
        self.moments_seen: CovarianceCollector | None = None
        self.basis: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None
        self.corrected: dict[str, Tensor] = {}
        self.hessian = HessianConfig(method=METHOD, ev_correction=True)

    def config(self, **options: Any) -> IndexConfig:
        cfg = IndexConfig(run_path=str(self.folder / "run"), loss_reduction="sum", **options)
        cfg.partial_run_path.mkdir(parents=True, exist_ok=True)
        return cfg

    def run(
        self, collector: HookCollectorBase, cfg: IndexConfig, data: Dataset, batch: int, *, fit: bool = False
    ) -> None:
        """One pass of its loop."""
        batches = [list(range(start, min(start + batch, len(data)))) for start in range(0, len(data), batch)]
        loop = CollectorComputer(self.model, data, collector=collector, batches=batches, cfg=cfg)
        if fit:
            loop.forward_backward = fwd_bwd_hessian_factory(cfg, self.hessian)
        loop.run_with_collector_hooks(desc="")

    def moments(self) -> None:
        collector = CovarianceCollector(
            model=self.model.base_model,
            processor=GradientProcessor(),
            dtype=torch.float32,
            path=str(self.folder / METHOD),
        )
        self.run(collector, self.config(), self.train, self.shape.batch, fit=True)
        self.moments_seen = collector

    def before_eigenbasis(self) -> None:
        if self.moments_seen is None:
            self.moments()

    def eigenbasis(self) -> None:
        seen = self.moments_seen
        assert seen is not None
        positions = sum(seen.num_positions.values()) // len(seen.num_positions)
        sides = (
            (dict(seen.A_cov_dict), seen.A_shapes, "eigen_activation"),
            (dict(seen.S_cov_dict), seen.S_shapes, "eigen_gradient"),
        )
        vectors = [
            eigendecompose_owned(
                sums, shapes, None, positions, str(self.folder / f"{name}_sharded"), torch.float32, seen.num_positions
            )[0]
            for sums, shapes, name in sides
        ]
        self.basis = (vectors[0], vectors[1])

    def eigenvalues(self) -> None:
        collector = LambdaCollector(
            model=self.model.base_model,
            processor=GradientProcessor(),
            dtype=torch.float32,
            path=str(self.folder / METHOD),
            num_documents=len(self.train),
            eigenvectors=self.basis,
        )
        self.run(collector, self.config(), self.train, self.shape.batch, fit=True)
        written = self.folder / METHOD / collector.output_subdir / "shard_0.safetensors"
        self.corrected = load_file(written)  # it keeps no copy in memory

    def factors(self) -> FactoredPreconditioner:
        if not self.corrected:
            self.moments()
            self.eigenbasis()
            self.eigenvalues()
        assert self.basis is not None
        inversion = InversionConfig(inversion="damped_inverse", damping_factor=0.1)
        return FactoredPreconditioner(*self.basis, self.corrected, inversion_cfg=inversion, sharded=False)

    def query_gradients(self, count: int, batch: int) -> dict[str, Tensor]:
        """Gradients of the first ``count`` queries, solved."""
        collector = TraceCollector(
            model=self.model.base_model, processor=GradientProcessor(), device="cpu", dtype=torch.float32
        )
        self.run(collector, self.config(), self.queries.select(range(count)), batch)
        return self.factors().apply({name: torch.cat(rows) for name, rows in collector.mod_grads.items()})

    def scores(self, count: int, *, by_token: bool = False) -> Any:
        """Query gradients, solve, and a training pass."""
        queries = self.query_gradients(count, count)
        cfg = self.config(attribute_tokens=by_token)
        names = list(queries)
        writer = (
            InMemoryTokenScoreWriter(self.train, count)
            if by_token
            else InMemorySequenceScoreWriter(len(self.train), count)
        )
        scorer = Scorer(queries, names, writer, torch.device("cpu"), torch.float32, attribute_tokens=by_token)
        collector = GradientCollector(
            model=self.model.base_model,
            processor=GradientProcessor(),
            data=self.train,
            cfg=cfg,
            scorer=scorer,
            attribute_tokens=by_token,
        )
        self.run(collector, cfg, self.train, self.shape.batch)
        return writer.scores

    def query(self) -> None:
        """Gradient and solve, one query at a time; there is no cut."""
        for row in range(self.shape.queries):
            collector = TraceCollector(
                model=self.model.base_model, processor=GradientProcessor(), device="cpu", dtype=torch.float32
            )
            self.run(collector, self.config(), self.queries.select([row]), 1)
            self.factors().apply({name: torch.cat(rows) for name, rows in collector.mod_grads.items()})

    def scores_in_parts(self, parts: int) -> None:
        """A training pass for every part of the queries."""
        for _ in range(parts):
            self.scores(self.shape.queries // parts)

    def total(self) -> None:
        """From nothing to scores of all queries."""
        self.moments()
        self.eigenbasis()
        self.eigenvalues()
        self.scores(self.shape.queries)


def suite(shape: Shape) -> Suite:
    """Bergson's rows of the table."""
    passes = Passes(shape)
    rows = {
        "moments": passes.moments,
        "eigenbasis": passes.eigenbasis,
        "eigenvalues": passes.eigenvalues,
        "scores_16": partial(passes.scores, shape.queries),
        "scores_1_dense": partial(passes.scores, 1),
        "scores_16_as_4": partial(passes.scores_in_parts, 4),
        "per_token_16_dense": partial(passes.scores, shape.queries, by_token=True),
        "query": passes.query,
        "total": passes.total,
    }
    return Suite(
        name="bergson",
        version=version("bergson"),
        units=plain.units(shape),
        unit_of={"query": "FBA1"},
        prepare={**dict.fromkeys(rows, passes.factors), "moments": _nothing, "eigenbasis": passes.before_eigenbasis},
        passes=rows,
        constant=frozenset(("FBA1", "eigenbasis", "query")),
        once=frozenset(("scores_16_as_4", "per_token_16_dense", "total")),
        notes={
            "scores_1": "no cut to a rank: see scores_1_dense",
            "per_token_16": "no cut to a rank: its dense scores by token are in per_token_16_dense",
            "per_layer_16": "not offered",
            "self_influence": "offered only as the diagonal of an N × N matrix of scores",
            "query": "dense: gradient and solve, without a cut",
        },
    )


def _dataset(tokens: Tensor) -> Dataset:
    rows = tokens.tolist()
    return Dataset.from_dict({"input_ids": rows, "length": [len(row) for row in rows]})


def _nothing() -> None: ...
