"""The token store: documents read once, kept as token sequences in a folder, cut into work units.

    documents.parquet        a line a document: where it lies, its hash, its counts, its metadata
    tokens-00000.safetensors tokens, scored [tokens]; ends, document, offset [sequences]
    plan.json, .safetensors  which sequences share a batch, which batches a unit
    manifest.json            last: without it nothing here opens

Writing streams: memory holds one shard's tokens and a few numbers a sequence. Reading maps the shards, so that
opening a store costs nothing and a batch reads its own tokens alone. Sequences are numbered as they are written;
documents too, in the order of the data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from whence.artifacts import Manifest, claim, finished, mark_finished
from whence.artifacts.fingerprint import DIGITS, settings_fingerprint
from whence.counted import counted
from whence.data.batches import Piece, collate
from whence.data.documents import Document
from whence.data.encode import Encoded, Tokenizer, encode_all
from whence.data.packing import Pack, Windower, apart, in_windows
from whence.data.plan import Plan, make_plan
from whence.data.rows import row_name
from whence.data.selection import Selection
from whence.data.shards import SHARD_TOKENS, Shards, ShardWriter
from whence.data.table import NAME as TABLE
from whence.data.table import Table, TableWriter
from whence.data.tally import Tally
from whence.data.windows import Windows, rows_of
from whence.errors import ArtifactError
from whence.types import Batch, Data, Unit

KIND, SCHEMA = "data", 1

WHOLE = 2**31 - 1
"""A context that no document exceeds."""
_DOCUMENTS_AT_ONCE = 256
_CHARACTERS_AT_ONCE = 2**21


class TokenStore:
    """Training text as token sequences on disk; implements `Data`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.plan = Plan.read(folder)
        self._shards = Shards(folder, [name for name in sorted(manifest.files) if name.startswith("tokens-")])
        self.document_of: NDArray[np.int64] = self._shards.documents
        """Sequence → document, ``[n]``."""
        self.offsets: NDArray[np.int64] = self._shards.offsets
        """Position in its document of each sequence's first token, ``[n]``."""
        self.lengths: NDArray[np.int64] = self._shards.lengths
        """Tokens of each sequence, ``[n]``."""
        self.context = int(manifest.settings["context"])
        self.pack: Pack = manifest.settings.get("pack", "none")
        self._table = Table(folder)

    @classmethod
    def open(cls, folder: Path | str) -> TokenStore:
        """A finished store.

        Raises:
            ArtifactError: If there is none, or it was not finished.
        """
        manifest = Manifest.read(folder, KIND, SCHEMA)
        if not finished(folder):
            raise ArtifactError(f"{folder} was not finished", hint="run `whence prepare` again")
        return cls(Path(folder), manifest)

    @classmethod
    def write(
        cls,
        folder: Path | str,
        documents: Iterable[Document],
        tokenizer: Tokenizer,
        *,
        context: int,
        batch_tokens: int = 4096,
        units: int | None = None,
        pack: Pack = "none",
        settings: Mapping[str, Any] | None = None,
        made_from: Mapping[str, str] | None = None,
        called: Mapping[str, str] | None = None,
        shard_tokens: int = SHARD_TOKENS,
        progress: Callable[[Document, int], None] | None = None,
    ) -> TokenStore:
        """Write documents into a folder and open it.

        Args:
            context: Tokens a sequence may have; longer documents become several.
            batch_tokens: Padded tokens of a batch, whatever the context.
            units: Work units; chosen when not given.
            pack: How documents share the model's rows: see `data.packing`.
            settings: More of what decides the content, for the manifest.
            made_from: Fingerprints of the sources. A folder is gone on with only when they are given and equal.
            called: What the sources are called, for messages.
            progress: Called with each document and the tokens so far.

        Raises:
            DataError: If there is nothing to learn from.
            ArtifactMismatch: If the folder holds other data; ArtifactError: if it is not ours.
            StorageError: If the disk refuses.
        """
        folder = Path(folder)
        settings = {"context": context, "batch_tokens": batch_tokens, "units": units, "pack": pack, **(settings or {})}
        manifest = Manifest(KIND, SCHEMA, settings, dict(made_from or {}), called=dict(called or {}))
        if claim(folder, manifest) and finished(folder):
            if made_from:
                return cls.open(folder)
            raise ArtifactError(
                f"{folder} already holds data", hint="open it with TokenStore.open, or give another folder"
            )
        began = time.monotonic()
        tally = Tally()
        shards = ShardWriter(folder, shard_tokens)
        with TableWriter(folder) as table:
            for number, (document, encoded) in enumerate(encoded_documents(documents, tokenizer, context, pack)):
                table.add(_columns(number, document, encoded, shards.sequences), document.metadata)
                for piece in encoded.pieces:
                    shards.add(piece, number)
                tally.count(document, encoded)
                if progress is not None:
                    progress(document, tally.tokens)
            tally.check()
            shards.flush()
            table.finish()
        plan = make_plan(rows_of(np.concatenate(shards.lengths), np.concatenate(shards.begins)), batch_tokens, units)
        files = [*shards.files, TABLE, *plan.write(folder)]
        facts = {
            **tally.facts(),
            "columns": table.columns,
            "content": shards.digest.hexdigest()[:DIGITS],
            "seconds": time.monotonic() - began,
        }
        mark_finished(folder, files, facts)
        return cls.open(folder)

    @property
    def units(self) -> Sequence[Unit]:
        return self.plan.units

    @property
    def sequences(self) -> int:
        return len(self.lengths)

    @property
    def documents(self) -> int:
        """How many documents there are, those with nothing scored included."""
        return len(self._table)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was counted while writing: see `Tally`."""
        return self.manifest.facts

    @property
    def content(self) -> str:
        """A hash of tokens, what is scored, and boundaries: whatever the plan."""
        return str(self.manifest.facts["content"])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of content and plan: partial sums over another plan's units do not fit this one's."""
        made = {"content": self.content, "plan": self.plan.fingerprint}
        return settings_fingerprint(made | ({} if self.pack == "none" else {"pack": self.pack}))

    @property
    def trained(self) -> Data:
        """The sequences as the model was trained on them, for the curvature: windows are whole here."""
        return Windows(self) if self.pack == "windows" else self

    @cached_property
    def windows(self) -> NDArray[np.int64]:
        """The first sequence of each row that the plan is of, and the end; rows of one, unless they are windows."""
        return np.append(np.flatnonzero(self._shards.begins), self.sequences)

    def batches(self, unit: int) -> Iterator[Batch]:
        for rows in self.plan.batches(unit):
            yield self.batch_of(rows)

    def gather(self, sequences: Sequence[int] | NDArray[Any]) -> Iterator[Batch]:
        if len(sequences):
            yield from Selection(self, sequences, units=1).batches(0)

    @cached_property
    def row_lengths(self) -> NDArray[np.int64]:
        """Tokens of each row that the plan is of."""
        return rows_of(self.lengths, self._shards.begins)

    def piece(self, sequence: int) -> Piece:
        """One sequence, copied out of the store."""
        return self._shards[sequence]

    def tokens(self, sequence: int) -> NDArray[np.int32]:
        """The tokens of one sequence, ``[t]``."""
        return self.piece(sequence).tokens

    def document_tokens(self, document: int) -> NDArray[np.int32]:
        """The tokens of a whole document, ``[t]``: a window begins with the last token of the one before, here once."""
        parts = [self.tokens(sequence)[1 if k else 0 :] for k, sequence in enumerate(self.sequences_of(document))]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def length(self, sequence: int) -> int:
        """How many tokens a sequence has."""
        return int(self.lengths[sequence])

    def sequences_of(self, document: int) -> range:
        """The sequences of one document, in its order."""
        low, high = np.searchsorted(self.document_of, [document, document + 1])
        return range(int(low), int(high))

    def row(self, document: int) -> dict[str, Any]:
        """Where a document lies, its counts, and its ``metadata``: the columns of ``documents.parquet``."""
        return self._table.row(document)

    def name(self, sequence: int) -> str:
        row = self.row(int(self.document_of[sequence]))
        name = row_name(row["source"], row["row"])
        if row["sequences"] == 1:
            return name
        start = int(self.offsets[sequence])
        return f"{name}, tokens {start} to {start + self.length(sequence) - 1}"

    def to_arrow(self) -> pa.Table:
        """``documents.parquet`` as a table."""
        return self._table.arrow()

    def batch_of(self, rows: NDArray[np.int64]) -> Batch:
        """Some rows of the plan as one batch: a sequence each, or all the parts of a window."""
        members = [range(self.windows[row], self.windows[row + 1]) for row in rows]
        ids = np.concatenate([np.asarray(one, np.int64) for one in members])
        pieces = [self.piece(int(sequence)) for sequence in ids]
        layout, width = None, max(map(len, pieces))
        if self.pack == "segments":
            layout = apart(pieces, self.context, width)
        elif self.pack == "windows":
            ends = np.cumsum([0, *map(len, members)])
            layout = in_windows(pieces, [range(a, b) for a, b in pairwise(ends.tolist())], width)
        return collate(pieces, ids=ids, documents=self.document_of[ids], layout=layout)

    def __repr__(self) -> str:
        counts = f"{counted(self.documents, 'document')}, {counted(self.sequences, 'sequence')}"
        return f"TokenStore({str(self.folder)!r}, {counts})"


def encoded_documents(
    documents: Iterable[Document], tokenizer: Tokenizer, context: int, pack: Pack = "none"
) -> Iterator[tuple[Document, Encoded]]:
    """Documents with their sequences, tokenised a few hundred at a time."""
    stream, windower, cut = iter(documents), Windower(context), WHOLE if pack == "windows" else context
    while group := _group(stream):
        for document, encoded in zip(group, encode_all(group, tokenizer, cut), strict=True):
            if pack == "windows":
                pieces = windower.add(encoded)
                encoded = replace(encoded, pieces=pieces, scored=sum(int(piece.scored.sum()) for piece in pieces))
            yield document, encoded


def _group(stream: Iterator[Document]) -> list[Document]:
    group: list[Document] = []
    characters = 0
    for document in islice(stream, _DOCUMENTS_AT_ONCE):
        group.append(document)
        characters += sum(map(len, document.written)) + (len(document.tokens.ids) if document.tokens else 0)
        if characters >= _CHARACTERS_AT_ONCE:
            break
    return group


def _columns(number: int, document: Document, encoded: Encoded, first_sequence: int) -> dict[str, Any]:
    return {
        "id": number,
        "source": document.source,
        "row": document.row,
        "offset": document.offset,
        "bytes": document.size,
        "hash": document.hash,
        "tokens": encoded.tokens,
        "scored": encoded.scored,
        "sequences": len(encoded.pieces),
        "first_sequence": first_sequence,
    }
