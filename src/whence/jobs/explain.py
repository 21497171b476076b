"""Why these documents: the winners of a ranking, scored again at full rank and split by layer and token.

Queries may have been cut to a rank and the pass run in half precision; what is shown is neither. Each query meets
its own candidates once more, dense and in float32, and the ranking is that of these numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from whence.curvature import Curvature
from whence.data.queries import QueryBatch
from whence.data.store import TokenStore
from whence.influence.attribution import input_tokens, output_tokens
from whence.influence.query import Queries
from whence.influence.score import Scorer
from whence.influence.self_influence import SelfInfluence
from whence.influence.topk import spurious
from whence.jobs.documents import WholeDocuments
from whence.jobs.query import query_gradients
from whence.jobs.stream import device_of, likelihood_pass
from whence.types import Task

RESCORED = 100
"""Documents at each end that are scored again at full rank."""


@dataclass(frozen=True)
class Explanation:
    """One document against one query. The parts of ``raw`` add up to it."""

    document: int
    raw: float
    self_influence: float
    """gᵀ (G + λI)⁻¹ g, g summed over the document's sequences: raw is its product with the query, and so ≤ in size."""
    query_self: float
    tokens: list[int]
    scored: list[bool]
    """Which tokens carried loss."""
    windows: list[int]
    """Token at which each sequence but the first begins."""
    by_layer_token: NDArray[np.float64]
    """``[l t]``: position t, which predicts token t + 1."""
    output_tokens: NDArray[np.float64]
    input_tokens: NDArray[np.float64]

    @property
    def by_token(self) -> NDArray[np.float64]:
        return self.by_layer_token.sum(0)

    @property
    def by_layer(self) -> NDArray[np.float64]:
        return self.by_layer_token.sum(1)

    @property
    def cosine(self) -> float:
        """Raw / √(self(query) · self(z)), in the inner product of (G + λI)⁻¹."""
        return self.raw / float(np.sqrt(max(self.query_self * self.self_influence, 1e-300)))

    @property
    def self_normalised(self) -> float:
        """Raw / √self(z)."""
        return self.raw / float(np.sqrt(max(self.self_influence, 1e-300)))

    @property
    def spurious(self) -> bool:
        return spurious(self.by_token)


def full_rank_query(curvature: Curvature, model: nn.Module, parts: Sequence[QueryBatch], task: Task) -> Queries:
    """One query at full rank, whatever its place among the others."""
    alone = [QueryBatch(part.batch, torch.zeros_like(part.query), part.weight) for part in parts]
    return query_gradients(curvature, model, alone, task=task, rank="full")


def meet(
    curvature: Curvature, model: nn.Module, queries: Queries, store: TokenStore, documents: Sequence[int], task: Task
) -> NDArray[np.float64]:
    """Raw scores of some documents against some queries, ``[q d]``: their sequences' scores, added."""
    layers = curvature.tracked(model)
    scorer = Scorer(queries, layers)
    place = {document: column for column, document in enumerate(documents)}
    totals = np.zeros((len(queries), len(place)))
    for batch in store.gather([s for document in place for s in store.sequences_of(document)]):
        batch = batch.to(device_of(model))
        scorer.begin(batch)
        likelihood_pass(model, layers, task, batch, scorer.update, data=store)
        for document, scores in zip(batch.document.tolist(), scorer.total.mT.double().cpu().numpy(), strict=True):
            totals[:, place[document]] += scores
    return totals


def rescore(
    curvature: Curvature, model: nn.Module, query: Queries, store: TokenStore, documents: Sequence[int], task: Task
) -> dict[int, float]:
    """Full-rank raw scores of some documents against one query."""
    return dict(zip(documents, meet(curvature, model, query, store, documents, task)[0].tolist(), strict=True))


def explain(
    curvature: Curvature,
    model: nn.Module,
    query: Queries,
    store: TokenStore,
    documents: Sequence[int],
    task: Task,
    advance: Callable[[float], None] = lambda share: None,
) -> list[Explanation]:
    """Split each document's score by layer and token, with its self-influence and counterfactual attributions.

    Args:
        advance: Told the share of the sequences that is done.
    """
    layers = curvature.tracked(model)
    direction = {layer.name: query.dense(layer.name)[0] for layer in layers}
    scorer, own = Scorer(query, layers, by_token=True), SelfInfluence(curvature, layers)
    scorer.layer_tokens = True
    parts: dict[int, _Window] = {}
    sequences = [s for document in documents for s in store.sequences_of(document)]
    for batch in store.gather(sequences):
        batch = batch.to(device_of(model))
        scorer.begin(batch)
        own.begin(batch)

        def both(trace: object) -> None:
            scorer.update(trace)  # type: ignore[arg-type]
            own.update(trace)  # type: ignore[arg-type]

        likelihood_pass(model, layers, task, batch, both, data=store)
        heat = torch.stack([scorer.by_layer_token[layer.name][0] for layer in layers]).double().cpu().numpy()
        outputs = output_tokens(model, batch, direction, layers).double().cpu().numpy()
        inputs = input_tokens(model, batch, direction, layers).double().cpu().numpy()
        lengths, selves = batch.real.sum(1).tolist(), own.total.tolist()
        for row, sequence in enumerate(batch.ids.tolist()):
            upto = slice(0, lengths[row])
            tokens = batch.inputs[row, upto].tolist()
            scored = [False, *batch.scored[row, : lengths[row] - 1].tolist()]
            parts[sequence] = _Window(
                tokens, scored, heat[:, row, upto], outputs[row, upto], inputs[row, upto], selves[row]
            )
        advance(len(parts) / len(sequences))
    whole, query_self = WholeDocuments(curvature, model, store, task), float(query.self_influence[0])
    told = []
    for document in documents:
        windows = [parts[s] for s in store.sequences_of(document)]
        itself = windows[0].own if len(windows) == 1 else whole.self_influence(document)
        told.append(_document(document, windows, itself, query_self))
    return told


@dataclass(frozen=True)
class _Window:
    """One sequence's parts, its padding left off."""

    tokens: list[int]
    scored: list[bool]
    heat: NDArray[np.float64]
    outputs: NDArray[np.float64]
    inputs: NDArray[np.float64]
    own: float


def _document(document: int, windows: Sequence[_Window], itself: float, query_self: float) -> Explanation:
    """Windows joined: each begins with the token that the one before ended on, where nothing was scored yet."""
    tokens: list[int] = []
    scored: list[bool] = []
    starts: list[int] = []
    heat, outputs, inputs = [], [], []
    for index, window in enumerate(windows):
        last = index == len(windows) - 1
        upto = slice(0, None if last else -1)
        if index:
            starts.append(len(tokens))
        tokens += window.tokens[upto]
        flags = window.scored if not index else [windows[index - 1].scored[-1], *window.scored[1:]]
        scored += flags[upto]
        heat.append(window.heat[:, upto])
        outputs.append(window.outputs[upto])
        own_inputs = window.inputs.copy()
        if index:  # the shared token is read in both windows
            own_inputs[0] += windows[index - 1].inputs[-1]
        inputs.append(own_inputs[upto])
    joined = np.concatenate(heat, axis=1)
    return Explanation(
        document,
        float(joined.sum()),
        itself,
        query_self,
        tokens,
        scored,
        starts,
        joined,
        np.concatenate(outputs),
        np.concatenate(inputs),
    )


@contextmanager
def in_float32(model: nn.Module) -> Iterator[nn.Module]:
    """The model in float32 for a while; half-precision weights come back bit for bit."""
    if next(model.parameters()).dtype in (torch.float32, torch.float64):
        yield model
        return
    dtypes = [parameter.dtype for parameter in model.parameters()]
    # Buffers come back themselves: one that was float32 beside half-precision weights (rotary frequencies) stays exact.
    buffers = [
        (module, name, value) for module in model.modules() for name, value in module.named_buffers(recurse=False)
    ]
    try:
        yield model.float()
    finally:
        for parameter, dtype in zip(model.parameters(), dtypes, strict=True):
            parameter.data = parameter.data.to(dtype)
        for module, name, value in buffers:
            setattr(module, name, value)
