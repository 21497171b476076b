"""Eigendecomposition of a covariance: float64, clamped, and never of a NaN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whence.errors import NumericalError


@dataclass(frozen=True, slots=True)
class Eigenbasis:
    """``M = Q diag(values) Qᵀ`` with eigenvalues ascending and never negative."""

    values: Float[Tensor, " i"]
    vectors: Float[Tensor, "i i"]
    unseen: int
    """Directions whose eigenvalue is zero to rounding: never seen while fitting."""


def eigenbasis(matrix: Float[Tensor, "i i"], *, name: str, dtype: torch.dtype = torch.float32) -> Eigenbasis:
    """Decompose a positive semi-definite matrix in float64.

    Eigenvalues that rounding made negative are clamped to zero: left alone they give negative
    self-influences, and a pole where −λ meets the damping.

    Args:
        name: What the matrix belongs to, for the error.
        dtype: What the result is stored in.

    Raises:
        NumericalError: If the matrix holds NaN or inf; LAPACK would fail later and name nothing.
    """
    if not torch.isfinite(matrix).all():
        raise NumericalError(
            f"the second moment of {name} holds NaN or inf",
            hint="run in float32 (`--dtype float32`), or remove the document that made it so",
        )
    device = matrix.device
    exact = matrix.double() if device.type != "mps" else matrix.cpu().double()
    values, vectors = torch.linalg.eigh(exact)
    values = values.clamp(min=0)
    noise = values[-1] * len(values) * torch.finfo(matrix.dtype).eps
    unseen = int((values <= noise).sum())
    return Eigenbasis(values.to(device, torch.float64), vectors.to(device, dtype), unseen)
