"""The diagonal of the Fisher: mean over sequences of squared gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from whence.curvature.block import Block
from whence.curvature.estimator import Estimator, Part, Stage, Sums
from whence.curvature.squares import Squares, mean_squares


class DiagonalEstimator(Estimator):
    """One pass: the squares of EK-FAC's second stage, in the parameters' own basis."""

    name = "diagonal"

    def stages(self) -> Iterator[Stage]:
        yield Stage("squares", self._empty, self._finish)

    def _empty(self) -> Part:
        bases = {name: Block(torch.empty(0, 0)) for name in self.layers}
        return Squares(self.layers, bases, self.samples, self.dtype, self.device)

    def _finish(self, sums: Sums) -> None:
        draws = sums["draws"].tolist()
        self.counts["sequences"] = int(sums["sequences"])
        self.share = draws[0] / sum(draws)
        self._blocks: dict[str, Block] = {}
        for name in self.layers:
            values, half = mean_squares(sums, name, self.samples)
            self._blocks[name] = Block(values).kept_as(self.store)
            if half is not None:
                self.half[name] = Block(half)

    def blocks(self) -> dict[str, Block]:
        return self._blocks
