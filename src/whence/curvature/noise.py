r"""How far a fit has converged, from scores by half of its draws beside scores by all of them.

A draw is one sequence with one set of labels. Halves alternate with the sample's number and, by eight, with the
sequence's (`estimator.halves_of`). With two samples a position or more, every sequence is thus in either half alike
and only labels differ; with one, a half has other sequences too, and their choice counts as chance: more noise than
labels make.

The half has S and Q_S of its own, so that noise in the basis counts (it is about half of all); A does not depend on
labels and is shared. Its Λ is taken in the basis of all draws, where the one pass took it, and rows are handed to
Q_S in the order of eigenvalues. A few sequences are asked about as a question would be, their last tokens given the
rest, and meet a few others with either: scores of whole sequences with each other are dominated by what all of them
share, and agree far better than scores of questions do. ρ is the Pearson correlation of one question's raw scores,
averaged over questions. If scores are signal plus noise of relative variance v from all draws, and v/h from a share
h of them, then as the whole holds the half,

    ρ² = (1 + v) / (1 + v/h)     so   v = (1 − ρ²) / (ρ²/h − 1),    r = 1 / √(1 + v)

is what scores from all draws have with their limit, the exact expectation, and m times the draws leave v/m.
Held against exact expectations on toy models in tests/laws/test_noise.py.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whence.capture import LayerTrace
from whence.curvature.block import Block
from whence.curvature.damping import Damping
from whence.curvature.rotation import chunks, gradient
from whence.layers import TrackedLayer
from whence.types import Batch, Labels

PROBES = 24
"""Sequences read: a third of them asked about, the others scored."""

QUESTION_TOKENS = 4
"""Scored positions of a question."""

TRACE_ELEMENTS = 2**26
"""What is kept of the probes' traces at once (256 MiB of float32)."""


@dataclass
class _Traces:
    """One layer's traces, batch by batch: inputs ``[n t i]`` and output gradients ``[n t o]``."""

    inputs: list[Tensor]
    grads: list[Tensor]

    def turned(self, inputs: Tensor | None, outputs: Tensor | None) -> _Traces:
        """In a basis, before the sum over positions."""
        return _Traces(
            [a if inputs is None else a @ inputs.to(a) for a in self.inputs],
            [d if outputs is None else d @ outputs.to(d) for d in self.grads],
        )

    def gradients(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """``[n (rows i)]``: some output rows of every sequence's gradient."""
        parts = [gradient(d[..., rows], a, dtype) for a, d in zip(self.inputs, self.grads, strict=True)]
        return torch.cat(parts).flatten(1)


class ProbeScores:
    """A sink: raw scores of a few sequences for a few questions, by all draws and by half of them, layer by layer."""

    def __init__(self, whole: Mapping[str, Block], half: Mapping[str, Block], damping: Damping) -> None:
        self.blocks, self.damping = (whole, half), damping
        self.asking = False
        """Whether traces of questions come next, or of what they are to meet."""
        self.parts: dict[str, Tensor] = {}
        """Layer → its part of the scores, ``[2 q n]``."""
        self._kept: dict[bool, dict[str, _Traces]] = {True: {}, False: {}}

    def update(self, trace: LayerTrace) -> None:
        """Keep one batch's part of a layer."""
        kept = self._kept[self.asking].setdefault(trace.layer, _Traces([], []))
        kept.inputs.append(trace.inputs)
        kept.grads.append(trace.output_grads)

    def meet(self) -> None:
        """Score the layers whose traces are kept, and forget them."""
        asked, others = self._kept[True], self._kept[False]
        for name in list(asked):
            pair = asked.pop(name), others.pop(name)
            self.parts[name] = torch.stack([self._met(*pair, blocks[name]) for blocks in self.blocks])

    def _met(self, asked: _Traces, others: _Traces, block: Block) -> Tensor:
        """``[q n]``: gᵀ (H + λI)⁻¹ g' in the block's basis, some output rows at a time."""
        weight = (block.values + max(self.damping.of(block), 1e-30)).reciprocal()
        outputs, inputs = block.shape
        asked, others = (side.turned(block.input_basis, block.output_basis) for side in (asked, others))
        total: Tensor | None = None
        for rows in chunks(outputs, PROBES * inputs, weight.device):
            grads = asked.gradients(rows, weight.dtype) * weight[rows].flatten()
            part = grads @ others.gradients(rows, weight.dtype).mT
            total = part if total is None else total + part
        assert total is not None
        return total


def agreement(parts: Sequence[Tensor]) -> float | None:
    """ρ, the mean over questions; None where there are too few sequences, or nothing to tell apart.

    Args:
        parts: Of every layer, ``[2 q n]``, in the layers' order: sums of floats depend on it.
    """
    if not parts or parts[0].shape[2] < 8:
        return None
    scores = parts[0]
    for part in parts[1:]:
        scores = scores + part
    rows = scores.double()
    rows = rows - rows.mean(-1, keepdim=True)
    sizes = rows.norm(dim=-1).prod(0)
    found = (rows.prod(0).sum(-1) / sizes)[sizes > 0]
    rho = float(found.mean()) if len(found) else math.nan
    return rho if math.isfinite(rho) else None


def probes_of(sequences: int, seed: int) -> tuple[list[int], list[int]]:
    """Which sequences are asked about and which they meet: drawn, as data may have a period, and drawn alike again.

    Example:
        >>> asked, others = probes_of(6, seed=0)
        >>> len(asked), len(others), sorted(asked + others)
        (2, 4, [0, 1, 2, 3, 4, 5])
    """
    count = min(PROBES, sequences)
    chosen = random.Random(seed).sample(range(sequences), count)
    return sorted(chosen[: count // 3]), sorted(chosen[count // 3 :])


def as_questions(batch: Batch) -> Batch:
    """The same sequences with their last few scored positions alone scored."""
    left = batch.scored.flip(1).cumsum(1).flip(1)
    return replace(batch, scored=batch.scored & (left <= QUESTION_TOKENS))


def in_groups(layers: Sequence[TrackedLayer], positions: int) -> list[list[TrackedLayer]]:
    """Layers whose traces over so many positions may be kept together; readers of one input stay so."""
    groups: list[list[TrackedLayer]] = [[]]
    held = 0
    for layer in layers:
        size = positions * (layer.inputs + layer.outputs)
        if groups[-1] and held + size > TRACE_ELEMENTS and groups[-1][-1].reads != layer.reads:
            groups.append([])
            held = 0
        groups[-1].append(layer)
        held += size
    return groups


def noise_over_signal(rho: float, share: float) -> float:
    """The v of all draws, from the correlation with scores by a ``share`` of them; inf where noise is all there is.

    Example:
        >>> v = 0.1
        >>> round(noise_over_signal(((1 + v) / (1 + 2 * v)) ** 0.5, share=0.5), 6)
        0.1
    """
    square = max(rho, 0.0) ** 2
    return (1 - square) / (square / share - 1) if square > share else math.inf


def expected_agreement(noise: float, times: float = 1.0) -> float:
    """The r of scores from ``times`` the draws with their limit."""
    return 1 / math.sqrt(1 + noise / times)


def note_on_noise(noise: float | None, sequences: int, samples: int, labels: Labels) -> str:
    """One sentence for the user: what these sequences bought, and what four times as many would."""
    if noise is None:
        return "sampling noise: too few sequences to estimate it"
    if labels == "true":
        chance, limit, grow = "their own labels; which were read is chance", "from many more", "sequences"
    elif samples == 1:
        chance, limit, grow = "1 label sample a position; which were read is chance too", "in expectation", "sequences"
    else:
        chance, limit, grow = f"{samples} label samples a position", "in expectation", "sequences or samples"
    r, more = expected_agreement(noise), expected_agreement(noise, 4)
    found = f"r ≈ {r:.3f}" if r >= 0.5 else "r < 0.5"
    note = f"sampling noise: a question's scores, fitted on these {sequences:,} sequences ({chance}), and those {limit}"
    return f"{note} have {found}" + (f"; 4× the {grow} would give {more:.3f}" if math.isfinite(noise) else "")
