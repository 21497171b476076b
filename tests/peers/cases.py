"""Two models that every peer can run, and their data: an MLP of table rows, a language model of equal sequences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from tests.peers.reference import Reference
from torch import Tensor, nn
from torch.nn import functional

from whence.curvature import Curvature
from whence.jobs.fit import fit
from whence.jobs.query import QueryBatch, query_gradients
from whence.jobs.score import score, self_influence
from whence.tasks import CausalLM, Classification
from whence.testing import tiny, toys
from whence.types import Task


@dataclass(frozen=True)
class Case:
    """A model with the same data for us and for them."""

    model: nn.Module
    names: list[str]
    task: Task
    inputs: Tensor
    """``[n t]`` tokens or ``[n i]`` rows; queries ask about the first three of `queries`."""
    targets: Tensor | None
    queries: Tensor
    query_targets: Tensor | None
    prompt: int = 1
    """Tokens given, not predicted; only the last token is predicted where this is one less than the length."""

    @property
    def text(self) -> bool:
        return self.targets is None

    @property
    def sequences(self) -> int:
        return len(self.inputs)

    @property
    def positions(self) -> int:
        """Positions a sequence: T."""
        return self.inputs.shape[1] if self.text else 1

    def losses(self, inputs: Tensor, targets: Tensor | None) -> Tensor:
        """Cross-entropy of every example, summed over its positions: all of it differentiable."""
        if targets is not None:
            return functional.cross_entropy(self.model(inputs), targets, reduction="none")
        logits = self.model(inputs).logits[:, self.prompt - 1 : -1]
        labels = inputs[:, self.prompt :]
        per_token = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return per_token.view(len(inputs), -1).sum(1)

    def reference(self, which: str = "train") -> Reference:
        inputs, targets = (self.inputs, self.targets) if which == "train" else (self.queries, self.query_targets)
        rows = range(len(inputs))

        def loss(row: int) -> Callable[[], Tensor]:
            part = slice(row, row + 1)
            return lambda: self.losses(inputs[part], None if targets is None else targets[part]).sum()

        return Reference.of(self.model, self.names, [loss(row) for row in rows])

    def examples(self, which: str = "train") -> list:
        inputs, targets = (self.inputs, self.targets) if which == "train" else (self.queries, self.query_targets)
        if targets is None:
            return [toys.sequence(tokens.tolist(), self.prompt, number=number) for number, tokens in enumerate(inputs)]
        return [toys.example(inputs[number], targets[number], number=number) for number in range(len(inputs))]

    def fitted(self, curvature: str, damping: float, batch: int = 4) -> Curvature:
        data = toys.TinyData(self.examples(), batch_size=batch, cuts=range(batch, self.sequences, batch))
        return fit(
            self.model,
            data,
            task=self.task,
            layers=self.names,
            curvature=curvature,
            damping=f"abs:{damping!r}",
            labels="true",
        )

    def scored(self, curvature: Curvature, batch: int = 4) -> tuple[Tensor, Tensor]:
        """Our scores ``[q n]`` and self-influences ``[n]``."""
        data = toys.TinyData(self.examples(), batch_size=batch, cuts=range(batch, self.sequences, batch))
        part = toys.collate(self.examples("queries"))
        asked = [QueryBatch(part, torch.arange(len(part)), torch.ones(len(part), dtype=torch.float64))]
        queries = query_gradients(curvature, self.model, asked, task=self.task, rank=None)
        found = score(curvature, queries, data, model=self.model, task=self.task)
        own = self_influence(curvature, data, model=self.model, task=self.task)
        assert found is not None
        assert own is not None
        return found.total, own


def language_model(dtype: torch.dtype, sequences: int = 24, positions: int = 9) -> Case:
    """Two attention blocks with biases and shared inputs; nothing in it computes in less than ``dtype``."""
    model = tiny.language_model(vocab=11, width=6, hidden=8)
    return _text(model, _linears(model, "layers."), dtype, 11, sequences, positions)


def llama(dtype: torch.dtype, sequences: int = 24, positions: int = 9) -> Case:
    """A Llama of transformers, width 8. Its norms compute in float32 whatever they are given."""
    model = tiny.huggingface("llama")
    return _text(model, _linears(model, "model.layers."), dtype, 11, sequences, positions)


def mlp(dtype: torch.dtype, rows: int = 40) -> Case:
    """Three layers with biases, a class label a row."""
    model = tiny.mlp(5, 7, 6, 4).to(dtype)
    draw = torch.Generator().manual_seed(3)
    inputs = torch.randn(rows + 3, 5, generator=draw, dtype=torch.float64).to(dtype)
    targets = torch.randint(4, (rows + 3,), generator=draw)
    return Case(model, _linears(model), Classification(), inputs[:-3], targets[:-3], inputs[-3:], targets[-3:])


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm of theirs."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def last_token(dtype: torch.dtype) -> Case:
    """The language model asked for its last token alone: one loss term a sequence, all positions real."""
    case = language_model(dtype)
    return replace(case, prompt=case.positions - 1)


def _text(model: nn.Module, names: list[str], dtype: torch.dtype, vocab: int, sequences: int, positions: int) -> Case:
    draw = torch.Generator().manual_seed(3)
    tokens = torch.randint(vocab, (sequences + 3, positions), generator=draw)
    return Case(model.to(dtype), names, CausalLM(), tokens[:-3], None, tokens[-3:], None)


def _linears(model: nn.Module, prefix: str = "") -> list[str]:
    return [name for name, one in model.named_modules() if isinstance(one, nn.Linear) and name.startswith(prefix)]


CASES: dict[str, Callable[[torch.dtype], Case]] = {
    "language_model": language_model,
    "last_token": last_token,
    "llama": llama,
    "mlp": mlp,
}
