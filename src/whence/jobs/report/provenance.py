"""Where a report's numbers come from, in words. Nothing in them names this machine's folders."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

import torch

from whence.counted import counted
from whence.curvature import Curvature, Damping
from whence.jobs.solved import METHODS, Solved
from whence.layers.coverage import Coverage
from whence.report.trust import CoverageRow


def model_name(model: str) -> str:
    """The name of a model's folder, with its parent's where it says nothing by itself.

    Example:
        >>> model_name("/data/models/llama-1b"), model_name("/data/llama-1b/checkpoint-500")
        ('llama-1b', 'llama-1b/checkpoint-500')
    """
    folder = Path(model).resolve()
    telling = folder.name != "model" and not folder.name.startswith("checkpoint")
    return folder.name if telling or not folder.parent.name else f"{folder.parent.name}/{folder.name}"


def portable(path: str, run: Path) -> str:
    """A path as a report that is passed on may show it: seen from the run or the working folder, else its last part.

    Example:
        >>> run = Path("/data/runs/a")
        >>> portable("/data/runs/a/train.jsonl", run), portable("/elsewhere/b.jsonl#train[:9]", run)
        ('train.jsonl', 'b.jsonl#train[:9]')
    """
    place, mark, part = path.partition("#")
    if Path(place).is_absolute():
        bases = [base for base in (run.resolve(), Path.cwd()) if base != Path(base.anchor)]
        seen = [Path(place).relative_to(base) for base in bases if Path(place).is_relative_to(base)]
        place = seen[0].as_posix() if seen else Path(place).name
    return place + mark + part


def coverage_rows(coverage: Coverage) -> list[CoverageRow]:
    """What is tracked and what is left out, as a report shows it."""
    return [
        CoverageRow(
            kind=row.kind,
            parameters=row.parameters,
            share=row.parameters / coverage.total,
            tracked=row.tracked,
            reason=row.reason,
        )
        for row in coverage.rows
    ]


def solves_in_words(solved: Iterable[Solved], curvature: Curvature) -> list[str]:
    """How well the questions were solved, where another than the fitted curvature did it."""
    return [
        f"{sentence(str(one))}, preconditioned by {METHODS[curvature.name]}. Self-influence and what is "
        "divided by it are the fitted curvature's." + ("" if one.advice is None else f" {sentence(one.advice)}.")
        for one in solved
    ]


def sentence(text: str) -> str:
    """With a capital."""
    text = text.strip()
    return text[:1].upper() + text[1:]


def damping_in_words(curvature: Curvature) -> str:
    """The rule, and the λ that it comes to."""
    if curvature.damping is None:
        return "none: gradients are not preconditioned"
    values = sorted(curvature.dampings.values())
    rule = curvature.damping
    kind = "given by layer"
    if isinstance(rule, Damping):
        kind = "absolute" if rule.absolute else f"{rule.value:g} × each layer's mean eigenvalue"
    return f"{kind} (λ from {values[0]:.3g} to {values[-1]:.3g})"


def versions(device: torch.device | None = None) -> dict[str, str]:
    """Of the software and the kind of machine."""
    from whence import __version__

    where = "" if device is None else f", {device}"
    return {
        "whence": __version__,
        "torch": str(torch.__version__),
        "machine": f"{platform.machine()}, {counted(torch.get_num_threads(), 'thread')}{where}",
    }
