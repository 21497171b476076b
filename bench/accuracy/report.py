"""The accuracy figures as pictures and a page: correlation with PBRF, against processor seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

METHODS = (
    "gradient_dot",
    "cosine",
    "diagonal",
    "kfac",
    "ekfac",
    "ekfac_refined",
    "astra",
    "lissa",
    "cg",
    "exact",
)
NAMES = {
    "gradient_dot": "gradient dot",
    "cosine": "cosine",
    "diagonal": "diagonal",
    "kfac": "K-FAC",
    "ekfac": "EK-FAC",
    "ekfac_refined": "EK-FAC + 5 CG",
    "astra": "ASTRA",
    "lissa": "LiSSA",
    "cg": "CG",
    "exact": "exact",
}
ABLATION = ("exact", "block_diagonal", "ekfac", "kfac")


def write_report(results: dict[str, Any], folder: Path) -> None:
    """``accuracy.svg`` and ``ACCURACY.md`` from accuracy.json's content."""
    tasks = results["tasks"]
    _figure(tasks, folder / "accuracy.svg")
    (folder.parent / "ACCURACY.md").write_text("\n".join(_page(tasks)) + "\n", encoding="utf-8")


def _page(tasks: list[dict[str, Any]]) -> list[str]:
    lines = [
        "# Estimators against PBRF",
        "",
        "Made by `python -m bench.accuracy DATA` from `bench/results/accuracy.json`; not edited by hand.",
        "",
        "Pearson correlation of scores with the proximal Bregman response (`whence.evaluate.pbrf`), a test example at",
        "a time over the same training points, averaged. All estimators and PBRF use one λ a layer, a tenth of",
        "EK-FAC's mean eigenvalue. In brackets: 95 % bootstrap over test examples.",
        "",
        "| task | train | points × queries | " + " | ".join(NAMES[m] for m in METHODS) + " |",
        "|---|--:|--:|" + "--:|" * len(METHODS),
    ]
    for task in tasks:
        cells = [_cell(task["pearson_with_pbrf"].get(m), task["interval"].get(m)) for m in METHODS]
        size = f"{task['points']} × {task['queries']}"
        lines.append(f"| `{task['task']}` | {task['train']} | {size} | " + " | ".join(cells) + " |")
    lines += ["", "![Correlation with PBRF against processor seconds](results/accuracy.svg)", ""]
    lines += ["## Processor seconds, all queries together", ""]
    lines += ["| task | " + " | ".join(NAMES[m] for m in METHODS) + " | PBRF |", "|---|" + "--:|" * (len(METHODS) + 1)]
    for task in tasks:
        cells = [_seconds(task["seconds"].get(m)) for m in (*METHODS, "pbrf")]
        lines.append(f"| `{task['task']}` | " + " | ".join(cells) + " |")
    lines += ["", "## Where the accuracy goes: exact → block-diagonal → EK-FAC → K-FAC, over damping", ""]
    lines += ["Pearson with the exact solve at the same damping (times the mean eigenvalue).", ""]
    lines += ["| task | damping | block-diagonal | EK-FAC | K-FAC |", "|---|--:|--:|--:|--:|"]
    for task in tasks:
        for damping, row in task["damping_sweep"].items():
            cells = [_cell(row.get(name)) for name in ABLATION[1:]]
            lines.append(f"| `{task['task']}` | {damping} | " + " | ".join(cells) + " |")
    lines += ["", "## What was run", ""]
    for task in tasks:
        made, truth = task["trained"], task["pbrf"]
        lines.append(
            f"- `{task['task']}`: {task['note']}; rate {made['rate']}, L2 {made['decay']}; loss "
            f"{made['train_loss']:.3g} in training, {made['valid_loss']:.3g} in validation. PBRF: final gradient norm "
            f"{truth['gradient_norm']['median']:.2g} of ε‖∇L‖ (median), asymmetry {truth['asymmetry']:.2g}."
        )
        lines += [f"  - {NAMES[name]}: {note}" for name, note in task["notes"].items()]
    return lines


def _figure(tasks: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "whence"
    from matplotlib import pyplot as plt

    columns = 4
    rows = -(-len(tasks) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 3.0 * rows), squeeze=False)
    colours = plt.get_cmap("tab10")
    for axis, task in zip(axes.flat, tasks, strict=False):
        for number, method in enumerate(METHODS):
            if method not in task["pearson_with_pbrf"]:
                continue
            height, x = task["pearson_with_pbrf"][method], task["seconds"][method]
            low, high = task["interval"][method]
            axis.errorbar(x, height, [[height - low], [high - height]], fmt="o", color=colours(number), ms=5, lw=1)
        axis.axvline(task["seconds"]["pbrf"], color="0.6", ls=":")
        axis.set(xscale="log", ylim=(-0.3, 1.02), title=task["task"])
        axis.axhline(0, color="0.85", lw=0.8)
    for axis in list(axes.flat)[len(tasks) :]:
        axis.axis("off")
    handles = [
        plt.Line2D([], [], marker="o", ls="", color=colours(number), label=NAMES[method])
        for number, method in enumerate(METHODS)
    ]
    handles.append(plt.Line2D([], [], ls=":", color="0.6", label="PBRF's own time"))
    figure.legend(handles=handles, loc="lower center", ncol=6, frameon=False)
    figure.supylabel("Pearson with PBRF")
    figure.supxlabel("processor seconds", y=0.1)
    figure.tight_layout(rect=(0.01, 0.12, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _cell(value: float | None, interval: list[float] | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
