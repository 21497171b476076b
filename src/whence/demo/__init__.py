"""What `whence demo` asks: a corpus, a small Llama trained on it alone, and questions with one right reply each.

    corpus.jsonl.gz    openings of stories, and facts planted among them once each; made by recipes/train.py
    model/             the checkpoint and its tokenizer
    questions.jsonl    what the demo asks and shows: a dozen facts, two stories
    evaluation.jsonl   every fact, asked in a template it was not planted in: what recall is computed over
    NOTICE.md          where the text comes from, and under which licences

A question knows the row of the corpus that answers it. A fact counts as **learned** when the model says it: asked in a
template it never read the fact in, the most probable next tokens are the right object's (`whence.jobs.demo.says`).
Recall is taken over learned facts: a document cannot have made a model say what it does not say.

The model was trained until it knew facts, and not until it knew its documents by heart. That matters to any
influence function of this kind: a document recited with probability one has no gradient left, so it cannot raise
anything. docs/demo.md has the figures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from whence.errors import ArtifactError


@dataclass(frozen=True, slots=True)
class DemoPaths:
    """Where the demo's files lie."""

    folder: Path
    corpus: Path
    model: Path
    questions: Path
    evaluation: Path
    notice: Path


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask, and the document that holds the answer."""

    prompt: str
    completion: str
    """The right answer, with the space before it."""
    fact: int
    """Row of the corpus that holds it, from 0."""
    kind: str
    """``fact``, or ``story``."""
    relation: str | None = None
    """Of a fact: ``capital``, ``currency``, ``constellation``, ``food``."""
    subject: str | None = None


def paths() -> DemoPaths:
    """The packaged files.

    Raises:
        ArtifactError: If any is missing, as when whence is run from inside a zip or was packaged without its data.
    """
    folder = Path(str(files("whence.demo")))
    found = DemoPaths(
        folder=folder,
        corpus=folder / "corpus.jsonl.gz",
        model=folder / "model",
        questions=folder / "questions.jsonl",
        evaluation=folder / "evaluation.jsonl",
        notice=folder / "NOTICE.md",
    )
    for name in ("corpus", "model", "questions", "evaluation"):
        if not getattr(found, name).exists():
            raise ArtifactError(
                f"The demo's {name} is not installed: {getattr(found, name)}",
                hint="install whence from a wheel or a checkout, unzipped",
            )
    return found


def read_questions(path: Path) -> list[Question]:
    """The questions of one of the demo's own files, in its order."""
    return [Question(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
