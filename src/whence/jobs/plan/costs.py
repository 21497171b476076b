r"""What each pass adds to a plain one, counted before it runs.

Operations of matrix products, a multiply and an add being two, as ``torch.utils.flop_counter`` counts them: the
tests hold one against the other. The rules are those of DESIGN.md's table, asked of the code that follows them
(`rotation.on_traces`, `score.meets_as_factors`, `symmetric.BLOCK_ROWS`), so that they cannot drift apart.

    moments          gram(i) once for all readers, gram(o)                      a position
    rotated          2oi, and each side 2o² / 2i² a position or 2o²i / 2oi² a sequence
    scores           2qr(o+i) a position, or 2oi a position and 2oiq a sequence
    eigendecomposition     ~ 10 i³ a distinct A and 2 · 10 o³ a S
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from whence.curvature.rotation import on_traces
from whence.influence.score import meets_as_factors
from whence.layers import TrackedLayer
from whence.layers.groups import by_reads
from whence.linalg.lowrank import ITERATIONS, OVERSAMPLING
from whence.linalg.symmetric import BLOCK_ROWS
from whence.types import Batch

EIGH = 10
"""Operations of a symmetric eigendecomposition over n³."""


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """A padded batch: ``n`` sequences of ``t`` positions, of which ``scored`` in all carry loss."""

    n: int
    t: int
    scored: int = 0
    padded: bool = False
    """Whether some position is padding: masks and masked copies take memory."""
    packed: tuple[int, int] | None = None
    """The rows and positions that the model reads, where sequences share rows."""

    @classmethod
    def of(cls, batch: Batch) -> Shape:
        """The shape of a batch that exists."""
        n, t = batch.real.shape
        rows = None if batch.layout is None else tuple(batch.layout.inputs.shape)
        return cls(n, t, int(batch.scored.sum()), not bool(batch.real.all()), rows)  # type: ignore[arg-type]

    @property
    def read(self) -> Shape:
        """As the model reads it."""
        return self if self.packed is None else Shape(*self.packed, self.scored)

    @property
    def positions(self) -> int:
        return self.n * self.t

    def rows(self, n: int) -> Shape:
        """The same with fewer sequences."""
        return replace(self, n=n, scored=round(self.scored * n / self.n))


def gram(width: int, rows: int) -> int:
    """``XᵀX`` of ``rows`` rows, its upper block triangle."""
    step = max(64, -(-width // BLOCK_ROWS))
    return sum(2 * rows * (min(start + step, width) - start) * (width - start) for start in range(0, width, step))


def moments(layers: Sequence[TrackedLayer], shape: Shape, *, samples: int = 1) -> int:
    """A and S of one batch; A does not depend on the labels and is taken once."""
    inputs = sum(gram(members[0].inputs, shape.positions) for members in by_reads(layers).values())
    outputs = sum(gram(layer.outputs, shape.positions) for layer in layers)
    return inputs + samples * outputs


def rotated(layers: Sequence[TrackedLayer], shape: Shape, *, basis: bool = True) -> int:
    """Per-sequence gradients in the eigenbasis (or, without one, as they are)."""
    total = 0
    for members in by_reads(layers).values():
        shared = False
        for layer in members:
            o, i = layer.outputs, layer.inputs
            total += 2 * o * i * shape.positions
            if not basis:
                continue
            left, right = on_traces(shape.t, layer)
            total += 2 * o * o * (shape.positions if left else shape.n * i)
            if not right:
                total += 2 * o * i * i * shape.n
            elif not shared:
                total, shared = total + 2 * i * i * shape.positions, True
    return total


def scores(
    layers: Sequence[TrackedLayer], shape: Shape, *, queries: int, rank: int | None = None, by_token: bool = False
) -> int:
    """The queries meeting one batch."""
    total = 0
    for layer in layers:
        o, i = layer.outputs, layer.inputs
        kept = None if rank is None else min(rank, o, i)
        if kept is not None and (by_token or meets_as_factors(shape.t, queries, kept, layer)):
            total += 2 * queries * kept * (o + i) * shape.positions
        elif by_token:
            total += 2 * queries * o * i * shape.positions
        else:
            total += 2 * o * i * (shape.positions + queries * shape.n)
    return total


def probed(layers: Sequence[TrackedLayer], positions: int, pairs: int, *, basis: bool = True) -> int:
    """A few sequences' traces meeting by all draws and by half of them (`curvature.noise`).

    Args:
        positions: Of all sequences together, padding included.
        pairs: A question and a sequence that it meets.
    """
    total = 0
    for layer in layers:
        o, i = layer.outputs, layer.inputs
        turned = 2 * (o * o + i * i) * positions if basis else 0
        total += 2 * (turned + 2 * o * i * positions + 2 * o * i * pairs)
    return total


def multiplied_out(layers: Sequence[TrackedLayer], positions: int, *, queries: int, rank: int) -> int:
    """Low-rank queries as dense matrices, in the layers where sequences of that length meet them so."""
    total = 0
    for layer in layers:
        kept = min(rank, layer.outputs, layer.inputs)
        if not meets_as_factors(positions, queries, kept, layer):
            total += 2 * queries * kept * layer.weights
    return total


def solved(layers: Sequence[TrackedLayer], *, queries: int, rank: int | None, basis: bool = True) -> int:
    """From gradients in the eigenbasis to prepared queries: the cut, and the way back."""
    total = 0
    for layer in layers:
        o, i = layer.outputs, layer.inputs
        if rank is None:
            total += 2 * o * i * (o + i) * basis
        else:
            r = min(rank, o, i)
            total += truncation(o, i, rank) + 2 * r * (o * o + i * i) * basis
    return queries * total


def truncation(outputs: int, inputs: int, rank: int) -> int:
    """`linalg.lowrank.truncated` of one matrix."""
    tall, narrow = max(outputs, inputs), min(outputs, inputs)
    if rank >= narrow:
        return 0
    width = min(rank + OVERSAMPLING, narrow)
    products = 2 * tall * narrow * width * (2 + 2 * ITERATIONS)
    orthonormal = 2 * tall * width * width * (1 + ITERATIONS)
    return products + orthonormal + 2 * width * width * narrow + 2 * width * rank * (tall + narrow)


def eigendecompositions(layers: Sequence[TrackedLayer]) -> int:
    """Every A once for its readers, every S, and that of half the draws."""
    inputs = sum(members[0].inputs ** 3 for members in by_reads(layers).values())
    return EIGH * (inputs + 2 * sum(layer.outputs**3 for layer in layers))


# --- what is held and kept, in numbers (not bytes) --------------------------------------------------------------


def bases(layers: Sequence[TrackedLayer]) -> int:
    """Q_A and Q_S."""
    return sum(members[0].inputs ** 2 for members in by_reads(layers).values()) + output_bases(layers)


def output_bases(layers: Sequence[TrackedLayer]) -> int:
    """Q_S alone."""
    return sum(layer.outputs**2 for layer in layers)


def traces(layers: Sequence[TrackedLayer]) -> int:
    """What a position leaves in all layers: inputs, once for all readers, and output gradients."""
    return sum(members[0].inputs for members in by_reads(layers).values()) + sum(layer.outputs for layer in layers)


def weights(layers: Sequence[TrackedLayer]) -> int:
    """Tracked weights: one set of eigenvalues, or one dense query."""
    return sum(layer.weights for layer in layers)


def factors(layers: Sequence[TrackedLayer], rank: int) -> int:
    """One query cut to a rank."""
    return sum(min(rank, e.outputs, e.inputs) * (e.outputs + e.inputs) for e in layers)
