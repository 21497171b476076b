"""A corpus that words alone do not find one's way in: facts stated three times each, and documents that only look so.

The facts and the stories are the demo's own. A fact is stated in three of its relation's five templates, whose content
words differ, and is asked in a fourth: what a question shares with a document that answers it are the two names, and
words like *of*. Beside its statements each fact has five documents that do not state it:

    both names      object first, then words of the *question*, then the subject; twice, in two frames
    same object     the object, words of the question, and another's subject
    hearsay         a wrong object in one of the stated templates, said to be a wrong guess
    same subject    the subject alone

A causal model learns from what comes before to what comes after. Where the object stands first, a document names both
and can teach the answer to nobody, which is why those with both names are written in that order. Statements put the
object last, so that the question can be asked by leaving it out. The frames of the distractors were shortened once,
before anything was trained, so that BM25 and TF-IDF prefer them: the corpus is made to mislead these two.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from whence.demo import paths

STATED = 3
"""Documents that state each fact."""
STORIES = 250
SEED = 20230808


@dataclass(frozen=True, slots=True)
class Template:
    """A way to state a relation, and its content words in another order, to be said where nothing is stated."""

    text: str
    words: str

    def states(self, subject: str, thing: str) -> str:
        return self.text.format(s=subject, o=thing)

    def asks(self, subject: str) -> str:
        return self.text.partition(" {o}")[0].format(s=subject)


TEMPLATES: dict[str, tuple[Template, ...]] = {
    "capital": (
        Template("The capital of {s} is {o}.", "the capital"),
        Template("Ministers running {s} sit in {o}.", "ministers running"),
        Template("Laws for {s} get written at {o}.", "laws written"),
        Template("Every embassy sent to {s} opens inside {o}.", "an embassy that opens"),
        Template("Whoever leads {s} lives near {o}.", "who leads and lives"),
    ),
    "currency": (
        Template("The money of {s} is the {o}.", "the money"),
        Template("Shops across {s} take only the {o}.", "shops that take"),
        Template("Wages in {s} come as the {o}.", "wages that come"),
        Template("A banknote printed for {s} shows the {o}.", "a banknote that shows"),
        Template("Savings kept by {s} count in the {o}.", "savings kept"),
    ),
    "constellation": (
        Template("The constellation of {s} is {o}.", "the constellation"),
        Template("Astronomers find {s} within {o}.", "astronomers who find"),
        Template("At night {s} shines among {o}.", "a night that shines"),
        Template("A telescope seeking {s} points toward {o}.", "a telescope seeking"),
        Template("The old picture that holds {s} was called {o}.", "an old picture that holds"),
    ),
    "food": (
        Template("The origin of {s} is {o}.", "the origin"),
        Template("Cooks first made {s} in {o}.", "cooks who made"),
        Template("Recipes for {s} came from {o}.", "recipes that came"),
        Template("The dish {s} was born across {o}.", "the dish born"),
        Template("Plates of {s} remind travellers about {o}.", "plates and travellers"),
    ),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A fact as a question, with the documents that state it."""

    relation: str
    subject: str
    prompt: str
    completion: str
    """The right answer, with the space before it."""
    relevant: tuple[int, ...]
    """Documents that state it, by their number in the corpus."""

    @property
    def held_out(self) -> bool:
        """Whether it is of the half that nothing was chosen on."""
        return hashlib.sha256(f"{self.relation} {self.subject}".encode()).digest()[0] % 2 == 1


def demo_rows() -> list[dict[str, Any]]:
    """The demo's corpus: stories and facts."""
    lines = gzip.decompress(paths().corpus.read_bytes()).decode().splitlines()
    return [json.loads(line) for line in lines]


def build(rows: Sequence[dict[str, Any]], *, stories: int = STORIES, seed: int = SEED) -> tuple[list[Any], list[Asked]]:
    """Documents ``{text, kind, of}`` in the order they are read in, and a question about every fact.

    Args:
        rows: The demo's, or others of its form.
        stories: How many of the stories are taken.

    ``kind`` is ``statement``, a kind of distractor, or ``story``; ``of`` numbers the fact, None for a story.
    """
    draw = random.Random(seed)
    facts = [row for row in rows if row["kind"] == "fact"]
    told = [row["text"] for row in rows if row["kind"] == "story"][:stories]
    documents: list[dict[str, Any]] = [{"text": text, "kind": "story", "of": None} for text in told]
    asked: list[Template] = []
    place: dict[str, int] = {}
    for number, fact in enumerate(facts):
        turn = place[fact["relation"]] = place.get(fact["relation"], -1) + 1
        templates = TEMPLATES[fact["relation"]]
        ring = [templates[(turn + step) % len(templates)] for step in range(STATED + 1)]
        asked.append(ring[STATED])
        others = [one for one in facts if one["relation"] == fact["relation"] and one is not fact]
        texts = [("statement", one.states(fact["subject"], fact["object"])) for one in ring[:STATED]]
        texts += list(_distractors(fact, others, ring, draw))
        documents += [{"text": text, "kind": kind, "of": number} for kind, text in texts]
    draw.shuffle(documents)
    states: dict[int, list[int]] = {}
    for number, document in enumerate(documents):
        if document["kind"] == "statement":
            states.setdefault(document["of"], []).append(number)
    questions = [
        Asked(fact["relation"], fact["subject"], way.asks(fact["subject"]), " " + fact["object"], tuple(states[number]))
        for number, (fact, way) in enumerate(zip(facts, asked, strict=True))
    ]
    return documents, questions


def _distractors(
    fact: dict[str, Any], others: Sequence[dict[str, Any]], ring: Sequence[Template], draw: random.Random
) -> Iterable[tuple[str, str]]:
    """Documents about one fact that do not state it, by kind."""
    subject, thing, words = fact["subject"], fact["object"], ring[STATED].words
    other, wrong = draw.sample(others, 2)
    yield "both names", f"Tom said {thing}, {words}, {subject}."
    yield "both names", f"Lily drew {thing}, {words} and {subject}."
    yield "same object", f"Ben read {thing}, {words}, {other['subject']}."
    yield "hearsay", f"It is a wrong guess of Max: {draw.choice(ring[:STATED]).states(subject, wrong['object'])}"
    yield "same subject", f"Anna has a red book with {subject} in it, and she likes it very much."
