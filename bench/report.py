"""RESULTS.md from the files in ``bench/results``: nothing is measured here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HEAD = """# What every pass costs

Made by `make bench` from `bench/results/passes.json`; not edited by hand.

Ratios are to FB, one plain training forward and backward over the same batches in the same process (medians of CPU
seconds over interleaved repetitions), except where a row says otherwise. *counted* is the same ratio in operations
of matrix products, as they were dispatched: what a pass would cost if nothing else took time. FBA, a forward and a
backward through activations alone, is the floor of any pass. All run the same Llama (width 256, 4 blocks, MLP 688,
vocabulary 2,048) on 512 sequences of 128 tokens in batches of 32, float32, eager attention, labels sampled,
16 queries of 128 tokens, relative damping 0.1. The wide layer: width 1,024, MLP 2,816, one block, 16 sequences of 64.
Ours are timed over all 512 sequences; the peers' passes and their FB over fewer, and drawn out on a straight line
(`bench/timing.py`; `python -m bench --whole` times them whole).
"""

PARTIAL_SUMS = """
Where we are over the bound, the difference is in what a pass holds of its own. A fit without a folder keeps partial
sums of its 16 work units in memory, up to one a level of their tree, where the bound counts one sum; with a folder,
as the commands have it, they are on disk. Output moments and squared gradients are summed in two halves, by which the
noise of label sampling is told (one more o² or o·i a layer in each of those sums), and the half's own basis and
eigenvalues (o² + o·i) are held between the two stages. Self-influence held 1/(Λ + λ) beside Λ (o·i) when this was
measured; it no longer does. On the wide layer factors are larger than the activations, so that this is most of what
there is."""


def write_report(results: Path, out: Path) -> None:
    """Write the page; says what is missing rather than leave it out."""
    content = json.loads((results / "passes.json").read_text())
    rows, machine = content["rows"], content["machine"]
    out.write_text(
        "\n".join([HEAD, _setting(content, machine), *_costs(rows), *_misses(rows), *_memory(rows), *_facts(content)])
        + "\n"
    )


def _setting(content: dict[str, Any], machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in content["versions"].items() if number)
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    text = f"{machine['processor']}, {machine['cores']} cores of which {threads}, torch {machine['torch']}; {versions}."
    if machine["load_at_start"] > 0.5:
        text += (
            f" **Others were using the machine** (load {machine['load_at_start']} at the start): provisional, since "
            "shared caches and memory lengthen CPU seconds too."
        )
    if elsewhere := content["peers_measured_elsewhere"]:
        text += f" {' and '.join(elsewhere)}: numbers of an earlier run, in `bench/results/peers.json`."
    if sitting := content["notes"].get("sitting"):
        text += f" {sitting}"
    return text + "\n"


def _costs(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        "| pass | | whence | counted | bound | | Kronfluence | Bergson | ahead |",
        "|---|---|--:|--:|--:|---|--:|--:|---|",
    ]
    for row in rows:
        within = "" if row["ratio"] is None or row["bound"] is None else "✓" if row["ratio"] <= row["bound"] else "✗"
        ahead = {True: "✓", False: "✗", None: ""}[row["ahead"]]
        ours = [_number(row[key]) for key in ("ratio", "counted", "bound")]
        theirs = [_number(row[key]) for key in ("kronfluence", "bergson")]
        cells = [f"`{row['pass']}`", row["what"], *ours, within, *theirs, ahead]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _misses(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What is over its bound, beside what its operations come to at the rate of the activation pass."""
    over = [
        row for row in rows if row["ratio"] is not None and row["bound"] is not None and row["ratio"] > row["bound"]
    ]
    floor = next((row for row in rows if row["pass"] == "FBA" and row["ratio"] and row["counted"]), None)
    if not over or floor is None:
        return []
    lines = [
        "\n## Over the bound\n",
        f"FBA itself takes {floor['ratio']:.2f} where {floor['counted']:.2f} are counted: what is not a matrix product "
        "(norms, rotary",
        "embeddings, softmax, copies) is the same in FB and FBA and weighs more in the one that multiplies less. Every "
        "pass",
        "stands on FBA and carries that difference with it; the rest is what our own pass takes beyond its count.\n",
        "| pass | bound | counted | counted, on the FBA of this machine | measured | spread |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for row in over:
        counted = row["counted"]
        excess = floor["ratio"] - floor["counted"] if row["unit"] == "FB" else 0.0
        expected = None if counted is None else counted + excess
        spread = " to ".join(f"{one:.2f}" for one in row["spread"])
        numbers = [row["bound"], counted, expected, row["ratio"]]
        lines.append(f"| `{row['pass']}` | {' | '.join(map(_number, numbers))} | {spread} |")
    return lines


def _memory(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = [
        "\n## Peak memory, MB\n",
        "Above the process with model and data loaded, what is resident included. The bound is 1.2 × (activation pass",
        "at the same batch + the factors and queries that the pass must hold).\n",
        "| pass | activation pass | whence | bound | | Kronfluence | Bergson |",
        "|---|--:|--:|--:|---|--:|--:|",
    ]
    for row in rows:
        if row["peak_mb"] is None:
            continue
        limit = row["peak_bound_mb"]
        within = "" if limit is None else "✓" if row["peak_mb"] <= limit else "✗"
        numbers = [row["activation_pass_mb"], row["peak_mb"], limit]
        theirs = [row["kronfluence_peak_mb"], row["bergson_peak_mb"]]
        cells = [f"`{row['pass']}`", *map(_whole, numbers), within, *map(_whole, theirs)]
        lines.append("| " + " | ".join(cells) + " |")
    if any(row["peak_bound_mb"] is not None and (row["peak_mb"] or 0) > row["peak_bound_mb"] for row in rows):
        lines.append(PARTIAL_SUMS)
    return lines


def _facts(content: dict[str, Any]) -> list[str]:
    found = content.get("facts") or {}
    if not found:
        return []
    disk, stored, computed = (found[name] for name in ("disk_bytes_a_weight", "stored_bfloat16", "computed_bfloat16"))
    kronfluence = (content.get("peer_facts") or {}).get("kronfluence", {}).get("disk_bytes_a_weight")
    faster = computed["fit_float32_cpu"] / computed["fit_bfloat16_cpu"]
    return [
        "\n## Disk and half precision\n",
        f"A fit leaves {disk['float32']:.1f} bytes a tracked weight in float32 and {disk['bfloat16']:.1f} in bfloat16"
        + (f" (Kronfluence: {kronfluence:.1f})." if kronfluence else "."),
        f"Bases and eigenvalues kept in bfloat16: Spearman with float32 {stored['spearman_scores']:.4f} "
        f"for scores, {stored['spearman_self_influence']:.4f} for self-influence.",
        f"Model run in bfloat16, sums in float32: {computed['spearman_scores']:.4f} and "
        f"{computed['spearman_self_influence']:.4f}; a fit is {faster:.2f} × as fast. Weights and tokens are "
        "random here: agreement on a trained model may differ.",
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"
