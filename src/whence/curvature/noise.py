r"""How far the eigenvalues have converged, from the disagreement of two halves of the stream.

Even- and odd-numbered sequences give independent estimates Λ₁, Λ₂ of the same Λ, labels sampled anew for each. A few
real sequences are scored against each other with either, and ρ is the correlation of the two sets of cosines. If each
half is truth plus independent noise, the estimate from ``m`` halves' worth of sequences agrees with the limit by

    √(1 / (1 + (1/ρ − 1) / m))                        (Spearman–Brown)

It covers noise in the labels and in the choice of sequences, given the eigenbasis; noise in the basis is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from whence.capture import LayerTrace
from whence.curvature.block import Block
from whence.curvature.damping import Damping
from whence.curvature.rotation import rotated_gradients
from whence.layers import TrackedLayer

PROBES = 16
"""Sequences scored against each other: 120 pairs."""


class HalfScores:
    """A sink: scores of a batch's examples against each other, ``[2 n n]``, with either half's eigenvalues."""

    def __init__(
        self,
        layers: Mapping[str, TrackedLayer],
        blocks: Mapping[str, Block],
        halves: Mapping[str, Tensor],
        damping: Damping,
    ) -> None:
        self.layers, self.blocks = layers, blocks
        self.inverse = {
            name: [(half + max(damping.of(Block(half)), 1e-30)).reciprocal() for half in both]
            for name, both in halves.items()
        }
        self.scores: Tensor | None = None

    def update(self, trace: LayerTrace) -> None:
        """Add one layer."""
        chunks = rotated_gradients(trace, self.blocks[trace.layer], self.layers[trace.layer])
        grads = torch.cat([chunk.flatten(1) for _, chunk in chunks])
        part = torch.stack([(grads * weight.flatten()) @ grads.mT for weight in self.inverse[trace.layer]])
        self.scores = part if self.scores is None else self.scores + part

    def agreement(self) -> float | None:
        """ρ: correlation of the two halves' scores over pairs of unlike examples; None where there are too few.

        Scores are cosines, so that a few long sequences do not decide the figure.
        """
        if self.scores is None or self.scores.shape[1] < 4:
            return None
        n = self.scores.shape[1]
        row, column = torch.triu_indices(n, n, offset=1, device=self.scores.device)
        size = self.scores.diagonal(dim1=1, dim2=2).clamp(min=1e-30).sqrt()
        cosines = self.scores / (size[:, :, None] * size[:, None, :])
        rho = float(torch.corrcoef(cosines[:, row, column].double())[0, 1])
        return rho if math.isfinite(rho) else None


def expected_agreement(rho: float, multiple: float) -> float:
    """Correlation with the limit of scores fitted on ``multiple`` halves' worth of samples."""
    return math.sqrt(1 / (1 + (1 / max(rho, 1e-6) - 1) / multiple))


def note_on_noise(rho: float | None, sequences: int) -> str:
    """One sentence for the user: what these sequences bought, and what four times as many samples would."""
    if rho is None:
        return "sampling noise: too few sequences to estimate it"
    return (
        f"sampling noise: scores from these {sequences:,} sequences are expected to agree with the exact expectation "
        f"by r ≈ {expected_agreement(rho, 2):.3f} (given this eigenbasis); "
        f"4× the sequences or label samples would give {expected_agreement(rho, 8):.3f}"
    )
