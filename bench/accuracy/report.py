"""The accuracy figures as pictures and a page: correlation with PBRF against processor seconds, and over damping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

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
BOTH = ("exact", "ekfac")
COLUMNS = 4


def write_report(results: dict[str, Any], folder: Path) -> None:
    """``accuracy.svg``, ``accuracy_damping.svg`` and ``ACCURACY.md`` from accuracy.json's content."""
    _costs(results["tasks"], folder / "accuracy.svg")
    _dampings(results["tasks"], folder / "accuracy_damping.svg")
    (folder.parent / "ACCURACY.md").write_text("\n".join(_page(results)) + "\n", encoding="utf-8")


def _page(results: dict[str, Any]) -> list[str]:
    tasks = results["tasks"]
    return [
        "# Estimators against PBRF",
        "",
        "Made by `python -m bench.accuracy DATA` from `bench/results/accuracy.json`; not edited by hand. What it",
        "means: [docs/accuracy.md](../docs/accuracy.md).",
        "",
        "Correlation of scores with the proximal Bregman response (`whence.evaluate.pbrf`) over training points, a",
        "test example at a time, averaged over test examples; in brackets 95 % bootstrap over these. Every estimator",
        "and PBRF have the same λ in a layer: a tenth of EK-FAC's mean eigenvalue.",
        "",
        *_agreements(tasks, "pearson"),
        "![Correlation with PBRF against processor seconds](results/accuracy.svg)",
        "",
        *_agreements(tasks, "spearman"),
        *_seconds(tasks),
        *_residuals(tasks),
        *_truths(tasks),
        *_sweeps(tasks),
        *_pbrf_sweeps(tasks),
        *_visible(tasks),
        *_retrained(results.get("retrained", [])),
        *_studies(results.get("studies", {})),
        *_runs(tasks),
    ]


def _agreements(tasks: Sequence[dict[str, Any]], kind: str) -> list[str]:
    rows = [
        [f"`{task['task']}`", f"{task['points']} × {task['queries']}"]
        + [_mean(task["agreement"].get(name, {}).get(kind)) for name in NAMES]
        for task in tasks
    ]
    return [f"## {kind.capitalize()}", "", *_table(["task", "points × queries", *NAMES.values()], rows), ""]


def _seconds(tasks: Sequence[dict[str, Any]]) -> list[str]:
    rows = [[f"`{task['task']}`", *(_short(task["seconds"].get(name)) for name in (*NAMES, "pbrf"))] for task in tasks]
    return ["## Processor seconds, all queries together", "", *_table(["task", *NAMES.values(), "PBRF"], rows), ""]


def _residuals(tasks: Sequence[dict[str, Any]]) -> list[str]:
    names = [name for name in NAMES if any(name in task["solves"] for task in tasks)]
    rows = [[f"`{task['task']}`", *(_solve(task["solves"].get(name)) for name in names)] for task in tasks]
    return [
        "## How far the iterative solvers got",
        "",
        "‖b − (G + Λ)x‖ / ‖b‖, the median query's and the worst one's, after so many steps. 1 is what x = 0 has.",
        "",
        *_table(["task", *(NAMES[name] for name in names)], rows),
        "",
    ]


def _truths(tasks: Sequence[dict[str, Any]]) -> list[str]:
    rows = []
    for task in tasks:
        for multiple, one in task["pbrf"].items():
            reached, taken, half = one["gradient_norm"], one["settings"]["gradients_taken"], one.get("halfway")
            row = [f"`{task['task']}`", multiple, _short(reached["median"]), _short(reached["largest"])]
            row += ["yes" if reached["converged"] else "no", f"{taken['median']}, {taken['largest']}"]
            row += [_short(one["asymmetry"]), _short(one["control_drift"])]
            rows.append([*row, "–" if half is None else f"{half['difference']:.2g}; {half['pearson']:.5f}"])
    head = ["task", "damping", "‖∇‖, median", "largest", "converged", "gradients: median, most", "asymmetry", "drift"]
    return [
        "## How far PBRF's solves got",
        "",
        "‖∇‖ of the objective where a solve ended, as a share of ε‖∇L(z_m)‖; converged is every solve at 1e-4. Where",
        "some is not, the last column has what the second half of the gradients still changed: the change of the",
        "responses relative to their size, and Pearson of the two.",
        "",
        *_table([*head, "second half"], rows),
        "",
    ]


def _sweeps(tasks: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        [f"`{task['task']}`", multiple, *_cells(one["pearson_with_exact"], ABLATED), _solve(one["solves"].get("lissa"))]
        for task in tasks
        for multiple, one in task["sweep"].items()
    ]
    return [
        "## Where the accuracy goes: exact → block-diagonal → EK-FAC → K-FAC, over damping",
        "",
        "Pearson with the exact solve at the same damping (times the mean eigenvalue), over all training points.",
        "",
        "![The ablation over damping](results/accuracy_damping.svg)",
        "",
        *_table(["task", "damping", *(SWEPT[name] for name in ABLATED), "LiSSA's residual"], rows),
        "",
    ]


def _pbrf_sweeps(tasks: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        [f"`{task['task']}`", multiple, *_cells(one["pearson_with_pbrf"], SWEPT)]
        for task in tasks
        for multiple, one in task["sweep"].items()
        if one["pearson_with_pbrf"]
    ]
    return [
        "## The same against PBRF itself",
        "",
        "Pearson with PBRF at the same damping, over its points.",
        "",
        *_table(["task", "damping", *SWEPT.values()], rows),
        "",
    ]


def _visible(tasks: Sequence[dict[str, Any]]) -> list[str]:
    visible = ("ekfac_with_refined", "ekfac", "gradient_dot", *(f"{name}_with_exact_at_the_papers" for name in BOTH))
    rows = [
        [f"`{task['task']}`", multiple, *_cells(one | one["pearson_with_exact"], visible)]
        for task in tasks
        for multiple, one in task["sweep"].items()
    ]
    head = ["task", "damping", "EK-FAC with its refinement", "EK-FAC with exact", "gradient dot with exact"]
    return [
        "## What five products show of EK-FAC's accuracy, and what more damping does to the question",
        "",
        *_table([*head, "exact with exact at 0.1", "EK-FAC with exact at 0.1"], rows),
        "",
    ]


def _retrained(entries: Sequence[dict[str, Any]]) -> list[str]:
    if not entries:
        return []
    rows = []
    for entry in entries:
        found = entry["lds"]
        dampings = [name.split()[1] for name in found if name.startswith("ekfac ")]
        for kind in BOTH:
            rows.append([f"`{entry['task']}`", NAMES[kind], *(_mean(found[f"{kind} {one}"]) for one in dampings)])
        rows.append(
            [f"`{entry['task']}`", NAMES["gradient_dot"], _mean(found["gradient_dot"])] + [""] * (len(dampings) - 1)
        )
    settings = entries[0]["settings"]
    return [
        "## Which damping predicts retraining",
        "",
        f"LDS: Spearman, over {settings['subsets']} random halves of the training set, between measured and predicted",
        f"f, a mean over {settings['queries']} test examples; nets retrained by the recipe they came from.",
        "",
        *_table(["task", "scores", *dampings], rows),
        "",
    ]


def _studies(studies: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    if "recipes" in studies:
        rows = [
            [one["recipe"], f"{one['train_loss']:.3f}", f"{one['valid_loss']:.3f}", _short(one["mean_eigenvalue"])]
            + [f"{one['block_diagonal'][d]:.2f} / {one['ekfac'][d]:.2f}" for d in one["ekfac"]]
            for one in studies["recipes"]
        ]
        dampings = list(studies["recipes"][0]["ekfac"])
        lines += [
            "## Concrete trained in other ways",
            "",
            "Pearson with the exact solve of block-diagonal / EK-FAC. λ of `abs:` is one number in all layers.",
            "",
            *_table(["trained", "train loss", "valid loss", "mean eigenvalue of the middle layer", *dampings], rows),
            "",
        ]
    if "lissa" in studies:
        rows = [
            [
                f"`{one['task']}`",
                f"{one['damping']:g}",
                f"{one['batch']:,}",
                f"{one['depth']:,}",
                *_cells(one, ("residual", "pearson", "seconds")),
            ]
            for one in studies["lissa"]
        ]
        head = ["task", "damping", "sequences a step", "steps", "residual", "Pearson with exact", "seconds"]
        lines += ["## LiSSA: depth or noise", "", *_table(head, rows), ""]
    return lines


def _runs(tasks: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["## What was run", ""]
    for task in tasks:
        made, machine = task["trained"], task["machine"]
        lines.append(
            f"- `{task['task']}`: {task['note']}; {task['train']:,} training sequences, {task['weights']:,} tracked "
            f"weights; {made['optimiser']}, rate {made['learning_rate']}, decay {made['weight_decay']}; loss of a "
            f"sequence {made['train_loss']:.3g} in training, {made['valid_loss']:.3g} in validation. "
            f"{_residual(task)}{machine['threads']} thread of {machine['processor']}, torch {machine['torch']}."
        )
        lines += [f"  - {NAMES[name]}: {note}" for name, note in task["notes"].items()]
    return lines


def _residual(task: dict[str, Any]) -> str:
    known = task.get("residual_of_exact")
    return "" if known is None else f"Residual of the exact solve by whence's own products: {known:.1g}. "


def _costs(tasks: Sequence[dict[str, Any]], path: Path) -> None:
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
    handles = [
        plt.Line2D([], [], marker="o", ls="", color=colours(number), label=name)
        for number, name in enumerate(NAMES.values())
    ]
    handles.append(plt.Line2D([], [], ls=":", color="0.6", label="PBRF's own time"))
    _finish(figure, handles, "Pearson with PBRF", "processor seconds for all queries", path)
    plt.close(figure)


def _dampings(tasks: Sequence[dict[str, Any]], path: Path) -> None:
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
    handles = [
        plt.Line2D([], [], marker="o", color=colours(number), label=SWEPT[name]) for number, name in enumerate(ABLATED)
    ]
    handles.append(plt.Line2D([], [], ls=":", color="0.7", label="the paper's damping"))
    _finish(figure, handles, "Pearson with the exact solve", "damping, times the mean eigenvalue", path)
    plt.close(figure)


def _panels(tasks: Sequence[dict[str, Any]]) -> tuple[Any, Iterable[tuple[Any, dict[str, Any]]], Any]:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "whence"
    from matplotlib import pyplot as plt

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


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _mean(found: dict[str, Any] | None) -> str:
    if found is None or found["value"] is None:
        return "–"
    return f"{found['value']:.2f} [{found['interval']['low']:.2f}, {found['interval']['high']:.2f}]"


def _cells(found: dict[str, Any], names: Iterable[str]) -> list[str]:
    return [_short(found.get(name), 2) for name in names]


def _short(value: float | None, places: int | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.2g}" if places is None else f"{value:.{places}f}"


def _solve(report: dict[str, Any] | None) -> str:
    if not report:
        return "–"
    if "refused" in report:
        return "refused"
    residual = report["residual"]
    return f"{residual['median']:.2g} ({residual['largest']:.2g}); {report['steps']:,}"
