"""What a document and a question say alike, word for word, and which documents say the same as each other.

Runs of at least three words are found by their beginnings and then followed as far as they go: punctuation and the way
text falls into tokens may differ. Near-copies share most of their runs of five words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from whence.report.model import Shared
from whence.report.words import Word, words_of

FEWEST = 3
"""Words of a run that is worth underlining."""
SHINGLE = 5
"""Words of the runs by which near-copies are told (Broder 1997)."""
NEAR = 0.7
"""Jaccard similarity from which two documents count as copies of each other."""


def shared_runs(document: Sequence[Word], question: Sequence[Word], answer: Sequence[Word] = ()) -> list[Shared]:
    """The longest runs of words that both have, longest first, none inside another of the document.

    Args:
        answer: The question's last words; where the document has them all in a row they count, however few they are.
    """
    said, asked = [word.text for word in document], [word.text for word in question]
    begins = defaultdict(list)
    for at in range(len(asked) - FEWEST + 1):
        begins[tuple(asked[at : at + FEWEST])].append(at)
    runs: list[tuple[int, int, int]] = []
    here = 0
    while here < len(said):
        places = begins.get(tuple(said[here : here + FEWEST]), [])
        long, there = max(((_follow(said, asked, here, at), -at) for at in places), default=(0, 0))
        if long:
            runs.append((long, here, -there))
        here += long or 1
    inside = {at for long, start, _ in runs for at in range(start, start + long)}
    if answer:
        for at in starts_of(said, [word.text for word in answer]):
            if at not in inside:
                runs.append((len(answer), at, len(asked) - len(answer)))
    runs.sort(key=lambda run: (-run[0], run[1]))
    return [
        Shared(
            document=(document[start].start, document[start + long - 1].stop),
            question=(question[at].start, question[at + long - 1].stop),
            words=long,
        )
        for long, start, at in runs
    ]


def _follow(said: Sequence[str], asked: Sequence[str], here: int, there: int) -> int:
    """How many words are the same from here on."""
    room = min(len(said) - here, len(asked) - there)
    return next((k for k in range(room) if said[here + k] != asked[there + k]), room)


def starts_of(said: Sequence[str], run: Sequence[str]) -> list[int]:
    """Where a run of words begins.

    Example:
        >>> starts_of(["a", "b", "a", "b"], ["a", "b"])
        [0, 2]
    """
    run = list(run)
    return [at for at in range(len(said) - len(run) + 1) if run and list(said[at : at + len(run)]) == run]


def folded(
    documents: Sequence[int], tokens: Mapping[int, Sequence[str]], hashes: Mapping[int, str]
) -> dict[int, tuple[int, float]]:
    """Copies among the documents of a list: each to the first that it is a copy of, and how similar they are.

    A document is a copy of one before it that has the same hash, or shares enough of its runs of words (their Jaccard
    similarity, exactly); never of one that is a copy itself.
    """
    shingles = {document: _shingles(tokens[document]) for document in documents}
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    first: dict[str, int] = {}
    found: dict[int, tuple[int, float]] = {}
    for document in documents:
        mine, same = shingles[document], first.get(hashes[document])
        if same is not None:
            found[document] = same, 1.0
            continue
        common = Counter(other for shingle in mine for other in holders[shingle])
        near = [(count / len(mine | shingles[other]), -other) for other, count in common.items()]
        similarity, leader = max(near, default=(0.0, 0))
        if similarity >= NEAR:
            found[document] = -leader, similarity
            continue
        first[hashes[document]] = document
        for shingle in mine:
            holders[shingle].append(document)
    return found


def _shingles(tokens: Sequence[str]) -> set[tuple[str, ...]]:
    words = [word.text for word in words_of(tokens)]
    return {tuple(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))} if words else set()
