r"""EK-FAC: K-FAC's eigenbasis with eigenvalues refitted in that basis.

Fitting reads the training stream twice, because the eigenvalues need the basis first:

    stage 1  moments       A = Σ a aᵀ,  S = Σ δ δᵀ     sums over examples and positions
    (once)   eigenbasis    Q_A, Q_S                     float64
    stage 2  squares       Λ = mean over examples of (Q_Sᵀ G Q_A)²

Paper → code:  a → inputs,  δ → output_grads,  G → gradient,  Λ → eigenvalues,  λ → damping.

One example is one *sequence*: G is summed over positions before it is squared.
K-FAC treats positions as independent; this file does not.

Sources: George et al. 2018, arXiv:1806.03884; Grosse et al. 2023, arXiv:2308.03296.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from whence.curvature.estimator import Part, Stage, Sums
from whence.curvature.kfac import KFACEstimator
from whence.curvature.squares import Squares, mean_squares


class EKFACEstimator(KFACEstimator):
    """K-FAC's stage, then one that replaces its eigenvalues."""

    name = "ekfac"

    def stages(self) -> Iterator[Stage]:
        yield from super().stages()
        yield Stage("squares", self._empty_squares, self._finish_squares)

    def _empty_squares(self) -> Part:
        return Squares(self.layers, self._blocks, self.samples, self.dtype, self.device)

    def _finish_squares(self, sums: Sums) -> None:
        for name, block in self._blocks.items():
            values, half = mean_squares(sums, name, self.samples)
            self._blocks[name] = replace(block, eigenvalues=values.to(self.store or self.dtype))
            if half is not None:
                self.half[name] = replace(self.half[name], eigenvalues=half)
