"""The accuracy figures as a page: correlation with PBRF and with retraining, processor seconds, residuals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.accuracy.figures import (
    ABLATED,
    NAMES,
    RETRAINED,
    SWEPT,
    draw_costs,
    draw_dampings,
    draw_retrained,
    over_damping,
)

BOTH = ("exact", "ekfac")
FITTED, SOLVED, SETTLED = "0.1", "10.0", 0.3
"""The rule of docs/damping.md, times the mean eigenvalue: for a fitted curvature, and for what solves with the loss's
own matrix, where it is raised tenfold until five products leave no larger residual than this."""
DERIVED = ("concrete", "wine")
"""The tasks that the rule was read from; on all others it is tested."""


def write_report(results: dict[str, Any], folder: Path) -> None:
    """``ACCURACY.md`` and its pictures from accuracy.json's content; those of damping are the documentation's too."""
    images = folder.parents[1] / "docs" / "images"
    draw_costs(results["tasks"], folder / "accuracy.svg")
    draw_dampings(results["tasks"], images / "damping.svg")
    if results.get("retrained"):
        draw_retrained(results["retrained"], images / "damping_retrained.svg")
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
        *_retrained(results.get("retrained", []), tasks),
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
        [f"`{task['task']}`", multiple, *_cells(one["pearson_with_exact"], ABLATED)]
        + [_solve(one["solves"].get(name)) for name in ("ekfac_refined", "lissa")]
        for task in tasks
        for multiple, one in task["sweep"].items()
    ]
    return [
        "## Where the accuracy goes: exact → block-diagonal → EK-FAC → K-FAC, over damping",
        "",
        "Pearson with the exact solve at the same damping (times the mean eigenvalue), over all training points.",
        "",
        "![The ablation over damping](../docs/images/damping.svg)",
        "",
        *_table(["task", "damping", *(SWEPT[name] for name in ABLATED), "residual of 5 CG", "of LiSSA"], rows),
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


def _retrained(entries: Sequence[dict[str, Any]], tasks: Sequence[dict[str, Any]]) -> list[str]:
    if not entries:
        return []
    swept = {task["task"]: task["sweep"] for task in tasks}
    rows, ruled = [], []
    for entry in entries:
        task, found = f"`{entry['task']}`", entry["lds"]
        dampings = list(over_damping(entry, "ekfac"))
        for kind in RETRAINED:
            by_damping = over_damping(entry, kind)
            rows.append([task, NAMES[kind], *map(_mean, by_damping.values())])
            ruled.append(_ruled(entry["task"], kind, by_damping, swept[entry["task"]]))
        rows.append([task, NAMES["gradient_dot"], _mean(found["gradient_dot"])] + [""] * (len(dampings) - 1))
    settings = entries[0]["settings"]
    return [
        "## Which damping predicts retraining",
        "",
        f"LDS: Spearman, over {settings['subsets']} random halves of the training set, between measured and predicted",
        f"f, a mean over {settings['queries']} test examples; nets retrained by the recipe they came from.",
        "",
        "![LDS over damping](../docs/images/damping_retrained.svg)",
        "",
        *_table(["task", "scores", *dampings], rows),
        "",
        f"The rule of [docs/damping.md](../docs/damping.md): {FITTED} for EK-FAC; for whatever solves with the loss's",
        f"own Gauss-Newton matrix {SOLVED}, and more where five products leave a residual above {SETTLED}. Read from",
        f"{' and '.join(DERIVED)}; the other tasks are its test.",
        "",
        *_table(["task", "scores", "rule", "LDS by the rule", "best of the sweep", "lost", "at 0.1"], ruled),
        "",
    ]


def _ruled(task: str, kind: str, found: dict[str, Any], sweep: dict[str, Any]) -> list[str]:
    """What the rule costs, where the best of the sweep is known."""
    values = {one: float(entry["value"]) for one, entry in found.items()}
    best = max(values, key=lambda one: values[one])
    advised = FITTED if kind == "ekfac" else _settled(sweep) if kind == "ekfac_refined" else SOLVED
    lost = f"{values[best] - values[advised]:.3f}"
    part = "" if task in DERIVED else " (test)"
    return [
        f"`{task}`{part}",
        NAMES[kind],
        advised,
        f"{values[advised]:.3f}",
        f"{values[best]:.3f} at {best}",
        lost,
        f"{values[FITTED]:.3f}",
    ]


def _settled(sweep: dict[str, Any]) -> str:
    """The least damping from `SOLVED` on at which five products have brought the residual down."""
    high = [one for one in sweep if float(one) >= float(SOLVED)]
    residuals = {one: sweep[one]["solves"]["ekfac_refined"]["residual"]["median"] for one in high}
    return next((one for one, residual in residuals.items() if residual <= SETTLED), high[-1])


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
        lines += [f"  - {NAMES[name]}: {'; '.join(note.splitlines())}" for name, note in task["notes"].items()]
    return lines


def _residual(task: dict[str, Any]) -> str:
    known = task.get("residual_of_exact")
    return "" if known is None else f"Residual of the exact solve by whence's own products: {known:.1g}. "


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
