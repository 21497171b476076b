"""What `whence demo` asks: a corpus, a small Llama trained on it alone, and questions with one right reply each.

    corpus.jsonl.gz    openings of stories, and facts planted among them once each; made by recipes/train.py
    model/             the checkpoint and its tokenizer
    questions.jsonl    what the demo asks and shows: a dozen facts, two stories
    evaluation.jsonl   every fact, asked in a template it was not planted in: what recall is computed over
    NOTICE.md          where the text comes from, and under which licences

A question knows the row of the corpus that answers it. A fact counts as **learned** when, after a question the model
never read, it gives the right object a probability of at least one in ten, and more than any other object of the
relation. Recall is taken over learned facts: a document cannot have made a model say what it does not say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from whence.errors import ArtifactError

LogP = Callable[[Sequence[tuple[str, str]]], ArrayLike]
"""(prompt, completion) pairs → log p(completion | prompt) of each, in nats, summed over the completion's tokens."""


LEAST = 0.1
"""Probability of the whole answer from which on a fact can count as learned.

Chosen after looking: EK-FAC's recall@10 is 0.84 over the 140 facts that pass without it, 0.91 over the 66 that pass
with it, 0.95 over 38 at one in four. The figure over 66 is therefore not an independent confirmation of anything.
"""


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


def learned_facts(asked: Sequence[Question], log_p: LogP, *, known: Sequence[Question] | None = None) -> list[bool]:
    """Which facts the model truly knows: asked in other words, it says the right object, and sooner than any other.

    Whole completions are compared, by the sum over their tokens; a tie is not knowing. Besides, the right one must
    have a probability of at least `LEAST`: preferring Paris to 149 other capitals while expecting none of them is
    not knowing either.

    Args:
        asked: The facts to look at; a story has no rivals to be told from and may not be among them.
        log_p: Evaluates (prompt, completion) pairs; called once for each question, with its candidates.
        known: Facts whose objects are the candidates; every fact in the corpus unless given.

    Raises:
        ValueError: If a story is asked for.

    Example:
        >>> facts = read_questions(paths().evaluation)[:1]
        >>> learned_facts(facts, lambda pairs: [0.0 if answer == facts[0].completion else -9.0 for _, answer in pairs])
        [True]
    """
    candidates: dict[str | None, list[str]] = {}
    for fact in known if known is not None else read_questions(paths().evaluation):
        candidates.setdefault(fact.relation, []).append(fact.completion)
    learned = []
    for question in asked:
        if question.kind != "fact":
            raise ValueError(f"only facts can be learned or not: {question.prompt!r} asks about a {question.kind}")
        rivals = [answer for answer in candidates.get(question.relation, []) if answer != question.completion]
        values = np.asarray(
            log_p([(question.prompt, answer) for answer in (question.completion, *rivals)]), dtype=float
        )
        learned.append(bool((values[1:] < values[0]).all() and values[0] >= np.log(LEAST)))
    return learned
