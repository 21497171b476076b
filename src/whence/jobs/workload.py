"""What a run will read: how many batches of which shape, and what the token store will weigh.

Lengths are all that is needed. Text is tokenised as it streams by and forgotten; only the first few thousand
documents are written, to a folder that is removed, to learn what a row of the table weighs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from whence.data.documents import Document, read_documents
from whence.data.encode import Tokenizer, encode_all
from whence.data.plan import make_plan
from whence.data.queries import QueryBatch
from whence.data.store import TokenStore
from whence.data.table import NAME as TABLE
from whence.jobs.costs import Shape
from whence.types import Data

WEIGHED = 4096
"""Documents whose table is written, to learn the bytes of a row."""
_AT_ONCE = 256


@dataclass(frozen=True)
class Workload:
    """A training stream, or a set of questions, as shapes."""

    batches: Mapping[Shape, int]
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

    @classmethod
    def of(cls, data: Data) -> Workload:
        """A stream that exists already, read once (the model is not run)."""
        shapes: Counter[Shape] = Counter()
        documents: set[int] = set()
        for unit in data.units:
            for batch in data.batches(unit.number):
                n, t = batch.real.shape
                shapes[Shape(n, t, int(batch.scored.sum()))] += 1
                documents.update(batch.document.tolist())
        tokens = sum(unit.tokens for unit in data.units)
        scored = sum(shape.scored * count for shape, count in shapes.items())
        return cls(shapes, len(documents), data.sequences, tokens, scored, len(data.units))

    @classmethod
    def of_queries(cls, parts: Iterable[QueryBatch], count: int) -> Workload:
        """The questions' parts; ``documents`` is how many questions there are."""
        batches = [part.batch for part in parts]
        shapes = Counter(Shape(b.real.shape[0], b.real.shape[1], int(b.scored.sum())) for b in batches)
        tokens, scored = (sum(int(getattr(b, name).sum()) for b in batches) for name in ("real", "scored"))
        return cls(shapes, count, sum(len(batch) for batch in batches), tokens, scored)

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


def read_workload(
    train: str | Path, tokenizer: Tokenizer, *, context: int, batch_tokens: int, limit: int | None = None
) -> Workload:
    """Tokenise training text for its lengths.

    Raises:
        DataError: As `prepare` would.
    """
    documents = read_documents(str(train), limit)
    with TemporaryDirectory() as folder:
        first = list(islice(documents, WEIGHED))
        store = TokenStore.write(folder, first, tokenizer, context=context, batch_tokens=batch_tokens)
        row_bytes = (Path(folder) / TABLE).stat().st_size / store.documents
        lengths = store.lengths.tolist()
        scored = [int(store.piece(number).scored.sum()) for number in range(store.sequences)]
        windowed, count = int(store.facts["windowed"]), store.documents
        del store
    for group in _groups(documents):
        for encoded in encode_all(group, tokenizer, context):
            lengths += [len(piece) for piece in encoded.pieces]
            scored += [int(piece.scored.sum()) for piece in encoded.pieces]
            windowed += len(encoded.pieces) > 1
        count += len(group)
    return from_lengths(lengths, scored, batch_tokens, documents=count, windowed=windowed, row_bytes=row_bytes)


def from_lengths(
    lengths: Sequence[int],
    scored: Sequence[int],
    batch_tokens: int,
    *,
    documents: int,
    windowed: int = 0,
    row_bytes: float = 0.0,
) -> Workload:
    """The batches that the plan of work units makes of sequences with these lengths."""
    plan = make_plan(lengths, batch_tokens)
    sizes, marks = np.asarray(lengths, np.int64)[plan.order], np.asarray(scored, np.int64)[plan.order]
    counts = np.diff(plan.starts)
    widths = sizes[plan.starts[1:] - 1]  # ascending: the last of a batch is its longest
    sums = np.add.reduceat(marks, plan.starts[:-1])
    shapes = Counter(Shape(int(n), int(t), int(s)) for n, t, s in zip(counts, widths, sums, strict=True))
    tokens = int(sizes.sum())
    # tokens int32 and scored bool a token; end, document, offset and place in the plan int64 a sequence
    arrays = 5 * tokens + 32 * len(sizes) + 8 * len(plan.starts)
    pages = 100 * len(plan.units) + 4096
    disk = arrays + pages + round(row_bytes * documents)
    return Workload(shapes, documents, len(sizes), tokens, int(marks.sum()), len(plan.units), windowed, disk)


def _groups(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while group := list(islice(documents, _AT_ONCE)):
        yield group
