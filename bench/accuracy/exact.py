r"""(G + Λ)⁻¹ itself, in float64: all layers jointly, or each layer's own block, at any multiple of one Λ.

G = RᵀR, R having a row for each sequence, scored position and output, √p_c (e_c − p) drawn back to the weights. Layers
are first divided by the root of their λ, after which Λ is a multiple m of the identity and one matrix serves them all:

    fewer rows than weights    (I − Rᵀ (R Rᵀ + m)⁻¹ R) / m
    fewer weights              (RᵀR + m)⁻¹

In a linear layer that is applied once a sequence a row is δ_nc ⊗ a_n: its Gram matrix is (Σ_o δ δᵀ) ∘ (a aᵀ), and a
product R x costs no more than a forward pass. So ten thousand rows are no trouble here, where
`whence.curvature.inverse.exact`, which takes any layer, factors 4,096. Both are the same solve: this one is the truth
of the ablation, and the metric of PBRF's steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.accuracy.tasks import Problem
from whence.capture import LayerTrace, capture
from whence.curvature import Curvature
from whence.layers import TrackedLayer
from whence.types import Batch, Gradients


@dataclass(frozen=True)
class Whole:
    """A layer's part of R as it is, ``[r p]``."""

    rows: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.shape[0], self.rows.shape[1]

    def gram(self) -> Tensor:
        return self.rows @ self.rows.T

    def into(self, vector: Tensor) -> Tensor:
        return vector @ self.rows.T

    def out_of(self, along: Tensor) -> Tensor:
        return along @ self.rows


@dataclass(frozen=True)
class Product:
    """Rows δ ⊗ a, from δ ``[n c o]`` and a ``[n i]``."""

    slopes: Tensor
    inputs: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        n, c, o = self.slopes.shape
        return n * c, o * self.inputs.shape[1]

    @property
    def rows(self) -> Tensor:
        return torch.einsum("nco,ni->ncoi", self.slopes, self.inputs).reshape(self.shape)

    def gram(self) -> Tensor:
        n, c, _ = self.slopes.shape
        flat = self.slopes.flatten(0, 1)
        gram = flat @ flat.T
        gram.view(n, c, n, c).mul_((self.inputs @ self.inputs.T)[:, None, :, None])
        return gram

    def into(self, vector: Tensor) -> Tensor:
        matrices = vector.view(len(vector), self.slopes.shape[2], -1)
        return torch.stack([torch.bmm(self.slopes, (self.inputs @ one.T)[:, :, None]).flatten() for one in matrices])

    def out_of(self, along: Tensor) -> Tensor:
        n, c, _ = self.slopes.shape
        back = [torch.bmm(one.view(n, 1, c), self.slopes)[:, 0].T @ self.inputs for one in along]
        return torch.stack(back).flatten(1)


Rows = Whole | Product


@dataclass(frozen=True)
class Solve:
    """An `Inverse` of G + mΛ."""

    of: Exact
    multiple: float
    factor: Tensor
    name = "exact"

    @property
    def dampings(self) -> dict[str, float]:
        return {name: self.multiple * value for name, value in self.of.unit.items()}

    def solve(self, grads: Gradients) -> Gradients:
        """x of each query, in float64."""
        scaled = {name: grads[name].double().flatten(1) / value**0.5 for name, value in self.of.unit.items()}
        if self.of.parts is None:
            flat = self._factored(torch.cat(list(scaled.values()), dim=1))
            solved = dict(zip(scaled, flat.split([part.shape[1] for part in scaled.values()], dim=1), strict=True))
        else:
            parts = self.of.parts
            along = self._factored(torch.stack([parts[name].into(part) for name, part in scaled.items()]).sum(0))
            solved = {name: (part - parts[name].out_of(along)) / self.multiple for name, part in scaled.items()}
        return {name: solved[name].reshape(grads[name].shape) / value**0.5 for name, value in self.of.unit.items()}

    def _factored(self, vectors: Tensor) -> Tensor:
        lower = torch.linalg.solve_triangular(self.factor, vectors.T, upper=False)
        return torch.linalg.solve_triangular(self.factor.mT, lower, upper=True).T


@dataclass(frozen=True)
class Exact:
    """G over some layers."""

    unit: dict[str, float]
    """λ of each layer at multiple 1."""
    matrix: Tensor
    """RRᵀ ``[r r]``, or RᵀR ``[p p]`` where there are no parts; layers over the root of their unit."""
    parts: dict[str, Rows] | None
    whole: Mapping[str, Rows] | None = None
    """Rows for `block`, where the matrix is over weights."""

    @classmethod
    def of(cls, problem: Problem, curvature: Curvature) -> Exact:
        """Of the tracked layers, in the curvature's dampings."""
        unit = curvature.dampings
        layers = curvature.tracked(problem.model)
        if problem.streamed:
            return cls(unit, _streamed(problem, layers, unit), None)
        return cls._of_rows(_rows(problem, layers, unit), unit)

    @classmethod
    def _of_rows(cls, parts: dict[str, Rows], unit: dict[str, float]) -> Exact:
        rows, weights = next(iter(parts.values())).shape[0], sum(part.shape[1] for part in parts.values())
        if rows > weights:
            flat = torch.cat([part.rows for part in parts.values()], dim=1)
            return cls(unit, flat.T @ flat, None, parts)
        matrix = torch.zeros(rows, rows, dtype=torch.float64)
        for part in parts.values():
            matrix += part.gram()
        return cls(unit, matrix, parts)

    def at(self, multiple: float) -> Solve:
        """Factored at a multiple of the units."""
        damped = self.matrix.clone()
        damped.diagonal().add_(multiple)
        return Solve(self, multiple, torch.linalg.cholesky(damped))

    def blocks(self, sizes: Mapping[str, int]) -> Iterator[Exact]:
        """Each layer by itself."""
        parts = self.parts or self.whole
        start = 0
        for name, value in self.unit.items():
            if parts is not None:
                yield self._of_rows({name: parts[name]}, {name: value})
            else:
                mine = slice(start, start + sizes[name])
                yield Exact({name: value}, self.matrix[mine, mine], None)
            start += sizes[name]


def _rows(problem: Problem, layers: tuple[TrackedLayer, ...], unit: Mapping[str, float]) -> dict[str, Rows]:
    """R by layer, for one output an example. Cost: an epoch for each output."""
    slopes: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    inputs: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
    for batch in _batches(problem):
        seen: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
        for column in range(problem.outputs):
            with capture(problem.model, layers, batch.real, _keep(seen, inputs if column == 0 else None)):
                outputs = problem.task.outputs(problem.model, batch)
                (outputs * problem.task.likelihood.root(outputs.detach(), column)).sum().backward()
        for name, columns in seen.items():
            slopes[name].append(torch.stack(columns, dim=1) / (problem.data.sequences * unit[name]) ** 0.5)
    return {
        name: Product(torch.cat(parts), torch.cat(inputs[name]))
        if inputs[name]
        else Whole(torch.cat(parts).flatten(0, 1).flatten(1))
        for name, parts in slopes.items()
    }


def _keep(seen: dict[str, list[Tensor]], inputs: dict[str, list[Tensor]] | None) -> Callable[[LayerTrace], None]:
    def keep(trace: LayerTrace) -> None:
        single = trace.inputs.shape[1] == 1
        seen[trace.layer].append((trace.output_grads[:, 0] if single else trace.gradient()).double())
        if single and inputs is not None:
            inputs[trace.layer].append(trace.inputs[:, 0].double())

    return keep


def _streamed(problem: Problem, layers: tuple[TrackedLayer, ...], unit: Mapping[str, float]) -> Tensor:
    """RᵀR of a language model, a window at a time: all its positions and outputs by one vectorised backward pass."""
    model, task = problem.model, problem.task
    size = sum(layer.weights for layer in layers)
    total = torch.zeros(size, size, dtype=torch.float64)
    weights = [parameter for layer in layers for parameter in layer.parameters()]
    scale = torch.cat([torch.full((layer.weights,), unit[layer.name] ** -0.5) for layer in layers]).double()
    for number in range(problem.data.sequences):
        (batch,) = problem.data.gather([number])
        outputs = task.outputs(model, batch)
        roots = torch.stack([task.likelihood.root(outputs.detach(), c) for c in range(outputs.shape[1])])  # [c t c']
        slopes = torch.einsum("cto,ts->csto", roots, torch.eye(len(outputs), dtype=roots.dtype))
        pulled = torch.autograd.grad(
            outputs, weights, slopes.flatten(0, 1), is_grads_batched=True, materialize_grads=True
        )
        rows = torch.cat([part.flatten(1) for part in pulled], dim=1).double() * scale
        total.addmm_(rows.T, rows, alpha=1 / problem.data.sequences)
    return total


def _batches(problem: Problem) -> Iterator[Batch]:
    return (batch for unit in problem.data.units for batch in problem.data.batches(unit.number))
