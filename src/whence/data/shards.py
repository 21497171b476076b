"""Token shards: sequences end to end in safetensors files, written a shard at a time and read where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from whence.artifacts.tensors import map_tensors, save_tensors
from whence.data.batches import Piece

SHARD_TOKENS = 2**24


class ShardWriter:
    """Takes sequences one by one; holds one shard of them, and keeps a running hash of all that was written.

    Raises:
        StorageError: If the disk refuses.
    """

    def __init__(self, folder: Path, shard_tokens: int) -> None:
        self.folder = folder
        self.shard_tokens = shard_tokens
        self.files: list[str] = []
        self.lengths: list[NDArray[np.int64]] = []
        self.begins: list[NDArray[np.bool_]] = []
        self.sequences = 0
        self.digest = hashlib.sha256()
        self._pieces: list[Piece] = []
        self._documents: list[int] = []
        self._held = 0

    def add(self, piece: Piece, document: int) -> None:
        # numbers before the arrays: the boundaries are part of the content
        self.digest.update(np.array([len(piece), document, piece.offset], "<i8").tobytes())
        self.digest.update(b"" if piece.begins else b"+")
        self.digest.update(piece.tokens.astype("<i4").tobytes() + piece.scored.tobytes())
        self._pieces.append(piece)
        self._documents.append(document)
        self._held += len(piece)
        self.sequences += 1
        if self._held >= self.shard_tokens:
            self.flush()

    def flush(self) -> None:
        if not self._pieces:
            return
        lengths = np.array([len(piece) for piece in self._pieces], np.int64)
        arrays = {
            "tokens": np.concatenate([piece.tokens for piece in self._pieces]),
            "scored": np.concatenate([piece.scored for piece in self._pieces]),
            "ends": np.cumsum(lengths),
            "document": np.array(self._documents, np.int64),
            "offset": np.array([piece.offset for piece in self._pieces], np.int64),
        }
        if not all(piece.begins for piece in self._pieces):
            arrays["begins"] = np.array([piece.begins for piece in self._pieces])
        name = f"tokens-{len(self.files):05d}.safetensors"
        save_tensors(self.folder / name, {key: torch.from_numpy(array) for key, array in arrays.items()})
        self.files.append(name)
        self.lengths.append(lengths)
        self.begins.append(np.array([piece.begins for piece in self._pieces]))
        self._pieces, self._documents, self._held = [], [], 0


class Shards:
    """The sequences of a folder, mapped: only those looked at are read.

    Raises:
        ArtifactError: If a shard is missing or cut short.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        shards = [map_tensors(folder / name) for name in names]
        self._tokens = [shard["tokens"] for shard in shards]
        self._scored = [shard["scored"] for shard in shards]
        self._ends = [shard["ends"] for shard in shards]
        self._first = np.cumsum([0, *(len(ends) for ends in self._ends)])
        self.documents: NDArray[np.int64] = np.concatenate([shard["document"] for shard in shards])
        self.offsets: NDArray[np.int64] = np.concatenate([shard["offset"] for shard in shards])
        self.lengths: NDArray[np.int64] = np.concatenate([np.diff(ends, prepend=0) for ends in self._ends])
        self.begins: NDArray[np.bool_] = np.concatenate(
            [shard.get("begins", np.ones(len(shard["ends"]), np.bool_)) for shard in shards]
        )
        """Which begin a row of the model's."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, sequence: int) -> Piece:
        if not 0 <= sequence < len(self):
            raise IndexError(f"sequence {sequence} of {len(self)}")
        shard = int(np.searchsorted(self._first, sequence, side="right")) - 1
        stop = int(self._ends[shard][sequence - int(self._first[shard])])
        part = slice(stop - int(self.lengths[sequence]), stop)
        tokens, scored = self._tokens[shard][part].copy(), self._scored[shard][part].copy()
        return Piece(tokens, scored, int(self.offsets[sequence]), bool(self.begins[sequence]))
