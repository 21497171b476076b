"""What a run will read: how many batches of which shape, and what the token store will weigh.

Lengths are all that is needed. Text is tokenised as it streams by and forgotten; only the first few thousand
documents are written, to a folder that is removed, to learn what a row of the table weighs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whence.data.documents import read_documents
from whence.data.encode import Tokenizer
from whence.data.packing import Pack, first_fit
from whence.data.plan import Plan, make_plan
from whence.data.queries import QueryBatch
from whence.data.shapes import Columns, check_columns
from whence.data.store import TokenStore, encoded_documents
from whence.data.table import NAME as TABLE
from whence.data.windows import rows_of
from whence.jobs.plan.costs import Shape
from whence.types import Data

WEIGHED = 4096
"""Documents whose table is written, to learn the bytes of a row."""

Gather = Callable[[Sequence[int]], Counter[Shape]]
"""Sequence numbers → how many batches of each shape they make together."""


@dataclass(frozen=True)
class Workload:
    """A training stream, or a set of questions, as shapes."""

    batches: Counter[Shape]
    """How many batches there are of each shape."""
    documents: int
    sequences: int
    tokens: int
    scored: int
    units: int = 1
    windowed: int = 0
    """Documents longer than the context."""
    disk: int = 0
    """Bytes of the token store."""
    gather: Gather | None = field(default=None, repr=False, compare=False)
    """The batches of chosen sequences, where they can be chosen."""
    parts: Workload | None = field(default=None, repr=False)
    """What is scored, where that is something else: the documents' parts of windows."""

    @classmethod
    def of(cls, data: Data) -> Workload:
        """A stream that exists already, read once (the model is not run)."""
        shapes: Counter[Shape] = Counter()
        documents: set[int] = set()
        for unit in data.units:
            for batch in data.batches(unit.number):
                shapes[Shape.of(batch)] += 1
                documents.update(batch.document.tolist())
        tokens = sum(unit.tokens for unit in data.units)
        scored = sum(shape.scored * count for shape, count in shapes.items())

        def gather(chosen: Sequence[int]) -> Counter[Shape]:
            return Counter(Shape.of(batch) for batch in data.gather(chosen))

        return cls(shapes, len(documents), data.sequences, tokens, scored, len(data.units), gather=gather)

    @classmethod
    def of_queries(cls, parts: Iterable[QueryBatch], count: int) -> Workload:
        """The questions' parts; ``documents`` is how many questions there are."""
        batches = [part.batch for part in parts]
        shapes = Counter(Shape.of(batch) for batch in batches)
        tokens, scored = (sum(int(getattr(b, name).sum()) for b in batches) for name in ("real", "scored"))
        return cls(shapes, count, sum(len(batch) for batch in batches), tokens, scored)

    @property
    def asked(self) -> Workload:
        """What meets the questions: the sequences, or their parts."""
        return self.parts or self

    @cached_property
    def read(self) -> Workload:
        """As the model reads it: rows in place of the sequences that share them."""
        batches: Counter[Shape] = Counter()
        for shape, count in self.batches.items():
            batches[shape.read] += count
        return replace(self, batches=batches)

    def sample(self, sequences: int) -> Workload:
        """So many sequences at equal distances in the stream.

        Which documents a ranking will choose is not known; their lengths are taken to be those of the others.
        """
        return self.chosen(range(0, self.sequences, max(1, self.sequences // max(1, sequences)))[:sequences])

    def some_documents(self, count: int) -> Workload:
        """So many documents, as sequences; all of them as they are."""
        if count >= self.documents:
            return self
        return self.sample(max(1, round(count * self.sequences / self.documents)))

    def chosen(self, sequences: Sequence[int]) -> Workload:
        """Some of the sequences, batched together as chosen ones are; tokens in proportion."""
        assert self.gather is not None, "a set of questions has nothing to choose from"
        shapes = self.gather(sequences)
        share = len(sequences) / self.sequences
        documents, tokens = max(1, round(self.documents * share)), round(self.tokens * share)
        scored = sum(shape.scored * count for shape, count in shapes.items())
        return Workload(shapes, documents, len(sequences), tokens, scored)

    def typical(self, parts: int) -> list[Shape]:
        """Shapes that stand for equal shares of the padded positions, from short sequences to long ones."""
        shapes = sorted(self.batches, key=lambda shape: (shape.t, shape.n))
        ends = np.cumsum([shape.positions * self.batches[shape] for shape in shapes])
        return [shapes[int(np.searchsorted(ends, ends[-1] * (k + 0.5) / parts))] for k in range(parts)]

    @property
    def heaviest(self) -> list[Shape]:
        """The shapes that could take most memory: most positions, and most pairs of positions."""
        by_size = max(self.batches, key=lambda shape: (shape.positions, shape.t))
        by_pairs = max(self.batches, key=lambda shape: (shape.n * shape.t**2, shape.positions))
        return list(dict.fromkeys([by_size, by_pairs]))

    @property
    def padded(self) -> int:
        """Positions that are computed, padding included."""
        return sum(shape.positions * count for shape, count in self.batches.items())


@dataclass(frozen=True)
class Lengths:
    """What was read of the training text: enough to know its batches under any budget of tokens."""

    lengths: NDArray[np.int64]
    scored: NDArray[np.int64]
    begins: NDArray[np.bool_]
    """Which pieces begin a row of the model's; only where documents share rows."""
    pack: Pack
    context: int
    about: dict[str, Any]
    """Documents, how many were windowed, and bytes of a row of the table."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row that the model reads: no batch is smaller than the one that holds it."""
        return int((self.lengths if self.pack == "none" else rows_of(self.lengths, self.begins)).max())

    def batched(self, batch_tokens: int) -> Workload:
        """The batches, units and bytes that come of it."""
        if self.pack == "none":
            return from_lengths(self.lengths, self.scored, batch_tokens, **self.about)
        parts = packed(
            self.lengths, self.scored, self.begins, batch_tokens, pack=self.pack, context=self.context, **self.about
        )
        if self.pack == "segments":
            return parts
        whole = rows_of(self.lengths, self.begins), np.add.reduceat(self.scored, np.flatnonzero(self.begins))
        return replace(from_lengths(*whole, batch_tokens, **self.about), disk=parts.disk, parts=parts)


def read_lengths(
    train: str | Path,
    tokenizer: Tokenizer,
    *,
    context: int,
    batch_tokens: int,
    limit: int | None = None,
    columns: Columns | None = None,
    pack: Pack = "none",
) -> Lengths:
    """Tokenise training text for its lengths.

    Raises:
        DataError: As `prepare` would.
    """
    check_columns(columns or {})
    documents = read_documents(str(train), limit, columns)
    with TemporaryDirectory() as folder:
        first = list(islice(documents, WEIGHED))
        store = TokenStore.write(folder, first, tokenizer, context=context, batch_tokens=batch_tokens)
        row_bytes = (Path(folder) / TABLE).stat().st_size / store.documents
        del store
    pieces: list[tuple[int, int, bool]] = []
    windowed, count = 0, 0
    for _, encoded in encoded_documents(chain(first, documents), tokenizer, context, pack):
        pieces += [(len(piece), int(piece.scored.sum()), piece.begins) for piece in encoded.pieces]
        windowed += len(encoded.pieces) > 1
        count += 1
    lengths, scored, begins = (np.asarray(column) for column in zip(*pieces, strict=True))
    about = {"documents": count, "windowed": windowed, "row_bytes": row_bytes}
    return Lengths(lengths, scored, begins, pack, context, about)


def from_lengths(
    lengths: Sequence[int] | NDArray[np.int64],
    scored: Sequence[int] | NDArray[np.int64],
    batch_tokens: int,
    *,
    documents: int,
    windowed: int = 0,
    row_bytes: float = 0.0,
) -> Workload:
    """The batches that the plan of work units makes of sequences with these lengths."""
    sizes, marks = np.asarray(lengths, np.int64), np.asarray(scored, np.int64)
    plan = make_plan(sizes, batch_tokens)
    tokens = int(sizes.sum())
    disk = _disk(plan, tokens, len(sizes)) + round(row_bytes * documents)

    def gather(chosen: Sequence[int]) -> Counter[Shape]:
        some = np.asarray(chosen, np.int64)
        return (
            Counter()
            if not len(some)
            else _shapes(make_plan(sizes[some], batch_tokens, units=1), sizes[some], marks[some])
        )

    shapes = _shapes(plan, sizes, marks)
    return Workload(shapes, documents, len(sizes), tokens, int(marks.sum()), len(plan.units), windowed, disk, gather)


def packed(
    lengths: NDArray[np.int64],
    scored: NDArray[np.int64],
    begins: NDArray[np.bool_],
    batch_tokens: int,
    *,
    pack: Pack,
    context: int,
    documents: int,
    windowed: int = 0,
    row_bytes: float = 0.0,
) -> Workload:
    """The same of sequences that share rows: segments, or the parts of windows."""
    sizes = rows_of(lengths, begins)
    first = np.append(np.flatnonzero(begins), len(lengths))

    def shapes(plan: Plan, rows: NDArray[np.int64], wanted: NDArray[np.int64] | None = None) -> Counter[Shape]:
        found: Counter[Shape] = Counter()
        for a, b in pairwise(plan.starts.tolist()):
            chosen = rows[plan.order[a:b]]
            members = np.concatenate([np.arange(first[row], first[row + 1]) for row in chosen])
            read = len(chosen), int(sizes[chosen].max())
            if pack == "segments":
                fitted = first_fit(lengths[members].tolist(), context)
                read = len(fitted), max(int(lengths[members[some]].sum()) for some in fitted)
            width = int(lengths[members].max())
            kept = members if wanted is None else members[np.isin(members, wanted)]
            padded = bool((lengths[kept] < width).any())
            found[Shape(len(kept), width, int(scored[kept].sum()), padded, read)] += 1
        return found

    def gather(chosen: Sequence[int]) -> Counter[Shape]:
        some = np.unique(np.asarray(chosen, np.int64))
        rows = np.unique(np.searchsorted(first, some, side="right") - 1)
        return shapes(make_plan(sizes[rows], batch_tokens, units=1), rows, some) if len(some) else Counter()

    plan, tokens = make_plan(sizes, batch_tokens), int(lengths.sum())
    disk = _disk(plan, tokens, len(lengths)) + round(row_bytes * documents)
    batches = shapes(plan, np.arange(len(sizes)))
    total = int(sizes.sum())
    return Workload(batches, documents, len(lengths), total, int(scored.sum()), len(plan.units), windowed, disk, gather)


def _disk(plan: Plan, tokens: int, sequences: int) -> int:
    """Bytes of a token store beside its table."""
    # tokens int32 and scored bool a token; end, document, offset and place in the plan int64 a sequence
    arrays = 5 * tokens + 32 * sequences + 8 * len(plan.starts)
    return arrays + 50 * len(plan.units) + 1600  # manifest, plan.json and headers


def _shapes(plan: Plan, sizes: NDArray[np.int64], marks: NDArray[np.int64]) -> Counter[Shape]:
    """The batches of a plan over sequences of these lengths, of which so many tokens are scored."""
    ordered = sizes[plan.order]
    counts = np.diff(plan.starts)
    widths = ordered[plan.starts[1:] - 1]  # ascending: the last of a batch is its longest
    padded = np.add.reduceat(ordered, plan.starts[:-1]) < counts * widths
    sums = np.add.reduceat(marks[plan.order], plan.starts[:-1])
    rows = zip(counts.tolist(), widths.tolist(), sums.tolist(), padded.tolist(), strict=True)
    return Counter(Shape(*row) for row in rows)
