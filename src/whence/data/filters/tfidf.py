"""TF-IDF as Grosse et al. 2023 filter with it, equations 28 and 29.

    score(Q, D) = Σ over tokens t of Q, repeats included, of IDF(t) if t occurs in D
    IDF(t)      = log((C − n_t + ½) / (n_t + ½) + 1)          C documents, n_t of which hold t

How often a token occurs in D does not matter, nor how long D is: long documents are favoured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from whence.data.filters.postings import Filter


class TFIDF(Filter):
    """Whether a query token occurs at all."""

    def weights(self, documents: NDArray[np.int32], counts: NDArray[np.int32]) -> NDArray[np.float64]:
        return np.ones(len(documents))
