"""``lds.md`` and ``lds.svg`` from lds.json's content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.drawing import pyplot

BAR = {
    "EK-FAC": "0.454 [0.38, 0.52]",
    "EK-FAC + CG, damping 10": "0.471",
    "K-FAC": "0.436",
    "cosine": "0.205",
    "dot": "0.177",
}
"""Bergson 2.5.1's on a protocol of this description; its text, seeds and initial weights are not known."""
MAIN = {
    "dot": "gradient dot product",
    "cosine": "cosine",
    "diagonal 0.1": "diagonal Fisher",
    "kfac 0.1": "K-FAC",
    "ekfac 0.1": "EK-FAC",
    "ekfac 10": "EK-FAC, damping 10",
    "ekfac normalised 0.1": "EK-FAC over √self-influence",
    "sampled 0.1": "sampled Fisher, inverted exactly",
    "sampled 10": "sampled Fisher, damping 10",
    "cg 0.1, 5 products": "EK-FAC refined (5 products)",
    "cg 0.1, 8 products": "CG, 8 products",
    "cg 10, 4 products": "CG, damping 10, 4 products",
}
PAIRED = {
    "dot": "dot",
    "cosine": "cosine",
    "kfac 0.1": "K-FAC",
    "cg 10, 4 products": "CG at damping 10",
}
"""Compared with EK-FAC at 0.1 query by query, under every protocol."""
FIRST = "the protocol above"


def write_page(found: Mapping[str, Any], folder: Path) -> None:
    """Both files."""
    _figure(found, folder / "lds.svg")
    (folder / "lds.md").write_text(page(found), encoding="utf-8")


def page(found: Mapping[str, Any]) -> str:
    """``lds.md``."""
    protocol = found["protocol"]
    lines = [
        "# LDS on a small language model",
        "",
        "Made by `python -m bench.lds`; not edited by hand, but for the account at the end (`bench/lds/account.md`).",
        "",
        f"A byte-level Llama ({protocol['blocks']} layers, width {protocol['width']}, MLP {protocol['hidden']})",
        f"trained on {protocol['train']} windows of {protocol['window']} bytes of `{protocol['source']}`, asked about",
        f"{protocol['queries']} held-out windows ({found['loss']:.3f} nats a byte); {protocol['subsets']} retrainings",
        f"without a random {1 - protocol['fraction']:.0%}. LDS: Spearman over subsets of summed scores and measured",
        "log-probability, averaged over queries; in brackets 95 % bootstrap over queries, paired for differences.",
        "Damping is relative to each layer's mean eigenvalue, 0.1 where not said. Seconds are processor seconds, for",
        "all queries, fit included.",
        "",
        "| method | LDS | above EK-FAC | seconds |",
        "|---|--:|--:|--:|",
    ]
    for key, name in MAIN.items():
        row = found["lds"][key]
        above = "" if key == "ekfac 0.1" else _difference(row["above_ekfac"])
        lines.append(f"| {name} | {_mean(row)} | {above} | {_seconds(found, key)} |")
    bar = "; ".join(f"{name} {value}" for name, value in BAR.items())
    lines += ["", f"Bergson 2.5.1 on a protocol of this description: {bar}.", "", "![LDS](lds.svg)", ""]
    lines += _cg(found) + _damping(found) + _layers(found) + _variants(found) + _speed(found)
    lines += ["## Every setting", "", *(f"- {name}: {value}" for name, value in protocol.items())]
    lines += [f"- machine: {found['machine']}", "", (Path(__file__).parent / "account.md").read_text().strip()]
    return "\n".join(lines) + "\n"


def _cg(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "## What products of conjugate gradient buy",
        "",
        "Block CG on the exact Gauss-Newton matrix, EK-FAC its preconditioner; all queries share each product. An",
        "epoch is one of training, forward and backward. No product: EK-FAC itself.",
        "",
        "| damping | products | epochs a query | residual | LDS | above EK-FAC at 0.1 |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for damping in dict.fromkeys(step["damping"] for step in found["cg"]):
        plain = found["lds"][f"ekfac {damping:g}"]
        lines.append(f"| {damping:g} | 0 | 0 | – | {_mean(plain)} | {_difference(plain['above_ekfac'])} |")
        for step in (step for step in found["cg"] if step["damping"] == damping):
            row = found["lds"][step["label"]]
            lines.append(
                f"| {damping:g} | {step['products']} | {step['epochs_a_query']:.1f} | {step['residual']:.2g} | "
                f"{_mean(row)} | {_difference(row['above_ekfac'])} |"
            )
    return [*lines, ""]


def _damping(found: Mapping[str, Any]) -> list[str]:
    dampings = [key.split()[1] for key in found["lds"] if key.startswith("kfac ")]
    lines = ["## By damping", "", "| | " + " | ".join(dampings) + " |", "|---|" + "--:|" * len(dampings)]
    for name, shown in (("kfac", "K-FAC"), ("ekfac", "EK-FAC")):
        cells = [f"{found['lds'][f'{name} {damping}']['value']:.3f}" for damping in dampings]
        lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _layers(found: Mapping[str, Any]) -> list[str]:
    names = [key.partition(", ")[2] for key in found["lds"] if key.startswith("dot, ")]
    lines = ["## By layers", "", "| layers | dot | EK-FAC |", "|---|--:|--:|"]
    lines.append(
        f"| every linear layer of the blocks | {_mean(found['lds']['dot'])} | {_mean(found['lds']['ekfac 0.1'])} |"
    )
    for name in names:
        lines.append(
            f"| {name} | {_mean(found['lds'][f'dot, {name}'])} | {_mean(found['lds'][f'ekfac 0.1, {name}'])} |"
        )
    return [*lines, ""]


def _variants(found: Mapping[str, Any]) -> list[str]:
    every = {FIRST: found, **found["variants"]}
    figures = [one["lds"]["ekfac 0.1"]["value"] for one in every.values()]
    methods = list(next(iter(found["variants"].values()))["lds"])
    lines = [
        "## How far the protocol moves the figures",
        "",
        "Another way to draw the initial weights, other seeds (of weights and of windows) or another source; all else",
        "as above. Llama's initial weights are normal with deviation 0.02, embeddings and all; torch's own are uniform",
        "within 1/√fan-in, its embeddings normal with deviation 1.",
        "",
        f"EK-FAC at 0.1 runs from {min(figures):.3f} to {max(figures):.3f} over these {len(every)} protocols;",
        f"Bergson's is {BAR['EK-FAC']}.",
        "",
        "| protocol | subsets | nats a byte | EK-FAC | "
        + " | ".join(f"{name} − EK-FAC" for name in PAIRED.values())
        + " |",
        "|---|" + "--:|" * (3 + len(PAIRED)),
    ]
    for name, one in every.items():
        rows = one["lds"]
        cells = [str(one["protocol"]["subsets"]), f"{one['loss']:.3f}", _mean(rows["ekfac 0.1"])]
        cells += [_difference(rows[method]["above_ekfac"]) for method in PAIRED]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "Every method's LDS:",
        "",
        "| protocol | " + " | ".join(methods) + " |",
        "|---|" + "--:|" * len(methods),
    ]
    for name, one in every.items():
        lines.append(f"| {name} | " + " | ".join(f"{one['lds'][method]['value']:.3f}" for method in methods) + " |")
    return [*lines, ""]


def _speed(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Retraining side by side",
        "",
        "Processor seconds a model, two epochs, one thread.",
        "",
        "| model | parameters | at once | one by one | side by side | times faster |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {one['model']} | {one['parameters']:,} | {one['together']} | {one['seconds_alone']:.3g} | "
        f"{one['seconds_together']:.3g} | {one['times_faster']:.1f} |"
        for one in found["speed"]
    ]
    return [*lines, ""]


def _figure(found: Mapping[str, Any], path: Path) -> None:
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(7, 4.2))
    for place, (key, name) in enumerate(reversed(MAIN.items())):
        row = found["lds"][key]
        low, high = row["interval"]["low"], row["interval"]["high"]
        error = [[row["value"] - low], [high - row["value"]]]
        axis.errorbar(row["value"], place, xerr=error, fmt="o", color="tab:blue", ms=5, lw=1.2)
        axis.text(-0.01, place, name, ha="right", va="center", fontsize=9)
    axis.set(yticks=[], xlabel="LDS", xlim=(0, None), ylim=(-0.6, len(MAIN) - 0.4))
    axis.grid(axis="x", color="0.9")
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def _mean(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.3f} [{row['interval']['low']:.2f}, {row['interval']['high']:.2f}]"


def _difference(row: Mapping[str, Any]) -> str:
    return f"{row['value']:+.3f} [{row['interval']['low']:+.3f}, {row['interval']['high']:+.3f}]"


def _seconds(found: Mapping[str, Any], key: str) -> str:
    if key in found["seconds"]:
        return f"{found['seconds'][key]:.1f}"
    step = next(step for step in found["cg"] if step["label"] == key)
    return f"{step['seconds'] + found['seconds']['ekfac 0.1']:.1f}"
