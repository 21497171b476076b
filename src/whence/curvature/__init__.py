"""Row 4: the curvature G of the mean loss, a block a layer.

Every block is diagonal in some Kronecker basis (`block.Block`); the estimators differ in which basis and
which eigenvalues. To add one: a file with its stages, and a line in `CURVATURES`.
"""

from __future__ import annotations

from whence.curvature.block import Block
from whence.curvature.blockwise import Curvature
from whence.curvature.damping import Damping
from whence.curvature.diagonal import DiagonalEstimator
from whence.curvature.ekfac import EKFACEstimator
from whence.curvature.estimator import Estimator, Stage
from whence.curvature.identity import IdentityEstimator
from whence.curvature.kfac import KFACEstimator

CURVATURES: dict[str, type[Estimator]] = {
    "identity": IdentityEstimator,
    "diagonal": DiagonalEstimator,
    "kfac": KFACEstimator,
    "ekfac": EKFACEstimator,
}

__all__ = ["CURVATURES", "Block", "Curvature", "Damping", "Estimator", "Stage"]
