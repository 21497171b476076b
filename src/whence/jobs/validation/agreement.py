"""How well scores agree with what they approximate, as numbers and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from whence.evaluate.statistics import mean_over_queries, pearson, spearman


def agreement_of(scores: Tensor, truth: Tensor) -> dict[str, Any]:
    """Pearson and Spearman over training examples, a question, and averaged over questions."""
    a, b = scores.double().cpu().numpy(), truth.double().cpu().numpy()
    found = {"pearson": pearson(a, b), "spearman": spearman(a, b)}
    return {
        name: {**mean_over_queries(values).to_dict(), "per_query": values.tolist()} for name, values in found.items()
    }


def table(agreement: Mapping[str, Any], seconds: Mapping[str, float]) -> list[str]:
    """A line for each method, and for whatever else took time."""
    width = max(map(len, [*agreement, *seconds]))
    lines = [f"{'':<{width}}  {'Pearson':<24}{'Spearman':<24}seconds"]
    for name in [*agreement, *(name for name in seconds if name not in agreement)]:
        cells = [_cell(agreement[name][kind]) if name in agreement else "" for kind in ("pearson", "spearman")]
        lines.append(f"{name:<{width}}  {cells[0]:<24}{cells[1]:<24}{seconds[name]:.1f}")
    return lines


def _cell(mean: Mapping[str, Any]) -> str:
    if mean["value"] is None:
        return "none"
    low, high = mean["interval"]["low"], mean["interval"]["high"]
    return f"{mean['value']:.3f}" + ("" if low == high else f" [{low:.3f}, {high:.3f}]")  # nothing varied
