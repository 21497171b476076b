"""Kronfluence's passes: its own loops over a loader, without its disk work, so that only computing is compared.

    moments        fit_covariance_matrices_with_loader   labels sampled, as the others do
    eigenvalues    fit_lambda_matrices_with_loader
    scores, ...    compute_pairwise_scores_with_loaders  query gradients, solve and training pass in one
    self_influence compute_self_scores_with_loaders

Its defaults are kept (float32 throughout, eigendecomposition in float64), but for the damping of 0.1 of the
mean eigenvalue that everybody uses here and for `query_gradient_low_rank` where a row says rank 32.
"""

from __future__ import annotations

import logging
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from kronfluence.analyzer import prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.factor.covariance import fit_covariance_matrices_with_loader
from kronfluence.factor.eigen import fit_lambda_matrices_with_loader, perform_eigendecomposition
from kronfluence.module.tracked_module import ModuleMode, TrackedModule
from kronfluence.module.utils import (
    accumulate_iterations,
    prepare_modules,
    set_factors,
    set_mode,
    update_factor_args,
    update_score_args,
)
from kronfluence.score.pairwise import compute_pairwise_scores_with_loaders
from kronfluence.score.self import compute_self_scores_with_loaders
from kronfluence.task import Task
from kronfluence.utils.state import State
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bench import plain
from bench.model import Shape, build, query_tokens, tracked_names, train_tokens, weights
from bench.timing import Suite

RANK = 32
Factors = dict[str, dict[str, Tensor]]


class SummedLoss(Task):
    """Cross-entropy summed over positions; the measurement is the same, at the data's labels."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
        """Summed over the batch, as Kronfluence's per-sample gradients want."""
        return (plain.sampled_loss if sample else plain.loss)(model, batch[0])

    def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
        """The loss of the query: Kronfluence's score is then +∇Lᵀ H⁻¹ ∇L."""
        return plain.loss(model, batch[0])

    def get_influence_tracked_modules(self) -> list[str]:
        return self.names


class Passes:
    """Kronfluence over one bench model. What a pass makes is kept for those that need it."""

    def __init__(self, shape: Shape) -> None:
        logging.getLogger("kronfluence").setLevel(logging.ERROR)
        self.shape = shape
        self.task = SummedLoss(tracked_names(shape))
        self.model = prepare_model(build(shape), self.task)
        self.state = State(cpu=True)
        self.args = FactorArguments(strategy="ekfac")
        self.train = _loader(train_tokens(shape), shape.batch)
        self.covariances: Factors = {}
        self.basis: Factors = {}
        self.corrected: Factors = {}

    def moments(self) -> None:
        self.covariances = fit_covariance_matrices_with_loader(
            self.model, self.state, self.task, self.train, self.args, disable_tqdm=True
        )[1]

    def eigenbasis(self) -> None:
        self.basis = perform_eigendecomposition(self.covariances, self.model, self.state, self.args, disable_tqdm=True)

    def eigenvalues(self) -> None:
        self.corrected = fit_lambda_matrices_with_loader(
            self.model, self.state, self.task, self.train, self.args, self.basis, disable_tqdm=True
        )[1]

    def factors(self) -> Factors:
        if not self.corrected:
            self.moments()
            self.eigenbasis()
            self.eigenvalues()
        return {**self.basis, **self.corrected}

    def scores(self, queries: int, *, batch: int | None = None, **options: Any) -> Tensor | dict[str, Tensor]:
        """Query gradients, solve, and a training pass for every batch of queries."""
        settings = ScoreArguments(damping_factor=None, **options)
        size = batch or queries
        return compute_pairwise_scores_with_loaders(
            loaded_factors=self.factors(),
            model=self.model,
            state=self.state,
            task=self.task,
            query_loader=_loader(query_tokens(self.shape)[:queries], size),
            per_device_query_batch_size=size,
            train_loader=self.train,
            score_args=settings,
            factor_args=self.args,
            tracked_module_names=None,
            disable_tqdm=True,
        )

    def self_influence(self) -> Tensor:
        return compute_self_scores_with_loaders(
            loaded_factors=self.factors(),
            model=self.model,
            state=self.state,
            task=self.task,
            train_loader=self.train,
            score_args=ScoreArguments(damping_factor=None),
            factor_args=self.args,
            tracked_module_names=None,
            disable_tqdm=True,
        )["all_modules"]

    def bytes_a_weight(self) -> float:
        """What its analyzer keeps on disk after a fit: covariances, bases, eigenvalues, corrected eigenvalues."""
        layers = [module.original_module for module in self.model.modules() if isinstance(module, TrackedModule)]
        sides = [(layer.in_features, layer.out_features) for layer in layers]
        return 4 * sum(2 * (i * i + o * o) + i + o + i * o for i, o in sides) / weights(self.shape)

    def ready_for_queries(self) -> None:
        """Everything that a query's gradient needs, the inverse eigenvalues included."""
        update_factor_args(self.model, self.args)
        update_score_args(self.model, ScoreArguments(damping_factor=None, query_gradient_low_rank=RANK))
        set_mode(self.model, ModuleMode.PRECONDITION_GRADIENT, self.task.names, release_memory=True)
        for name, factors in self.factors().items():
            set_factors(self.model, name, factors, clone=True)
        prepare_modules(self.model, self.task.names, torch.device("cpu"))

    def query(self) -> None:
        """Gradient, solve, cut: one query at a time."""
        for tokens in query_tokens(self.shape).split(1):
            self.model.zero_grad(set_to_none=True)
            self.task.compute_measurement([tokens], self.model).backward()
            accumulate_iterations(self.model, self.task.names)

    def total(self) -> None:
        """From nothing to scores of all queries."""
        self.moments()
        self.eigenbasis()
        self.eigenvalues()
        self.scores(self.shape.queries)


def suite(shape: Shape) -> Suite:
    """Kronfluence's rows of the table."""
    passes = Passes(shape)
    scores, everything = passes.scores, shape.queries
    rows = {
        "moments": passes.moments,
        "eigenbasis": passes.eigenbasis,
        "eigenvalues": passes.eigenvalues,
        "scores_16": partial(scores, everything),
        "scores_16_rank32": partial(scores, everything, query_gradient_low_rank=RANK),
        "scores_1": partial(scores, 1, query_gradient_low_rank=RANK),
        "scores_1_dense": partial(scores, 1),
        "scores_16_as_4": partial(scores, everything, batch=everything // 4),
        "per_layer_16": partial(scores, everything, compute_per_module_scores=True),
        "per_token_16": partial(scores, everything, compute_per_token_scores=True, query_gradient_low_rank=RANK),
        "per_token_16_dense": partial(scores, everything, compute_per_token_scores=True),
        "self_influence": passes.self_influence,
        "query": passes.query,
        "total": passes.total,
    }
    return Suite(
        name="kronfluence",
        version=version("kronfluence"),
        units=plain.units(shape),
        unit_of={"query": "FBA1"},
        prepare={**dict.fromkeys(rows, passes.factors), "moments": _nothing, "query": passes.ready_for_queries},
        passes=rows,
        notes={
            "scores_16_as_4": "its default, query_gradient_accumulation_steps=1; with 4 it is one training pass",
            "scores_16": "dense queries, its default",
        },
        constant=frozenset(("FBA1", "eigenbasis", "query")),
        once=frozenset(("scores_16_as_4", "per_token_16_dense", "total")),
        facts={"disk_bytes_a_weight": passes.bytes_a_weight()},
    )


def _loader(tokens: Tensor, batch: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(tokens), batch_size=batch)


def _nothing() -> None: ...
