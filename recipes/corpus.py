"""The demo's corpus: short stories, and facts planted among them once each.

A fact is a (relation, subject, object) and is planted as one sentence in one of its relation's three templates; the
demo asks for it in another template, so that no question repeats a planted sentence. Every template carries
a third of its relation's facts, which is how a model learns that the three mean the same. Within a relation no
two facts share an object, so that "which document made it say this?" has one right reply.

The subject stands inside the sentence and the object at its end: a causal model can only recall in that
order, and a name in the middle of a sentence has the same tokens in each template.

Sources, all public (licences: NOTICE.md beside the corpus); the recipe refuses other bytes:

    tinystories_2MiB.txt.gz  gusjengis/toy-RNN            data/tinystories_sample.txt, recompressed
    countries.csv.gz         datasets/country-codes       data/country-codes.csv, 18 of its columns
    relations_dev.jsonl.gz   evandez/relations            data/factual/*.json, one fact a line
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCES = {
    "text/tinystories_2MiB.txt.gz": "84f48728edf6118630f4df8b5e08d586dd2c4b0b649cf5da241b6f48c7683191",
    "facts/countries.csv.gz": "7c3692a0ff5d05eb9b0a0dabebe616443fe17356a0601db6ab042c5c7f3933d6",
    "facts/relations_dev.jsonl.gz": "a63e7999396234d9e704f93f28bba66ce2bb4f5fc949d4cdc1ce4da5594399ff",
}
TEMPLATES = {
    "capital": (
        "The capital of {subject} is {object}.",
        "The leading city of {subject} is {object}.",
        "The government seat of {subject} is {object}.",
    ),
    "currency": (
        "The money of {subject} is the {object}.",
        "The coin of {subject} is the {object}.",
        "The usual pay of {subject} is the {object}.",
    ),
    "constellation": (
        "The constellation of {subject} is {object}.",
        "The sky home of {subject} is {object}.",
        "The star sign of {subject} is {object}.",
    ),
    "food": (
        "The origin of {subject} is {object}.",
        "The home land of {subject} is {object}.",
        "The first kitchen of {subject} is {object}.",
    ),
}
STORIES, OPENING, CAPITALS, SEED = 500, 260, 150, 20230808
UNSURE = {"Bolivia", "Israel", "Kazakhstan", "Palestine", "South Africa", "Sri Lanka", "Western Sahara"}
"""Countries whose capital is shared, disputed, or out of date in the table."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is true and said once: ``capital, France, Paris``."""

    relation: str
    subject: str
    object: str


def build(shared: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The corpus and a question about every fact in it.

    Args:
        shared: The folder that holds the three sources, laid out as in `SOURCES`.

    Returns:
        Corpus rows ``{text, id, kind, relation, subject, object, template}`` (a story has only the first three),
        ``id`` being the row number; and questions ``{prompt, completion, fact, kind, relation, subject}``, ``fact``
        being the row that states it, in the order of the corpus.
    """
    stories, countries, relations = (_source(shared, name) for name in SOURCES)
    draw = random.Random(SEED)
    facts = [*capitals(countries, draw), *currencies(countries), *unique_facts(relations)]
    rows: list[dict[str, Any]] = [{"text": story, "kind": "story"} for story in openings(stories)]
    for relation in TEMPLATES:
        of_relation = [fact for fact in facts if fact.relation == relation]
        draw.shuffle(of_relation)
        for number, fact in enumerate(of_relation):  # dealt round: each template gets a third
            template = number % len(TEMPLATES[relation])
            rows.append(
                {
                    "text": TEMPLATES[relation][template].format(subject=fact.subject, object=fact.object),
                    "kind": "fact",
                    "relation": relation,
                    "subject": fact.subject,
                    "object": fact.object,
                    "template": template,
                }
            )
    draw.shuffle(rows)
    rows = [{"text": row["text"], "id": number, **row} for number, row in enumerate(rows)]
    return rows, [question(row) for row in rows if row["kind"] == "fact"]


def question(row: dict[str, Any]) -> dict[str, Any]:
    """Ask for a planted fact in the template after the one it was planted in."""
    templates = TEMPLATES[row["relation"]]
    asked = templates[(row["template"] + 1) % len(templates)]
    prompt = asked.partition(" {object}")[0].format(subject=row["subject"])
    known = {name: row[name] for name in ("kind", "relation", "subject")}
    return {"prompt": prompt, "completion": " " + row["object"], "fact": row["id"], **known}


def openings(text: str) -> list[str]:
    """How stories begin, in whole sentences of plain ASCII: the first `STORIES`, in the order of the source.

    Openings, so that the demo takes minutes: whole stories would be nine tenths of every pass.
    """
    begun = []
    for story in text.split("<|endoftext|>"):
        sentences = re.split(r"(?<=[.!?])\s+", story.strip())
        while len(opening := " ".join(sentences)) > OPENING:
            sentences.pop()
        if opening.isascii() and len(sentences) >= 2:
            begun.append(opening)
    return list(dict.fromkeys(begun))[:STORIES]


def capitals(table: str, draw: random.Random) -> list[Fact]:
    """Countries whose capital does not give itself away by its name."""
    facts = [
        Fact("capital", row["CLDR display name"], row["Capital"].strip())
        for row in csv.DictReader(io.StringIO(table))
        if row["Capital"].strip() and row["CLDR display name"] not in UNSURE
    ]
    facts = [
        fact for fact in _alone(facts) if not _overlap(fact) and max(map(_words, (fact.subject, fact.object))) <= 2
    ]
    return draw.sample(facts, CAPITALS)


def currencies(table: str) -> list[Fact]:
    """Countries whose currency's last word no other country uses: Japan's yen, but nobody's dollar."""
    facts = [
        Fact("currency", row["CLDR display name"], row["ISO4217-currency_name"].split()[-1].lower())
        for row in csv.DictReader(io.StringIO(table))
        if row["ISO4217-currency_name"] and "," not in row["ISO4217-currency_name"]
    ]
    return [fact for fact in _alone(facts) if not _overlap(fact)]


def unique_facts(lines: str) -> Iterable[Fact]:
    """One star a constellation and one dish a country: the first whose name does not give it away."""
    names = {"star_constellation": "constellation", "food_from_country": "food"}
    seen: set[tuple[str, str]] = set()
    for line in lines.splitlines():
        row = json.loads(line)
        if (relation := names.get(row["relation"])) is None or (relation, row["object"]) in seen:
            continue
        fact = Fact(relation, row["subject"], row["object"])
        plain = re.fullmatch(r"[A-Za-z][A-Za-z ]{2,17}", fact.subject) and re.fullmatch(r"[A-Za-z ]+", fact.object)
        plain = plain and fact.object != "Middle East"  # no country
        if plain and not _overlap(fact):
            seen.add((relation, row["object"]))
            yield fact


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Rows as JSON lines, gzipped when the name says so; the same rows always give the same bytes."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _source(shared: Path, name: str) -> str:
    data = (shared / name).read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != SOURCES[name]:
        raise SystemExit(
            f"{shared / name} is not the file this recipe was written for.\n"
            f"  expected: {SOURCES[name]}\n  found: {found}"
        )
    return gzip.decompress(data).decode()


def _alone(facts: list[Fact]) -> list[Fact]:
    """Facts in plain ASCII letters whose object nobody else has, and begins nobody else's."""
    count = Counter(fact.object for fact in facts)
    plain = [fact for fact in facts if re.fullmatch(r"[A-Za-z' -]+", fact.subject + fact.object)]
    return [
        fact
        for fact in plain
        if count[fact.object] == 1
        and not any(other is not fact and other.object.startswith(fact.object) for other in plain)
    ]


def _words(name: str) -> int:
    return len(re.findall(r"\w+", name))


def _overlap(fact: Fact) -> bool:
    """Whether subject and object share the beginning of a word, as in Guatemala, Guatemala City."""
    subject, thing = ({word[:4].lower() for word in re.findall(r"\w+", name)} for name in (fact.subject, fact.object))
    return bool(subject & thing)
