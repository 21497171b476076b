"""From a request to files."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import parquet

from whence.artifacts.atomic import refusal, written
from whence.counted import counted
from whence.data.spec import Spec, parse_spec
from whence.data.table import NAME
from whence.errors import DataError, InvalidSetting, StorageError
from whence.jobs.export.data import Scored, write_file
from whence.jobs.export.files import check_name, refuse_existing, write_table
from whence.jobs.export.saved import write_saved
from whence.jobs.export.table import ScoreTable
from whence.jobs.opened import Run

COLUMN = "influence"
"""Of the user's own data; with several questions, `influence.q1` and so on."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    rows: int
    questions: tuple[str, ...]
    columns: tuple[str, ...]
    """All of a table; the new ones of the user's data."""
    unit: str

    def text(self) -> str:
        """For a person."""
        about = counted(len(self.questions), "question")
        return (
            f"{self.path}: {counted(self.rows, 'row')}, {about}; columns {', '.join(self.columns)}\n"
            f"scores in {self.unit}: higher raises the answer"
        )

    def to_dict(self) -> dict[str, Any]:
        """For a machine."""
        return {
            "path": str(self.path),
            "rows": self.rows,
            "questions": list(self.questions),
            "columns": list(self.columns),
            "unit": self.unit,
        }


def export(
    folder: Path,
    *,
    out: Path | None = None,
    into: Path | None = None,
    questions: Sequence[str] = (),
    top: int | None = None,
    column: str = COLUMN,
    train: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a run's scores as a table (``out``), or its training data with a score column (``into``).

    Args:
        folder: Of the run, or of one of its sets of answers.
        questions: Ids of those wanted; all by default.
        top: Of a table: only so many documents at either end of each ranking.
        column: What to call the new column.
        train: Where the training data lie now, if not where the run read them.

    Raises:
        InvalidSetting: If both or neither of ``out`` and ``into`` are given, or a question is not there.
        DataError: If the data are not those that were scored.
        ArtifactError: If the folder is no run with scores.
        StorageError: If something is there already, or the disk refuses.
    """
    if (out is None) == (into is None):
        raise InvalidSetting(
            "say what to write: --out or --into, one of them",
            hint="--out scores.parquet is a table; --into scored.jsonl is the training data with a score column",
        )
    run = Run.open(folder)
    chosen = _chosen(run, questions)
    if out is not None:
        check_name(out)
        refuse_existing(out, overwrite=overwrite)
        table = ScoreTable(run, chosen, top)
        rows = write_table(out, table.schema, table.batches())
        return Exported(out, rows, _ids(run, chosen), tuple(table.schema.names), "raw influence and nats per copy")
    assert into is not None
    refuse_existing(into, overwrite=overwrite)
    scored, spec = _scored(run, chosen, column, train)
    write_data(spec, into, scored)
    unit = "nats per copy" if run.settings.scale == "per_copy" else "raw influence"
    return Exported(into, scored.rows, _ids(run, chosen), scored.names, unit)


def _chosen(run: Run, ids: Sequence[str]) -> list[int]:
    """Numbers of the questions with these ids."""
    there = [query.id for query in run.questions]
    for wanted in ids:
        if wanted not in there:
            raise InvalidSetting(f'{run.folder} has no question "{wanted}"', hint=f"there are: {', '.join(there[:8])}")
    return [number for number, name in enumerate(there) if not ids or name in ids]


def _ids(run: Run, chosen: Sequence[int]) -> tuple[str, ...]:
    return tuple(run.questions[number].id for number in chosen)


def _scored(run: Run, chosen: Sequence[int], column: str, train: str | None) -> tuple[Scored, Spec]:
    """The new columns, and the data that they are for."""
    settings = run.settings
    try:
        spec = parse_spec(train or settings.train)
    except DataError as error:
        raise DataError(error.message, hint="--train says where the data of the run lie now") from error
    ids = _ids(run, chosen)
    names = (column,) if len(ids) == 1 else tuple(f"{column}.{name}" for name in ids)
    scale = run.train_size if settings.scale == "per_copy" else 1
    values = np.stack([run.raw(number) / scale for number in chosen])
    hashes = parquet.read_table(run.store.folder / NAME, columns=["hash"])["hash"]
    return Scored(names, values, hashes, spec.start, settings.columns or {}), spec


def write_data(spec: Spec, into: Path, scored: Scored) -> None:
    """A file as a file, several as a folder of the same names, Arrow files as a saved dataset."""
    files = spec.files
    folder = len(files) > 1 or files[0].suffix.lower() == ".arrow"
    if into.is_dir() or (folder and into.exists()):
        raise StorageError(f"{into} is there already, and was left as it is", hint="give a name that is not there")
    if any(into.resolve() == path.resolve() for path in files):
        raise StorageError(f"{into} is the training data itself", hint="give another name")
    if not folder:
        with written(into) as beside:
            write_file(files[0], into, beside, scored)
            scored.finish()
        return
    with _whole(into) as beside:
        if files[0].suffix.lower() == ".arrow":
            write_saved(files, beside, scored)
        else:
            root = Path(os.path.commonpath([path.parent for path in files]))
            for path in files:
                out = beside / path.relative_to(root)
                out.parent.mkdir(parents=True, exist_ok=True)
                write_file(path, out, out, scored)
        scored.finish()


@contextmanager
def _whole(into: Path) -> Iterator[Path]:
    """A folder that is whole under its name, or not there."""
    beside = into.with_name(f".{into.name}.{secrets.token_hex(4)}.tmp")
    try:
        beside.mkdir(parents=True)
        yield beside
        beside.replace(into)
    except OSError as error:
        raise refusal(into, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
