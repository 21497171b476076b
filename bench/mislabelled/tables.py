"""The figures as a page of tables: ``bench/results/mislabelled.md``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

METHODS = {
    "self_influence": "self-influence",
    "relative_self_influence": "relative self-influence",
    "loss": "loss",
    "margin": "margin",
    "cleanlab": "cleanlab",
    "cleanlab_adjusted": "cleanlab, adjusted",
}
CURVES = {
    "remove_worst": "share removed, most harmful first",
    "remove_best": "share removed, most helpful first",
    "add_best": "share kept, most helpful only",
}

INTRODUCTION = """\
# Wrong labels and the worth of training points

Made by `python -m bench.mislabelled DATA`; do not edit. One label in ten of each training set was changed to another
class at random. `bench/mislabelled/` says how each net is trained and what the methods are.
"""

READING = """\
## How to read this (seed 0, one set of flips; differences below about 0.005 mean little)

- Self-influence reaches 0.95 on the digits, in and out of fold, but is not the best everywhere. In sample it is first
  only on Banking77; on the digits and the messages the loss and the margin are ahead. Out of fold they are ahead on
  all three, on Banking77 by far.
- Why: a flipped label's residual p − y is bounded, so among confident mistakes self-influence ranks by leverage, and
  right but unusual examples have that too. Where the example's own leverage cancels (relative self-influence), or is
  damped away, the gap on the digits closes; out of fold on Banking77 it does not, as the loss is unbounded there.
- cleanlab's default score is the probability of the given label: the same ranking as the loss. Its adjusted margin did
  not do better here.
- Influence on the validation loss is a poor detector of flips in nets that were stopped early; more damping helps.
- Removing the most helpful points by influence costs far more accuracy than removing as many by chance, by loss or by
  self-influence: that end of the ranking is right. Removing the most harmful tenth raises accuracy by half a point on
  the digits, within the noise of 2,000 test pictures, and by nothing on the messages. Keeping only the most helpful
  tenth is worse than chance on both: the best points say the same thing over again.
"""


def page(sets: Sequence[dict[str, Any]]) -> str:
    """Every set's figures, as Markdown."""
    parts = [INTRODUCTION]
    for title, read in (
        ("Out of fold: each example judged by a net that was not trained on it", lambda one: one),
        ("In sample: one net trained on every label, as `whence self --labels` sees it", lambda one: one["in_sample"]),
    ):
        rows = [[name, *(_pair(read(one), key) for one in sets)] for key, name in METHODS.items()]
        parts.append(f"## {title}\n\nROC-AUC, and precision among the most suspect tenth.\n")
        parts.append(_table(["", *(_set(one) for one in sets)], rows))
    parts.append("## In sample, by damping\n\nROC-AUC; damping is relative to the mean eigenvalue of a layer.\n")
    for key, name in (
        ("self_influence_auc_by_damping", "self-influence"),
        ("influence_on_validation_auc_by_damping", "minus influence on the validation loss"),
    ):
        dampings = list(sets[0]["in_sample"][key])
        rows = [[one["set"], *(f"{one['in_sample'][key][lam]:.3f}" for lam in dampings)] for one in sets]
        parts.append(_table([name, *dampings], rows))
    for one in sets:
        if "curves" in one:
            parts += _curves(one)
    return "\n".join([*parts, READING])


def _curves(one: dict[str, Any]) -> list[str]:
    found = one["curves"]
    parts = [
        f"## Test accuracy with points removed: {one['set']}\n\nWith all points {found['all']:.3f}; a mean over "
        f"{found['training_seeds']} orders of training, and {found['random_draws']} draws for chance.\n"
    ]
    for curve, title in CURVES.items():
        shares = list(found[curve]["random"])
        rows = [[name, *(f"{points[s]:.3f}" for s in shares)] for name, points in found[curve].items()]
        parts.append(_table([title, *shares], rows))
    return parts


def _set(one: dict[str, Any]) -> str:
    return f"{one['set']} ({one['examples']:,} examples, {one['classes']} classes; {one['net']})"


def _pair(found: dict[str, Any], key: str) -> str:
    auc, precision = found["auc"][key], found["precision_at_10"][key]
    return "not measured" if auc is None else f"{auc:.3f}, {precision:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
