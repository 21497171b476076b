"""The documents that a report explains, kept token by token, so that they can be read again without the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from whence.artifacts.atomic import written
from whence.jobs.explain import Explanation

_FLOATS = pa.list_(pa.float32())
_SCHEMA = pa.schema(
    [
        ("document", pa.int64()),
        ("raw", pa.float64()),
        ("tokens", pa.list_(pa.int32())),
        ("scored", pa.list_(pa.bool_())),
        ("by_token", _FLOATS),
        ("output_tokens", _FLOATS),
        ("input_tokens", _FLOATS),
        ("by_layer", _FLOATS),
    ]
)


@dataclass(frozen=True)
class Shown:
    """One document against one question, in raw influence. By position, as in `Explanation`."""

    tokens: list[int]
    scored: list[bool]
    by_token: NDArray[np.float64]
    """Of position t, which predicts token t + 1; so is ``output_tokens``."""
    output_tokens: NDArray[np.float64]
    input_tokens: NDArray[np.float64]
    by_layer: NDArray[np.float64]

    @classmethod
    def of(cls, e: Explanation) -> Shown:
        return cls(e.tokens, e.scored, e.by_token, e.output_tokens, e.input_tokens, e.by_layer)


def keep_shown(folder: Path, question: int, explained: Sequence[Explanation]) -> None:
    """Write one question's documents beside its answers.

    Raises:
        StorageError: If the disk refuses.
    """
    rows = [{name: getattr(one, name) for name in _SCHEMA.names} for one in explained]
    with written(_path(folder, question)) as beside:
        parquet.write_table(pa.Table.from_pylist(rows, _SCHEMA), beside)


def read_shown(folder: Path, question: int, document: int) -> Shown | None:
    """One of the documents; None where the report did not show it."""
    path = _path(folder, question)
    if not path.exists():
        return None
    found: list[dict[str, Any]] = parquet.read_table(path, filters=[("document", "=", document)]).to_pylist()
    if not found:
        return None
    row = found[0]
    numbers = {name: np.array(row[name], np.float64) for name in _SCHEMA.names[4:]}
    return Shown(row["tokens"], row["scored"], **numbers)


def read_layers(folder: Path, question: int) -> NDArray[np.float64] | None:
    """A layer's part in the score of every document that the report shows, ``[l documents]``; None without a report."""
    path = _path(folder, question)
    if not path.exists():
        return None
    rows = parquet.read_table(path, columns=["by_layer"])["by_layer"].to_pylist()
    return np.array(rows, np.float64).T if rows else None


def _path(folder: Path, question: int) -> Path:
    return folder / f"shown-{question:05d}.parquet"
