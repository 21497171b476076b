r"""Every number of the method by brute force: plain autograd, one sequence at a time, dense matrices.

Nothing here uses the code under test. Sequences are read one by one without padding; a layer's gradient is
autograd's with respect to its weight; δ is autograd's with respect to a zero added to the layer's output.

Expectations over labels are sums over *draws*. A draw is a weight w and the gradients of one loss:

    true labels      one draw,  w = 1
    given samples    k draws,   w = 1/k               mean of squares, never square of a mean
    exactly          one draw for each position and label, w = p(label): labels are drawn independently at
                     each position and the score has mean zero, so the cross terms between positions vanish

Then for each sequence   F = Σ w g gᵀ,   S = Σ w Σ_t δ_t δ_tᵀ,   Λ = Σ w (Q_Sᵀ G Q_A)²,   with G = Σ_t δ_t a_tᵀ.
A ½‖ŷ − y‖² loss has ŷ ~ N(h, I): a draw for each output unit, w = 1, with the right second moments.

A convolution is a layer a group (``conv.group1``), its positions the locations of its kernel.
Gradients are ``[o i]`` with the bias as the last column; matrices are ``[oi oi]`` over their row-major vec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whence.types import Batch

Kind = Literal["tokens", "classes", "numbers"]
"""A language model, a classifier of rows, or a regression with ½‖ŷ − y‖²."""


@dataclass(frozen=True)
class Draw:
    """One loss and its gradients, by layer: ``gradients [o i]`` and ``output_grads [t o]``."""

    weight: float
    gradients: dict[str, Tensor]
    output_grads: dict[str, Tensor]


@dataclass
class Oracle:
    """A model, its tracked layers and a training set, with every matrix of the method in full.

    Args:
        layers: Module names.
        examples: Batches of one, without padding.
        labels: None for the exact expectation; else ``labels[example][sample]``, each shaped as its targets.
    """

    model: nn.Module
    layers: Sequence[str]
    examples: Sequence[Batch]
    kind: Kind = "tokens"
    labels: Sequence[Sequence[Tensor]] | None = None
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)

    # --- one example ---------------------------------------------------------------------------------------

    def outputs(self, example: Batch) -> Tensor:
        """The model's outputs at the scored positions, ``[t c]``: logits, or predictions."""
        if self.kind != "tokens":
            return self.model(example.inputs)[example.scored[:, 0]]
        return self.model(input_ids=example.inputs).logits[0][example.scored[0]]

    def targets(self, example: Batch) -> Tensor:
        return example.targets[0][example.scored[0]] if self.kind == "tokens" else example.targets

    def losses(self, example: Batch, targets: Tensor | None = None) -> Tensor:
        """The loss at each scored position, in nats."""
        return loss_of(self.outputs(example), self.targets(example) if targets is None else targets, self.kind)

    def measurement(self, example: Batch) -> Tensor:
        """The f of a query, −L: log p(completion | prompt)."""
        return -self.losses(example).sum()

    def draw(self, example: Batch, loss: Callable[[Tensor], Tensor], weight: float = 1.0) -> Draw:
        """The gradients of a loss of the outputs; layers the loss does not reach have zeros."""
        with probes(self.model, self.layers) as (_, zeros):
            value = loss(self.outputs(example))
            places = {name: place_of(self.model, name) for name in self.layers}
            parameters = [p for module, _ in places.values() for p in module.parameters()]
            grads = iter(
                torch.autograd.grad(value, parameters + list(zeros.values()), allow_unused=True, materialize_grads=True)
            )
            gradients = {
                name: matrix_of(module, [next(grads) for _ in module.parameters()], group)
                for name, (module, group) in places.items()
            }
            return Draw(weight, gradients, {name: output_rows(*places[name], next(grads)) for name in zeros})

    def true_draw(self, example: Batch, targets: Tensor | None = None, weight: float = 1.0) -> Draw:
        """The gradients of the summed loss at the data's labels, or at ``targets`` of the scored positions."""
        at = self.targets(example) if targets is None else targets
        return self.draw(example, lambda outputs: loss_of(outputs, at, self.kind).sum(), weight)

    def inputs(self, example: Batch) -> dict[str, Tensor]:
        """What goes into each layer, ``[t i]``, with the 1 of the bias."""
        with probes(self.model, self.layers) as (seen, _), torch.no_grad():
            self.outputs(example)
        return seen

    def draws(self, number: int) -> list[Draw]:
        """The draws of a training example under ``labels``."""
        if ("draws", number) not in self.memo:
            example = self.examples[number]
            self.memo["draws", number] = list(
                self.sampled(example, number) if self.labels is not None else self.exact(example)
            )
        return self.memo["draws", number]

    def sampled(self, example: Batch, number: int) -> Iterator[Draw]:
        assert self.labels is not None
        for labels in self.labels[number]:
            at = labels[0][example.scored[0]] if self.kind == "tokens" else labels
            yield self.true_draw(example, at, 1 / len(self.labels[number]))

    def exact(self, example: Batch) -> Iterator[Draw]:
        with torch.no_grad():
            outputs = self.outputs(example)
        for t, row in enumerate(outputs):
            for c in range(len(row)):
                if self.kind == "numbers":
                    yield self.draw(example, partial(entry, t=t, c=c))
                else:
                    yield self.draw(example, partial(surprise, t=t, c=c), row.softmax(-1)[c].item())

    def gradients(self, examples: Sequence[Batch] | None = None) -> dict[str, Tensor]:
        """Loss gradients at the true labels, ``[n o i]`` a layer; of the training set unless told otherwise."""
        chosen = self.examples if examples is None else examples
        rows = [self.true_draw(one).gradients for one in chosen]
        return {name: torch.stack([row[name] for row in rows]) for name in self.layers}

    # --- the training set ----------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """N_f, sequences."""
        return len(self.examples)

    @cached_property
    def positions(self) -> int:
        """P_f, real positions: prompt positions included."""
        return sum(int(one.real.sum()) for one in self.examples)

    def rows(self, layer: str) -> int:
        """P_f of one layer: how often it was applied. The positions, but for convolutions and pooled rows."""
        return sum(len(self.inputs(one)[layer]) for one in self.examples)

    def fisher(self, layer: str) -> Tensor:
        """E[g gᵀ] over sequences and labels, ``[oi oi]``."""
        every = [(d.weight, d.gradients[layer].flatten()) for n in range(self.count) for d in self.draws(n)]
        return torch.stack([w * torch.outer(g, g) for w, g in every]).sum(0) / self.count

    def diagonal(self, layer: str) -> Tensor:
        """The Fisher's diagonal, ``[oi oi]``."""
        return self.fisher(layer).diagonal().diag()

    def input_moment(self, layer: str) -> Tensor:
        """ΣA: the sum over real positions of a aᵀ, ``[i i]``."""
        every = [self.inputs(one)[layer] for one in self.examples]
        return torch.stack([a.T @ a for a in every]).sum(0)

    def output_moment(self, layer: str) -> Tensor:
        """ΣS: the sum over real positions of E[δ δᵀ], ``[o o]``."""
        every = [(d.weight, d.output_grads[layer]) for n in range(self.count) for d in self.draws(n)]
        return torch.stack([w * s.T @ s for w, s in every]).sum(0)

    def kfac(self, layer: str) -> Tensor:
        """(ΣS/N_f) ⊗ (ΣA/P_f), ``[oi oi]``: on the scale of the per-sequence Fisher."""
        return torch.kron(self.output_moment(layer) / self.count, self.input_moment(layer) / self.rows(layer))

    def ekfac(self, layer: str, basis: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """The Kronecker eigenbasis with Λ refitted in it, ``[oi oi]``.

        Args:
            basis: ``(Q_S, Q_A)``; the moments' own by default. An eigenvalue that occurs twice leaves its
                vectors to chance, and then Λ depends on them: pass those of the code under test.
        """
        q_s, q_a = basis if basis is not None else self.basis(layer)
        rotation = torch.kron(q_s.contiguous(), q_a.contiguous())
        return rotation @ self.eigenvalues(layer, (q_s, q_a)).flatten().diag() @ rotation.T

    def basis(self, layer: str) -> tuple[Tensor, Tensor]:
        """Eigenvectors ``(Q_S [o o], Q_A [i i])``."""
        return torch.linalg.eigh(self.output_moment(layer))[1], torch.linalg.eigh(self.input_moment(layer))[1]

    def eigenvalues(self, layer: str, basis: tuple[Tensor, Tensor]) -> Tensor:
        """Λ = E over sequences of (Q_Sᵀ G Q_A)², ``[o i]``: summed over positions first, squared after."""
        q_s, q_a = basis
        every = [d.weight * (q_s.T @ d.gradients[layer] @ q_a) ** 2 for n in range(self.count) for d in self.draws(n)]
        return torch.stack(every).sum(0) / self.count

    def dense(self, curvature: str, layer: str) -> Tensor:
        """The matrix of any entry of the curvature table; ``identity`` is 1 everywhere on the diagonal."""
        if curvature == "identity":
            module, group = place_of(self.model, layer)
            return torch.eye(matrix_of(module, list(module.parameters()), group).numel(), dtype=torch.float64)
        return getattr(self, curvature)(layer)


def entry(outputs: Tensor, t: int, c: int) -> Tensor:
    """One output at one position."""
    return outputs[t, c]


def surprise(outputs: Tensor, t: int, c: int) -> Tensor:
    """−log p of one label at one position."""
    return -outputs[t].log_softmax(-1)[c]


def loss_of(outputs: Tensor, targets: Tensor, kind: Kind) -> Tensor:
    """Loss at each row of ``outputs [t c]``."""
    if kind == "numbers":
        return 0.5 * (outputs - targets).square().sum(-1)
    return -outputs.log_softmax(-1).gather(-1, targets[:, None])[:, 0]


def place_of(model: nn.Module, name: str) -> tuple[nn.Module, int]:
    """A layer's module, and which of its groups the layer is: ``conv.group1`` is the second of a convolution."""
    path, _, group = name.rpartition(".group")
    return (model.get_submodule(path), int(group)) if path and group.isdigit() else (model.get_submodule(name), 0)


def share_of(module: nn.Module, tensor: Tensor, group: int, axis: int) -> Tensor:
    """A group's part of the channels; all of them where there are no groups."""
    return tensor.chunk(getattr(module, "groups", 1), axis)[group]


def output_rows(module: nn.Module, group: int, outputs: Tensor) -> Tensor:
    """A module's outputs (or their gradients) for one example as ``[t o]``."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return share_of(module, outputs, group, 1).flatten(2)[0].T
    return outputs.flatten(0, -2)


def input_rows(module: nn.Module, group: int, inputs: Tensor) -> Tensor:
    """What it reads for one example as ``[t i]``: of a convolution, by one that only copies what its kernel covers."""
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        return inputs.flatten(0, -2)
    channels = module.in_channels // module.groups
    width = channels * module.weight[0, 0].numel()
    names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    copy = type(module)(channels, width, bias=False, **{name: getattr(module, name) for name in names})
    copy.weight.data = torch.eye(width, dtype=inputs.dtype).view(width, channels, *module.kernel_size)
    return copy(share_of(module, inputs, group, 1)).detach().flatten(2)[0].T


def matrix_of(module: nn.Module, parts: Sequence[Tensor], group: int = 0) -> Tensor:
    """A weight and its bias (or their gradients, in the order of ``module.parameters()``) as one ``[o i]``."""
    parts = [share_of(module, part, group, 0) for part in parts]
    weight = parts[0].T if type(module).__name__ == "Conv1D" else parts[0].flatten(1)
    return weight if len(parts) == 1 else torch.cat([weight, parts[1][:, None]], dim=1)


def solve(matrix: Tensor, gradients: Tensor, damping: float) -> Tensor:
    """(H + λI)⁻¹ g for each of ``gradients [q o i]``."""
    flat = gradients.flatten(1)
    damped = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype)
    return torch.linalg.solve(damped, flat.T).T.view_as(gradients)


def relative(matrix: Tensor, share: float = 0.1) -> float:
    """λ as a share of the mean eigenvalue: the trace does not depend on the basis."""
    return share * (matrix.trace() / len(matrix)).item()


def solved(matrices: Mapping[str, Tensor], gradients: Mapping[str, Tensor], share: float = 0.1) -> dict[str, Tensor]:
    """Each layer solved with its own relative damping."""
    return {name: solve(m, gradients[name], relative(m, share)) for name, m in matrices.items()}


def scores(
    matrices: Mapping[str, Tensor], queries: Mapping[str, Tensor], losses: Mapping[str, Tensor], share: float = 0.1
) -> Tensor:
    """−∇fᵀ (H + λI)⁻¹ ∇L by layer, ``[l q n]``, from measurement gradients ∇f and loss gradients ∇L."""
    solved_ = solved(matrices, queries, share)
    return torch.stack([-solved_[name].flatten(1) @ losses[name].flatten(1).T for name in matrices])


def self_influence(matrices: Mapping[str, Tensor], losses: Mapping[str, Tensor], share: float = 0.1) -> Tensor:
    """gᵀ (H + λI)⁻¹ g, ``[n]``."""
    solved_ = solved(matrices, losses, share)
    return torch.stack([(solved_[name] * losses[name]).flatten(1).sum(1) for name in matrices]).sum(0)


@contextmanager
def probes(model: nn.Module, layers: Sequence[str]) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Record each layer's input ``[t i]`` and add a zero that requires grad to its output."""
    seen: dict[str, Tensor] = {}
    zeros: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., Tensor]:
        def record(module: nn.Module, args: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> Tensor:
            inputs = input_rows(module, place_of(model, name)[1], [*args, *named.values()][0].detach())
            biased = getattr(module, "bias", None) is not None
            seen[name] = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1) if biased else inputs
            zeros[name] = torch.zeros_like(output, requires_grad=True)
            return output + zeros[name]

        return record

    handles = [place_of(model, name)[0].register_forward_hook(hook(name), with_kwargs=True) for name in layers]
    try:
        yield seen, zeros
    finally:
        for handle in handles:
            handle.remove()
