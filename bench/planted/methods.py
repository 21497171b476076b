"""Scores of every method, with what each cost in processor seconds: fit, queries and scoring, for all questions.

The lexical and the representation methods are given the question together with its answer, as influence is. Documents
and questions are compared as the model reads them: in its tokens, and in the hidden states under its output head.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.planted.training import TASK, Setting
from whence.api.data import token_data
from whence.curvature import Curvature
from whence.data.filters import FILTERS
from whence.data.memory import TokenData
from whence.jobs.fit import fit
from whence.jobs.query import query_gradients
from whence.jobs.score import score, self_influence
from whence.models.hf import context_length

NAMES = {
    "ekfac": "EK-FAC",
    "ekfac_normalised": "EK-FAC over √self-influence",
    "kfac": "K-FAC",
    "gradient_dot": "gradient dot product",
    "cosine": "gradient cosine",
    "bm25": "BM25",
    "tfidf": "TF-IDF",
    "states_mean": "representations, mean over tokens",
    "states_last": "representations, last token",
    "chance": "chance",
}
DAMPING = 0.1

Scores = NDArray[np.float64]


class Methods:
    """Scores ``[q n]`` of each method on one setting; ``seconds`` of each."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.seconds: dict[str, float] = {}

    def scores(self) -> dict[str, Scores]:
        """Every method's, in the order of `NAMES`."""
        found = self._by_gradients()
        for name in ("bm25", "tfidf"):
            found[name] = self._timed(name, lambda name=name: self._lexical(name))
        for name, pool in (("states_mean", _mean), ("states_last", _last)):
            found[name] = self._timed(name, lambda pool=pool: self._represented(pool))
        found["chance"] = np.zeros_like(found["ekfac"])  # all tied: expected under random order
        return {name: found[name] for name in NAMES}

    def _by_gradients(self) -> dict[str, Scores]:
        """Influence under each curvature; a self-influence is charged to what is divided by it."""
        found: dict[str, Scores] = {}
        ekfac = self._timed("ekfac", lambda: self._fitted("ekfac"))
        found["ekfac"] = self._timed("ekfac", lambda: self._influence(ekfac))
        self.seconds["ekfac_normalised"] = self.seconds["ekfac"]
        norms = self._timed("ekfac_normalised", lambda: self._norms(ekfac))
        found["ekfac_normalised"] = found["ekfac"] / norms
        lam = ekfac.dampings  # one λ for both, or they would not be the same question
        kfac = self._timed("kfac", lambda: self._fitted("kfac").with_damping(lam))
        found["kfac"] = self._timed("kfac", lambda: self._influence(kfac))
        identity = self._fitted("identity")
        found["gradient_dot"] = self._timed("gradient_dot", lambda: self._influence(identity))
        self.seconds["cosine"] = self.seconds["gradient_dot"]
        found["cosine"] = found["gradient_dot"] / self._timed("cosine", lambda: self._norms(identity))
        return found

    def _fitted(self, name: str) -> Curvature:
        return fit(self.setting.model, self.setting.data, task=TASK, curvature=name, damping=DAMPING)

    def _influence(self, curvature: Curvature) -> Scores:
        model = self.setting.model
        queries = query_gradients(curvature, model, self.setting.queries, task=TASK)
        found = score(curvature, queries, self.setting.data, model=model, task=TASK)
        assert found is not None
        return found.total.double().numpy()

    def _norms(self, curvature: Curvature) -> Scores:
        """√ self-influence of each document: what turns scores into cosines, up to the question's own."""
        found = self_influence(curvature, self.setting.data, model=self.setting.model, task=TASK)
        assert found is not None
        return np.sqrt(np.maximum(found.double().numpy(), 1e-30))

    def _lexical(self, name: str) -> Scores:
        tokenizer = self.setting.tokenizer
        lexical = FILTERS[name]().fit(tokenizer(self.setting.texts)["input_ids"])
        words = [tokenizer(q.prompt + q.completion, add_special_tokens=False)["input_ids"] for q in self.setting.asked]
        return np.stack([lexical.scores(np.array(tokens)) for tokens in words])

    def _represented(self, pool: Callable[[Tensor, Tensor], Tensor]) -> Scores:
        """Cosine of pooled final hidden states. The question is read as a sentence, its full stop included."""
        setting = self.setting
        said = [f"{fact.prompt}{fact.completion}." for fact in setting.asked]
        asked = token_data(said, setting.tokenizer, context_length(setting.model))
        return (self._states(asked, pool) @ self._states(setting.data, pool).T).double().numpy()

    def _states(self, data: TokenData, pool: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Unit vectors ``[n width]``, in the order of the data."""
        found: dict[int, Tensor] = {}
        with torch.no_grad():
            for unit in data.units:
                for batch in data.batches(unit.number):
                    states = self.setting.model.model(batch.inputs, use_cache=False).last_hidden_state
                    pooled = torch.nn.functional.normalize(pool(states, batch.real), dim=1)
                    found |= dict(zip(batch.ids.tolist(), pooled, strict=True))
        return torch.stack([found[number] for number in range(data.sequences)])

    def _timed(self, name: str, call: Callable[[], Any]) -> Any:
        began = time.process_time()
        made = call()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - began
        return made


def _mean(states: Tensor, real: Tensor) -> Tensor:
    """Over every real token but the first, which opens every document."""
    weight = real.clone()
    weight[:, 0] = False
    return (states * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)


def _last(states: Tensor, real: Tensor) -> Tensor:
    return states[torch.arange(len(states)), real.sum(1) - 1]
