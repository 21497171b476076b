"""The rows of the table, what each is held to, and what was known before."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One row of RESULTS.md."""

    name: str
    what: str
    bound: float | None
    """The ratio that is to be reached."""
    shape: str = "bench"
    source: str | None = None
    """The pass it is measured by, if not its own name."""


ROWS = (
    Row("FBA", "forward and backward through activations alone", None),
    Row("moments", "sums of a aᵀ and δ δᵀ, not yet decomposed", 1.1),
    Row("eigenbasis", "eigendecompositions, float64, once", None),
    Row("eigenvalues", "squared gradients in the eigenbasis", 1.6),
    Row("scores_16", "16 queries: gradients, solve, a training pass", 1.1),
    Row("scores_16_rank32", "the same, queries cut to rank 32", None),
    Row("scores_1", "1 query of rank 32", 0.8),
    Row("scores_1_dense", "1 dense query", None),
    Row("scores_16_as_4", "16 queries given as 4 batches of 4", None),
    Row("per_layer_16", "16 queries, scores by layer", None),
    Row("per_token_16", "16 queries of rank 32, scores by token", 1.75),
    Row("per_token_16_dense", "16 dense queries, scores by token", None),
    Row("self_influence", "every sequence with itself", 1.75),
    Row("query", "one query's gradient, solved, cut to rank 32 (× its own FBA)", 3.3),
    Row("total", "fit, 16 queries, scores", 3.9),
    Row("wide_eigenvalues", "wide layer: eigenvalues (× FBA)", 3.1, "wide", "eigenvalues"),
    Row("wide_self_influence", "wide layer: self-influence (× FBA)", 3.7, "wide", "self_influence"),
)

SAME = {"scores_16_as_4": "scores_16", "per_layer_16": "scores_16"}
"""Rows that must cost what another row does."""
WITHIN = 1.05
"""How much more is still the same: what repetitions of one pass differ by."""

PEAK = 1.2
"""Peak memory over (activation pass + what is resident)."""
