"""Retraining, the definition: a bank of models trained on weightings of one training set, kept and reused.

    manifest.json                                 the recipe, the task, and fingerprints of model, data and start
    models/<weights>-<start>-<seed>.safetensors   one trained model each, whole or not there

A model is known by its weights and its seed, so that leave-one-out, subsets and removals share what they have
in common (the model that is trained on everything, to begin with), and whatever is there is not trained again.

Scores predict what a bank measures. A raw score is df/dε for a weight ε more on z_m beside (1/N) Σ L, and a
weight w_m in place of 1 is ε = (w_m − 1)/N. So to first order, and with the one sign convention,

    f(w) − f(1) = (1/N) Σ_m (w_m − 1) · score_m

and leaving z_m out changes f by −score_m / N: what raises f is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.artifacts.atomic import make_folder
from whence.artifacts.fingerprint import tensors_fingerprint
from whence.artifacts.folder import claim
from whence.artifacts.manifest import Manifest
from whence.artifacts.tensors import load_tensors, save_tensors
from whence.data.queries import QueryBatch
from whence.errors import DataError, InvalidSetting
from whence.evaluate.examples import content, rows
from whence.evaluate.models import Stack, State, joined, measure, models_at_once, parameters_of
from whence.evaluate.training import Recipe, train
from whence.types import Batch, Progress, Task

KIND, SCHEMA = "retrained models", 1
KEPT_TOGETHER = 64
"""Models held in memory at once while measuring."""


def leave_out(groups: Sequence[Sequence[int]], count: int) -> Float[Tensor, "s n"]:
    """Weights that leave out each of the groups: one example each for leave-one-out, k for leave-k-out.

    Example:
        >>> leave_out([[0], [1, 2]], 3)
        tensor([[0., 1., 1.],
                [1., 0., 0.]], dtype=torch.float64)
    """
    weights = torch.ones(len(groups), count, dtype=torch.float64)
    for row, group in enumerate(groups):
        if not all(0 <= member < count for member in group):
            raise DataError(f"group {row} leaves out examples that are not there: there are {count}")
        weights[row, list(group)] = 0.0
    return weights


def subsets(count: int, examples: int, *, fraction: float = 0.5, seed: int = 0) -> Float[Tensor, "s n"]:
    """Weights of random subsets, each of round(fraction · n) examples, drawn without replacement.

    Args:
        count: Subsets.
        fraction: Share of the examples that is kept.

    Raises:
        InvalidSetting: If nothing would be kept, or nothing removed.
    """
    kept = round(fraction * examples)
    if not 0 < kept < examples:
        raise InvalidSetting(f"a fraction {fraction} of {examples} examples keeps {kept} of them")
    weights = torch.zeros(count, examples, dtype=torch.float64)
    for row in range(count):
        chosen = np.random.default_rng([seed, row]).choice(examples, kept, replace=False)
        weights[row, torch.from_numpy(chosen)] = 1.0
    return weights


def predicted(scores: Float[Tensor, "q n"], weights: Float[Tensor, "s n"]) -> Float[Tensor, "s q"]:
    """What raw scores say f does when the model is trained on these weights: (1/N) Σ (w − 1) · score, in nats."""
    return (weights.double() - 1) @ scores.double().cpu().T / weights.shape[1]


@dataclass
class Bank:
    """Models trained by one recipe from one start on weightings of one training set.

    Args:
        model: The architecture; its own parameters are where training starts, unless ``start`` says otherwise.
        start: Seed → the parameters that models of this seed start from: cold starts that differ, or the final
            parameters θˢ for warm ones. Only what it names is trained.
        folder: Where models are kept. None keeps them in memory.
        at_once: Models trained side by side; as many as fit when not given.

    Raises:
        ArtifactMismatch: If the folder's models were trained by another recipe, on other data, or from elsewhere.
    """

    model: nn.Module
    task: Task
    examples: Batch
    recipe: Recipe
    start: Callable[[int], State] | None = None
    folder: Path | None = None
    at_once: int | None = None
    progress: Progress | None = None
    trained: int = 0
    """How many models this object has trained, rather than found."""
    _memory: dict[str, Stack] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.folder is None:
            return
        settings = {**self.task.settings, "recipe": self.recipe.settings}
        sources = {"data": content(self.examples), "start": tensors_fingerprint(self._from(0))}
        claim(self.folder, Manifest(KIND, SCHEMA, settings, sources))
        make_folder(self.folder / "models")

    @property
    def size(self) -> int:
        """N: how many training examples there are."""
        return len(self.examples)

    @property
    def everything(self) -> Float[Tensor, "1 n"]:
        """The weights of the model that nothing was removed from."""
        return torch.ones(1, self.size, dtype=torch.float64)

    def models(self, weights: Float[Tensor, "s n"], *, seed: int = 0) -> Stack:
        """The trained parameters for each row of weights; trains those that are missing."""
        start = self._from(seed)
        keys = [_key(row, start, seed) for row in weights]
        self._train_missing(weights, keys, start, seed)
        return joined([self._load(key) for key in keys])

    def measure(
        self, weights: Float[Tensor, "s n"], queries: Sequence[QueryBatch], *, seeds: Sequence[int] = (0,)
    ) -> Float[Tensor, "s q"]:
        """The f of every query at the model of every row of weights, averaged over seeds."""
        per_seed = [self._measure(weights, queries, seed) for seed in seeds]
        return torch.stack(per_seed).mean(0)

    def change(
        self, weights: Float[Tensor, "s n"], queries: Sequence[QueryBatch], *, seeds: Sequence[int] = (0,)
    ) -> Float[Tensor, "s q"]:
        """f(w) − f(1): what training on these weights rather than on everything does to each query, in nats."""
        return self.measure(weights, queries, seeds=seeds) - self.measure(self.everything, queries, seeds=seeds)

    def _measure(self, weights: Tensor, queries: Sequence[QueryBatch], seed: int) -> Float[Tensor, "s q"]:
        parts = weights.split(KEPT_TOGETHER)
        return torch.cat([measure(self.task, self.model, self.models(some, seed=seed), queries) for some in parts])

    def _train_missing(self, weights: Tensor, keys: Sequence[str], start: State, seed: int) -> None:
        rows_of = {key: row for row, key in enumerate(keys) if not self._has(key)}
        missing = sorted(rows_of.values())
        step = self._at_once(start) if missing else 1
        if missing and self.progress is not None:
            self.progress(0, len(missing))
        for begin in range(0, len(missing), step):  # kept chunk by chunk: an interruption costs one
            some = missing[begin : begin + step]
            made = train(
                self.model,
                self.task,
                self.examples,
                self.recipe,
                weights[some],
                start=start,
                seed=seed,
                at_once=step,
            )
            for place, row in enumerate(some):
                self._keep(keys[row], {name: tensor[place : place + 1] for name, tensor in made.items()})
            self.trained += len(some)
            if self.progress is not None:
                self.progress(begin + len(some), len(missing))

    def _at_once(self, start: State) -> int:
        if self.at_once is None:
            batch = rows(self.examples, torch.arange(min(self.recipe.batch_size, self.size)))
            self.at_once = models_at_once(self.model, self.task, batch, start)
        return self.at_once

    def _from(self, seed: int) -> State:
        return parameters_of(self.model) if self.start is None else self.start(seed)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / "models" / f"{key}.safetensors"

    def _has(self, key: str) -> bool:
        return key in self._memory if self.folder is None else self._path(key).exists()

    def _keep(self, key: str, stack: Stack) -> None:
        if self.folder is None:
            self._memory[key] = {name: tensor.clone() for name, tensor in stack.items()}
            return
        save_tensors(self._path(key), stack)

    def _load(self, key: str) -> Stack:
        return self._memory[key] if self.folder is None else load_tensors(self._path(key))


def _key(weights: Float[Tensor, " n"], start: State, seed: int) -> str:
    return f"{tensors_fingerprint({'weights': weights.double()})}-{tensors_fingerprint(start)[:8]}-{seed}"
