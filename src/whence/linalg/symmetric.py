"""Sums of outer products, at little more than half the price of a matrix product.

``XᵀX`` is symmetric, so only its upper block triangle is formed: with ``b`` block rows that is
``(b + 1) / 2b`` of the work. The lower half is filled in once, when the sum is complete.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

BLOCK_ROWS = 4
"""5/8 of the full product; more rows make products too thin to run at full rate (measured at widths 256–3072)."""


def add_gram(total: Float[Tensor, "i i"], rows: Float[Tensor, "m i"]) -> None:
    """Add ``rowsᵀ rows`` to the upper block triangle of ``total``, in place and in ``total``'s dtype.

    Products of half-precision rows are taken in ``total``'s precision: a running sum kept in bfloat16
    would lose most of its mass after a few thousand batches.
    """
    rows = rows.to(total.dtype)
    width = total.shape[0]
    step = max(64, -(-width // BLOCK_ROWS))
    for start in range(0, width, step):
        stop = min(start + step, width)
        total[start:stop, start:].addmm_(rows[:, start:stop].T, rows[:, start:])


def mirrored(total: Float[Tensor, "*n i i"]) -> Float[Tensor, "*n i i"]:
    """The whole symmetric matrices, from their upper triangles."""
    upper = total.triu()
    return upper + upper.triu(1).mT
