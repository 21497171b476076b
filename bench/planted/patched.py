"""Tail-patch in a batch: one optimiser step on the k documents that a method ranks first, from the trained model.

What counts is the change of the answer, in log-probability and in probability. A method that finds what taught the
model should find what teaches it a little more. `whence.evaluate.tail_patch` takes a step on each document alone (Chang
et al. 2024, arXiv:2410.17413); here the step is on all k at once, as a training step is.

    sgd     θ − rate · mean over the k documents of the gradient of their summed loss
    adamw   the first step of a fresh AdamW without decay: every weight moves by about the rate, whatever the gradient

Every parameter of the model takes part, not only the layers that curvatures are fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bench.planted.training import TASK, Setting
from whence.data.queries import QueryBatch
from whence.evaluate.examples import collect
from whence.evaluate.models import Stack, at, evaluating, example_losses, measure, parameters_of, stacked
from whence.evaluate.training import Recipe

TOP = 10
QUESTIONS = 60
"""Facts that steps are taken for, drawn at random from those learned: each costs a tenth of a second a method."""
STEPS: dict[str, tuple[Literal["sgd", "adamw"], float]] = {
    "AdamW 1e-4": ("adamw", 1e-4),
    "SGD 1e-2": ("sgd", 1e-2),
    "SGD 1e-3": ("sgd", 1e-3),
}
"""Optimisers and rates. The first two were fixed before any change was looked at (the recipe's own rate runs from 2e-3
down to 2e-5); the third was added after them, because on the demo's corpus a step of SGD at 1e-2 overshoots."""


class Patcher:
    """Steps from one setting's model."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        parts = setting.queries
        self.queries = [_only(parts, number) for number in range(len(setting.asked))]
        whole = {name: tensor[None] for name, tensor in parameters_of(setting.model).items()}
        self.before = measure(TASK, setting.model, whole, parts)[0].numpy()
        """log p of each answer, ``[q]``."""

    def after(self, top: Sequence[Sequence[int]]) -> dict[str, NDArray[np.float64]]:
        """Step → log p of each answer after a step on its documents ``top[q]``, ``[q]``."""
        rows = [self._one(query, documents) for query, documents in zip(self.queries, top, strict=True)]
        return {name: np.array([row[name] for row in rows]) for name in STEPS}

    def _one(self, query: QueryBatch, documents: Sequence[int]) -> dict[str, float]:
        model = self.setting.model
        examples = collect(self.setting.data, list(documents))
        own = {name: tensor.clone().requires_grad_() for name, tensor in parameters_of(model).items()}
        with evaluating(model), torch.enable_grad():
            example_losses(TASK, at(model, own), examples).mean().backward()
        found = {}
        for name, (optimiser, rate) in STEPS.items():
            recipe = Recipe(learning_rate=rate, epochs=1, batch_size=len(documents), optimiser=optimiser)
            stack: Stack = stacked(own, 1)
            for key, tensor in stack.items():
                gradient = own[key].grad
                assert gradient is not None
                tensor.grad = gradient[None]
            recipe.start(stack).step()
            found[name] = float(measure(TASK, model, stack, [query], at_once=1)[0, 0])
        return found


def _only(parts: Sequence[QueryBatch], number: int) -> QueryBatch:
    """One question, as the only one, and no wider than it is."""
    (part,) = [part.select(part.query == number) for part in parts if bool((part.query == number).any())]
    width = int(part.batch.real.sum(1).max())
    batch = part.batch
    cut = {name: getattr(batch, name)[:, :width] for name in ("inputs", "targets", "real", "scored")}
    return QueryBatch(
        type(batch).of(batch.ids, *cut.values(), batch.document, batch.offset), torch.zeros(1).long(), part.weight
    )


def drawn(setting: Setting, most: int = QUESTIONS, seed: int = 0) -> tuple[Setting, list[int]]:
    """The setting with at most so many of its facts, and which these are."""
    chosen = sorted(int(one) for one in np.random.default_rng(seed).permutation(len(setting.asked))[:most])
    return replace(setting, asked=[setting.asked[one] for one in chosen]), chosen


def ranked(
    scores: NDArray[np.float64], without: Sequence[tuple[int, ...]] | None = None, k: int = TOP
) -> list[list[int]]:
    """The k documents with the highest scores for each question; ties by number; some may be left out."""
    order = np.argsort(-scores, axis=1, kind="stable")
    left_out = without or [()] * len(scores)
    return [[int(d) for d in row if d not in out][:k] for row, out in zip(order, left_out, strict=True)]


def at_random(documents: int, without: Sequence[tuple[int, ...]], seed: int = 0, k: int = TOP) -> list[list[int]]:
    """k documents drawn for each question, from all but those that state it."""
    draw = np.random.default_rng(seed)
    return [[int(d) for d in draw.permutation(documents) if d not in out][:k] for out in without]
