"""K-FAC: A ⊗ S, as if positions were independent and inputs independent of output gradients.

    stage 1  moments       A = Σ a aᵀ / P_f,  S = Σ δ δᵀ / N_f       P_f: positions of this layer
    (once)   eigenbasis    A = Q_A Λ_A Q_Aᵀ,  S = Q_S Λ_S Q_Sᵀ        float64, clamped at zero
             eigenvalues   Λ = λ_S λ_Aᵀ

Source: Martens & Grosse 2015, arXiv:1503.05671.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from whence.curvature.block import Block
from whence.curvature.estimator import Estimator, Part, Stage, Sums
from whence.curvature.moments import Moments
from whence.linalg.eigh import Eigenbasis, eigenbasis
from whence.linalg.symmetric import mirrored


class KFACEstimator(Estimator):
    """Moments, then the Kronecker product of their eigenvalues."""

    name = "kfac"

    def stages(self) -> Iterator[Stage]:
        yield Stage("moments", self._empty_moments, self._finish_moments)

    def blocks(self) -> dict[str, Block]:
        return self._blocks

    def _empty_moments(self) -> Part:
        return Moments(self.layers, self.samples, self.dtype, self.device)

    def _finish_moments(self, sums: Sums) -> None:
        sequences, positions = int(sums["sequences"]), int(sums["positions"])
        self.counts |= {"sequences": sequences, "positions": positions}
        draws = sums["draws"].tolist()
        self.share = draws[0] / sum(draws)
        bases: dict[str, Eigenbasis] = {}
        self._blocks: dict[str, Block] = {}
        for name, layer in self.layers.items():
            self.unseen[name] = []
            if layer.reads not in bases:
                own = int(sums[f"positions.{layer.reads}"])
                if own != positions:
                    self.counts[f"positions.{layer.reads}"] = own
                moment = mirrored(sums.pop(f"inputs.{layer.reads}")) / own
                basis = eigenbasis(moment, name=f"the inputs of {layer.reads}", dtype=self.store or self.dtype)
                bases[layer.reads] = basis
                self.unseen[name] += _unseen(basis, f"inputs of {layer.reads}")
            halves = mirrored(sums.pop(f"outputs.{name}"))
            moment = halves.sum(0) / sequences
            output = eigenbasis(moment, name=f"the output gradients of {name}", dtype=self.dtype)
            self.unseen[name] += _unseen(output, f"output gradients of {name}")
            block = _block(output, bases[layer.reads], self.dtype)
            if draws[0] and draws[1]:
                self.half[name] = _half_block(halves[0] * (self.samples / draws[0]), bases[layer.reads])
            # Rounded before the eigenvalues are refitted, so that those belong to the basis that is kept.
            self._blocks[name] = replace(block.kept_as(self.store), input_basis=block.input_basis)


def _block(output: Eigenbasis, inputs: Eigenbasis, dtype: torch.dtype) -> Block:
    values: Tensor = torch.outer(output.values, inputs.values).to(dtype)
    return Block(values, output.vectors, inputs.vectors)


def _half_block(moment: Tensor, inputs: Eigenbasis) -> Block:
    """In the precision of the sums: good enough to see their noise by."""
    values, vectors = torch.linalg.eigh(moment)
    return Block(torch.outer(values.clamp(min=0), inputs.values.to(values)), vectors, inputs.vectors)


def _unseen(basis: Eigenbasis, name: str) -> list[str]:
    return [f"{basis.unseen} of {len(basis.values)} in the {name}"] if basis.unseen else []
