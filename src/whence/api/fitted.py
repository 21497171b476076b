"""A model and data that a person holds: fitted, asked, scored. What was said once need not be said again.

    curvature = wh.fit(model, rows, tokenizer=tokenizer)
    scores = wh.score(curvature, wh.ask("Who wrote it?", " Ada did."), rows)

A curvature made here remembers its model, task and tokenizer while the model lives, so that only what is new is
passed. Models are run in eval mode, and left in the mode they were in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from whence.api.data import as_data
from whence.api.given import count_of, evaluating, known, log_of, parts_of, task_of, with_outputs
from whence.api.selves import SelfInfluences
from whence.curvature import Curvature, Damping
from whence.curvature.origin import Origin
from whence.influence.query import Queries
from whence.jobs import fit as fit_job
from whence.jobs import query as query_job
from whence.jobs import score as score_job
from whence.jobs.plan import Plan, plan_for
from whence.jobs.plan.workload import Workload
from whence.jobs.scored import Scores
from whence.jobs.settings import SolverName
from whence.jobs.valuation import values as value_job
from whence.jobs.valuation.values import Suspects, Values
from whence.layers.lora import Params
from whence.types import Labels, OutputTask, Task


def fit(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
    tokenizer: Any = None,
    layers: str | Sequence[str] = "blocks",
    params: Params | None = None,
    curvature: str = "ekfac",
    damping: str | float | Damping = 0.1,
    samples: int = 1,
    labels: Labels = "sampled",
    seed: int = 0,
    store: str = "float32",
    groups: int = 1,
    folder: Path | str | None = None,
    progress: bool = False,
) -> Curvature:
    """Fit the curvature of a model's mean training loss.

    Args:
        model: Any module. Of a Hugging Face model pass the tokenizer too, for rows of text.
        data: What it was trained on, in any form that `as_data` takes.
        task: The loss: `CausalLM`, `Classification`, `Regression` or one of your own. Default: `CausalLM` for a
            language model of transformers; of anything else it must be said.
        layers: ``blocks`` (the layers of a transformer's blocks; else all), ``mlp``, ``all``, or globs on module names.
        params: Of a model with LoRA: the ``adapter``'s (the default), the ``base`` model's, or ``all``.
        curvature: ``ekfac``, ``kfac``, ``diagonal`` or ``identity``.
        damping: λ as a share of each layer's mean eigenvalue, or ``"abs:1e-4"``. Changed at no cost by
            `Curvature.with_damping`.
        samples: Labels drawn at each scored position (with sampled labels).
        labels: ``sampled`` from the model (the Fisher, equal to the Gauss-Newton matrix), ``expected`` (the same
            without sampling, where labels are few) or ``true``: the data's own, the empirical Fisher.
        store: ``bfloat16`` halves the disk that a kept fit takes.
        groups: How many groups of layers are fitted one after the other: memory holds the statistics of one, the data
            is read again for each, and no number depends on it.
        folder: Where to keep what is finished; an interrupted fit continues there. None keeps all in memory.
        progress: Say on stderr how far it is, and what was noticed.

    Raises:
        WhenceError: `InvalidSetting`, `DataError`, `LayerError` and others, before the first pass where possible.
    """
    task = task_of(model, task)
    train = as_data(data, tokenizer=tokenizer, model=model)
    with evaluating(model), log_of(progress) as log:
        fitted = fit_job.fit(
            model,
            train,
            task=task,
            layers=layers,
            params=params,
            curvature=curvature,
            damping=damping,
            samples=samples,
            labels=labels,
            seed=seed,
            store=store,
            groups=groups,
            folder=None if folder is None else Path(folder),
            log=log,
        )
    return replace(fitted, origin=Origin.of(model, task, tokenizer))


def query_gradients(
    curvature: Curvature,
    queries: Any,
    *,
    model: nn.Module | None = None,
    task: Task | None = None,
    tokenizer: Any = None,
    rank: int | str | None = "auto",
) -> Queries:
    """The direction of each question, (G + λI)⁻¹ ∇f: what `score` makes of questions, to be used more than once.

    Args:
        queries: As for `score`.
        model: The one that the curvature was fitted on, when not given.
        task: Likewise.
        tokenizer: Likewise.
        rank: Kept of each; ``auto`` is full rank while they fit into memory, and 32 beyond.
    """
    model, task, tokenizer = known(curvature, model, task, tokenizer)
    if isinstance(queries, Queries):
        return queries
    with evaluating(model):
        parts = parts_of(queries, model, tokenizer)
        return query_job.query_gradients(curvature, model, parts, task=task, rank=rank)


def score(
    curvature: Curvature,
    queries: Any,
    data: Any,
    *,
    model: nn.Module | None = None,
    task: Task | None = None,
    tokenizer: Any = None,
    by_layer: bool = False,
    by_token: bool = False,
    folder: Path | str | None = None,
    progress: bool = False,
) -> Scores:
    """Influence of every training example on every query. Positive: training more on it raises the measurement.

    Args:
        queries: Questions made with `whence.ask` (of a language model), examples in any form that `as_data` takes
            (each is a query: the log-probability of its own label or completion), or what `query_gradients` made.
        data: Training examples, in any form that `as_data` takes.
        model: The one that the curvature was fitted on, when not given.
        task: Likewise.
        tokenizer: Likewise.
        by_layer: Keep each layer's part.
        by_token: Keep each position's part.
        folder: Where finished work units are kept; an interrupted call continues there.
        progress: Say on stderr how far it is.

    Raises:
        InvalidSetting: If the model is not given, and the curvature knows none, or it was trained on since.
        NumericalError: If a score is NaN or inf; names layer and example.
    """
    model, task, tokenizer = known(curvature, model, task, tokenizer)
    train = as_data(data, tokenizer=tokenizer, model=model)
    solved = query_gradients(curvature, queries, model=model, task=task, tokenizer=tokenizer)
    with evaluating(model), log_of(progress) as log:
        scores = score_job.score(
            curvature,
            solved,
            train,
            model=model,
            task=task,
            by_layer=by_layer,
            by_token=by_token,
            folder=None if folder is None else Path(folder),
            log=log,
        )
    assert scores is not None  # every unit was asked for
    return scores


def self_influence(
    curvature: Curvature,
    data: Any,
    *,
    model: nn.Module | None = None,
    task: Task | None = None,
    tokenizer: Any = None,
    folder: Path | str | None = None,
    progress: bool = False,
) -> SelfInfluences:
    """Influence of every training example on itself, gᵀ(G + λI)⁻¹g: high where it could not be learnt from the rest.

    Args:
        data: Training examples, in any form that `as_data` takes.
        model: The one that the curvature was fitted on, when not given.
        task: Likewise.
        tokenizer: Likewise.
        folder: Where finished work units are kept; an interrupted call continues there.
    """
    model, task, tokenizer = known(curvature, model, task, tokenizer)
    train = as_data(data, tokenizer=tokenizer, model=model)
    with evaluating(model), log_of(progress) as log:
        where = None if folder is None else Path(folder)
        own = score_job.self_influence(curvature, train, model=model, task=task, folder=where, log=log)
    assert own is not None  # every unit was asked for
    return SelfInfluences(own, curvature, train, Origin.of(model, task, tokenizer))


def value(
    curvature: Curvature,
    data: Any,
    valid: Any,
    *,
    model: nn.Module | None = None,
    task: OutputTask | None = None,
    each: bool = False,
    solver: SolverName = "fitted",
    train_size: int | None = None,
    folder: Path | str | None = None,
    progress: bool = False,
) -> Values:
    """Influence of training examples on the loss of a validation set. Positive: the example helps.

    Args:
        valid: Examples that the model was not trained on, with labels that can be relied on.
        model: The one that the curvature was fitted on, when not given.
        task: Likewise.
        each: Ask about each validation example by itself rather than about their mean. Memory: one gradient each.
        solver: ``fitted`` for the curvature itself; ``ekfac_refined`` (five products), ``cg`` or ``exact`` on the exact
            Gauss-Newton matrix are nearer to the truth and dearer (docs/accuracy.md), and tell what they cost.
        train_size: How many examples the model was trained on; those of ``data`` when not given.
        folder: Where query gradients and finished scores are kept; an interrupted call continues there.
    """
    model, chosen, tokenizer = known(curvature, model, task, None)
    train, held_out = (as_data(part, tokenizer=tokenizer, model=model) for part in (data, valid))
    with evaluating(model), log_of(progress) as log:
        return value_job.value(
            curvature,
            train,
            held_out,
            model=model,
            task=with_outputs(chosen),
            each=each,
            solver=solver,
            train_size=train_size,
            folder=None if folder is None else Path(folder),
            log=log,
        )


def suspects(
    curvature: Curvature,
    data: Any,
    *,
    model: nn.Module | None = None,
    task: OutputTask | None = None,
    folder: Path | str | None = None,
    progress: bool = False,
) -> Suspects:
    """Rank the labels of training examples by how little the model believes in them.

    Args:
        data: The examples that the model was trained on, or others like them.
        model: The one that the curvature was fitted on, when not given.
        task: Likewise.
        folder: Where finished self-influences are kept; an interrupted call continues there.

    Raises:
        InvalidSetting: If the task has no label an example (a language model).
    """
    model, chosen, _ = known(curvature, model, task, None)
    train = as_data(data, model=model)
    with evaluating(model), log_of(progress) as log:
        where = None if folder is None else Path(folder)
        return value_job.suspects(curvature, train, model=model, task=with_outputs(chosen), folder=where, log=log)


def plan(
    model: nn.Module,
    data: Any,
    *,
    task: Task | None = None,
    tokenizer: Any = None,
    queries: Any = None,
    layers: str | Sequence[str] = "blocks",
    params: Params | None = None,
    curvature: str = "ekfac",
    samples: int = 1,
    labels: Labels = "sampled",
    seed: int = 0,
    rank: int | str | None = "auto",
) -> Plan:
    """What fitting and scoring would take: passes, operations, memory, time. The model is tried on made-up tokens.

    Args:
        data: As for `fit`; read for its lengths alone.
        queries: As for `score`; without them the plan ends with the fit.
    """
    task = task_of(model, task)
    train = as_data(data, tokenizer=tokenizer, model=model)
    parts = None if queries is None else parts_of(queries, model, tokenizer)
    with evaluating(model):
        return plan_for(
            model,
            Workload.of(train),
            task,
            queries=None if parts is None else Workload.of_queries(parts, count_of(parts)),
            layers=layers,
            params=params,
            curvature=curvature,
            samples=samples,
            labels=labels,
            seed=seed,
            rank=rank,
            report=False,
        )
