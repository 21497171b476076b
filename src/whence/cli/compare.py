"""``whence compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from whence.cli import flags
from whence.cli.output import show

A = Annotated[Path, Parameter(help="Folder of a run with scores, or of one of its answers", name="A")]
B = Annotated[Path | None, Parameter(help="Another; left out, the newest two answers of A", name="B")]
Top = Annotated[int, Parameter(help="Documents shown that moved most, for each question", metavar="INT")]


def compare(a: A, b: B = None, /, *, top: Top = 5, json: flags.Json = False) -> None:
    """Compare how two runs rank the training data: checkpoints, dampings, dtypes.

    Questions are matched by what they say, documents by what they say; what has no
    match is counted and named. For each question: agreement of the ranks (Spearman,
    Kendall, how many of the first and last 10, 100, … are shared), the settings that
    differ, and the documents near an end of either ranking whose rank changed most.
    Self-influence is compared too where both runs have it.

    A run keeps the answers to every set of questions, damping and rank in
    RUN/answers: with A alone, its two newest of the same questions are compared.

    Examples:
      whence compare runs/step-1000 runs/step-2000
      whence score runs/toy --damping 0.01 && whence compare runs/toy
    """
    from whence.jobs.compare import compare as job

    show(job(a, b, top=top), as_json=json)
