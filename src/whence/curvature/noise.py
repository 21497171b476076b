r"""How far the eigenvalues have converged, from the disagreement of two halves of the stream.

Even- and odd-numbered sequences give independent estimates Λ₁, Λ₂ of the same Λ (labels sampled anew for each).
For gradients whose components in the eigenbasis are independent with variance Λ, the scores that the two
estimates give are correlated by

    ρ = Σ Λ² / ((Λ₁+λ)(Λ₂+λ))  /  √( Σ Λ²/(Λ₁+λ)²  ·  Σ Λ²/(Λ₂+λ)² )

and if each half is truth plus independent noise, the estimate from ``m`` times a half's sequences agrees with
the limit by √(1 / (1 + (1/ρ − 1) / m)): Spearman–Brown. It covers noise in labels and in the choice of
sequences, given the eigenbasis; noise in the basis itself is not seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor

DAMPING = 0.1
"""The noise is stated at the default damping; more damping hides more of it."""


def half_agreement(halves: Iterable[tuple[Tensor, Tensor]], damping: float = DAMPING) -> float:
    """ρ above, pooled over layers; the arguments are the two halves' mean squares, a pair a layer."""
    both = first = second = 0.0
    for one, two in halves:
        truth = (one + two).double() / 2
        if not float(truth.mean()) > 0:
            continue
        one, two = (truth / (half.double() + damping * half.double().mean().clamp(min=1e-300)) for half in (one, two))
        both += float((one * two).sum())
        first += float(one.square().sum())
        second += float(two.square().sum())
    return both / math.sqrt(first * second) if first > 0 and second > 0 else 1.0


def expected_agreement(rho: float, multiple: float) -> float:
    """Correlation with the limit of scores fitted on ``multiple`` halves' worth of samples."""
    return math.sqrt(1 / (1 + (1 / max(rho, 1e-6) - 1) / multiple))


def note_on_noise(sums: dict[str, Tensor], layers: Iterable[str]) -> str:
    """One sentence for the user: what these sequences bought, and what four times as many samples would."""
    counts = sums["sequences"]
    if int(counts.min()) == 0:
        return "sampling noise: too few sequences to estimate it"
    rho = half_agreement(
        (sums[f"squares.{name}"][0] / counts[0], sums[f"squares.{name}"][1] / counts[1]) for name in layers
    )
    total = int(counts.sum())
    return (
        f"sampling noise: scores from these {total:,} sequences are expected to agree with the exact expectation "
        f"by r ≈ {expected_agreement(rho, 2):.3f} (eigenvalues in this basis); "
        f"4× the sequences or label samples would give {expected_agreement(rho, 8):.3f}"
    )


__all__ = ["expected_agreement", "half_agreement", "note_on_noise"]
