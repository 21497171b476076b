"""The data: rows with nothing scored, exact copies, long documents, special tokens that are there twice."""

from __future__ import annotations

from collections.abc import Iterator

from whence.counted import counted
from whence.data.encode import NOTICES
from whence.data.rows import row_name
from whence.data.shapes import shown
from whence.data.store import TokenStore
from whence.jobs.check.findings import Finding, Verdict, some

MANY = 0.5
"""Share of documents with nothing scored from which a mask is more likely wrong than the documents short."""
ADVICE = {
    "endless": "most trainers add tokenizer.eos_token: then end each completion with it, as text, and it is scored",
    "two_starts": "leave the token out of the rows or of the chat template, unless the model was trained with both",
    "special_text": "if the text only quotes them, they should not be read as such",
    "across": "give the rows as messages, or begin the completion with its space",
}


def data(store: TokenStore, *, all_of_it: bool) -> Iterator[Finding]:
    """What the tally of a store tells, and its hashes.

    Args:
        all_of_it: Whether these are all documents of the data or its first.
    """
    facts, count = store.facts, store.documents
    seen = counted(count, "document") if all_of_it else f"the first {counted(count, 'document')}"
    rows = " and ".join(shown(shape) for shape in facts["shapes"])
    text = f"{seen} of {rows}: {counted(facts['tokens'], 'token')}, {facts['scored']:,} scored"
    yield Finding("documents", "ok", text, count)
    yield from _unscored(store, seen)
    yield from _copies(store, seen)
    if facts["windowed"]:
        text = (
            f"{facts['windowed']:,} of {seen} {_why(store)} of {store.context:,} tokens, "
            f"the longest of {facts['longest']:,} tokens ({some(facts['windowed_names'])})"
        )
        advice = "each is several sequences that do not see one another; their scores add up, nothing is left out"
        yield Finding("long documents", "note", text, facts["windowed"] / count, advice)
    else:
        yield Finding("long documents", "ok", "every document fits the context", 0)
    yield _special(store)


def _why(store: TokenStore) -> str:
    return "lie in several windows" if store.pack == "windows" else "do not fit the context"


def _special(store: TokenStore) -> Finding:
    name, facts = "special tokens", store.facts
    noticed = facts["noticed"]
    if not noticed:
        return Finding(name, "ok", "no beginning-of-text token is there twice", 0)
    told = [
        f"{NOTICES[key]}: {counted(number, 'document')} ({some(facts['noticed_names'][key])})"
        for key, number in noticed.items()
    ]
    advice = "; ".join(ADVICE[key] for key in noticed if key in ADVICE)
    return Finding(name, "note", "; ".join(told), max(noticed.values()) / store.documents, advice or None)


def _unscored(store: TokenStore, seen: str) -> Iterator[Finding]:
    name, facts = "nothing scored", store.facts
    if not facts["unscored"]:
        yield Finding(name, "ok", "every document has scored tokens", 0)
        return
    share = facts["unscored"] / store.documents
    verdict: Verdict = "wrong" if share > MANY else "note"
    text = f"{facts['unscored']:,} of {seen} ({some(facts['unscored_names'])})"
    advice = "they get no score; if that is not meant, look at the mask: labels, assistant turns, empty completions"
    yield Finding(name, verdict, text, share, advice)


def _copies(store: TokenStore, seen: str) -> Iterator[Finding]:
    table = store.to_arrow()
    rows: dict[str, list[int]] = {}
    for number, digest in enumerate(table.column("hash").to_pylist()):
        rows.setdefault(digest, []).append(number)
    groups = [numbers for numbers in rows.values() if len(numbers) > 1]
    if not groups:
        yield Finding("copies", "ok", f"no two of {seen} are the same", 0)
        return
    sources, lines = table.column("source"), table.column("row")

    def place(number: int) -> str:
        return row_name(sources[number].as_py(), lines[number].as_py())

    extra = sum(len(numbers) - 1 for numbers in groups)
    places = some((f"{place(numbers[0])} = {place(numbers[1])}" for numbers in groups), 2)
    text = f"{extra:,} of {seen} say what an earlier one says ({places})"
    advice = "each copy gets a score of its own: what a text does is their sum"
    yield Finding("copies", "note", text, extra / store.documents, advice)
