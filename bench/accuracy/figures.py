"""The accuracy figures as pictures: against processor seconds, and over damping. Matplotlib is loaded to draw only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.drawing import pyplot

NAMES = {
    "gradient_dot": "gradient dot",
    "cosine": "cosine",
    "diagonal": "diagonal",
    "kfac": "K-FAC",
    "ekfac": "EK-FAC",
    "ekfac_expected": "EK-FAC, expected labels",
    "ekfac_refined": "EK-FAC + 5 CG",
    "astra": "ASTRA",
    "lissa": "LiSSA, depth N",
    "lissa_deep": "LiSSA, depth 5N",
    "cg": "CG",
    "exact": "exact",
}
SWEPT = {
    "exact": "exact",
    "ekfac_refined": "EK-FAC + 5 CG",
    "block_diagonal": "block-diagonal",
    "lissa": "LiSSA, depth N",
    "ekfac_expected": "EK-FAC, expected labels",
    "ekfac": "EK-FAC",
    "kfac": "K-FAC",
    "gradient_dot": "gradient dot",
}
ABLATED = [name for name in SWEPT if name != "exact"]
RETRAINED = ("ekfac", "ekfac_refined", "exact")
COLUMNS = 4


def draw_costs(tasks: Sequence[dict[str, Any]], path: Path) -> None:
    """Correlation with PBRF against processor seconds."""
    figure, panels, plt = _panels(tasks)
    colours = plt.get_cmap("tab20")
    for axis, task in panels:
        for number, name in enumerate(NAMES):
            if name not in task["agreement"]:
                continue
            mean, x = task["agreement"][name]["pearson"], task["seconds"][name]
            below, above = mean["value"] - mean["interval"]["low"], mean["interval"]["high"] - mean["value"]
            axis.errorbar(x, mean["value"], [[below], [above]], fmt="o", color=colours(number), ms=5, lw=1)
        axis.axvline(task["seconds"]["pbrf"], color="0.6", ls=":")
        axis.set(xscale="log", ylim=(-0.3, 1.04), title=task["task"])
        axis.axhline(0, color="0.85", lw=0.8)
    handles = _handles(plt, colours, NAMES.values(), ls="")
    handles.append(plt.Line2D([], [], ls=":", color="0.6", label="PBRF's own time"))
    _finish(figure, handles, "Pearson with PBRF", "processor seconds for all queries", path)
    plt.close(figure)


def draw_dampings(tasks: Sequence[dict[str, Any]], path: Path) -> None:
    """Correlation with the exact solve at the same damping."""
    figure, panels, plt = _panels(tasks)
    colours = plt.get_cmap("tab10")
    for axis, task in panels:
        multiples = [float(one) for one in task["sweep"]]
        for number, name in enumerate(ABLATED):
            heights = [one["pearson_with_exact"].get(name) for one in task["sweep"].values()]
            known = [(x, y) for x, y in zip(multiples, heights, strict=True) if y is not None]
            if known:
                axis.plot(*zip(*known, strict=True), "o-", color=colours(number), ms=3, lw=1.2)
        axis.set(xscale="log", ylim=(-0.1, 1.04), title=task["task"])
        axis.axhline(0, color="0.85", lw=0.8)
        axis.axvline(0.1, color="0.8", ls=":")
    handles = _handles(plt, colours, [SWEPT[name] for name in ABLATED])
    handles.append(plt.Line2D([], [], ls=":", color="0.7", label="the paper's damping"))
    _finish(figure, handles, "Pearson with the exact solve", "damping, times the mean eigenvalue", path)
    plt.close(figure)


def draw_retrained(entries: Sequence[dict[str, Any]], path: Path) -> None:
    """LDS, of nets trained anew on random halves, over damping."""
    figure, panels, plt = _panels(entries)
    colours = plt.get_cmap("tab10")
    for axis, entry in panels:
        for number, name in enumerate(RETRAINED):
            points = over_damping(entry, name)
            multiples = [float(damping) for damping in points]
            heights = [one["value"] for one in points.values()]
            low, high = ([one["interval"][end] for one in points.values()] for end in ("low", "high"))
            axis.plot(multiples, heights, "o-", color=colours(number), ms=3, lw=1.2)
            axis.fill_between(multiples, low, high, color=colours(number), alpha=0.12, lw=0)
        axis.axhline(entry["lds"]["gradient_dot"]["value"], color="0.5", ls="--", lw=1)
        axis.set(xscale="log", ylim=(-0.1, 0.8), title=entry["task"])
    handles = _handles(plt, colours, [NAMES[name] for name in RETRAINED])
    handles.append(plt.Line2D([], [], ls="--", color="0.5", label="gradient dot"))
    _finish(figure, handles, "LDS", "damping, times the mean eigenvalue", path)
    plt.close(figure)


def over_damping(entry: dict[str, Any], name: str) -> dict[str, Any]:
    """Damping, as it is written → the LDS of a method."""
    keys = (key.split() for key in entry["lds"] if " " in key)
    return {damping: entry["lds"][f"{name} {damping}"] for method, damping in keys if method == name}


def _handles(plt: Any, colours: Any, labels: Iterable[str], **style: Any) -> list[Any]:
    """Of a legend: a mark for each of what is drawn in these colours."""
    return [
        plt.Line2D([], [], marker="o", color=colours(number), label=label, **style)
        for number, label in enumerate(labels)
    ]


def _panels(tasks: Sequence[dict[str, Any]]) -> tuple[Any, Iterable[tuple[Any, dict[str, Any]]], Any]:
    plt = pyplot()
    rows = -(-len(tasks) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(3.4 * COLUMNS, 2.7 * rows + 0.9), squeeze=False)
    for axis in list(axes.flat)[len(tasks) :]:
        axis.axis("off")
    return figure, zip(axes.flat, tasks, strict=False), plt


def _finish(figure: Any, handles: list[Any], height: str, width: str, path: Path) -> None:
    figure.legend(handles=handles, loc="lower center", ncol=6, frameon=False)
    figure.supylabel(height)
    figure.supxlabel(width, y=0.11)
    figure.tight_layout(rect=(0.01, 0.12, 1, 1))
    figure.savefig(path, metadata={"Date": None})
