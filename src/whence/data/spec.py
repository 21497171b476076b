"""``path[#split][[a:b]]``: which files hold the data, and which of their rows are meant.

train.jsonl            one file: .jsonl, .parquet, .txt or .md; .jsonl, .txt and .md also gzipped
corpus/                every such file below a folder, by name
corpus/*.jsonl.gz      a pattern
corpus#validation      of a folder or pattern, the files called validation-… or lying in validation/
train.jsonl#[:1000]    rows 0 to 999; with a split, train#validation[:1000]
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from glob import glob
from itertools import takewhile
from pathlib import Path

from whence.errors import DataError

TABLES = (".jsonl", ".parquet")
TEXTS = (".txt", ".md")
SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".txt", ".txt.gz", ".md", ".md.gz")

_READS = f"whence reads {', '.join(SUFFIXES)} and folders of them"


@dataclass(frozen=True, slots=True)
class Spec:
    """Files to read in this order, and the rows of them that are meant, counted through all files."""

    text: str
    """As the user wrote it."""
    files: tuple[Path, ...]
    start: int = 0
    stop: int | None = None
    left_out: tuple[Path, ...] = ()
    """Text files beside tables: a README is not training data. Whoever reads the spec should say so."""


def parse_spec(text: str | Path) -> Spec:
    """Find the files of a spec.

    Raises:
        DataError: If nothing is there (with the nearest names), or it is of a kind we do not read.
    """
    text = str(text)
    path, split, start, stop = _parts(text)
    if start >= (stop if stop is not None else start + 1):
        raise DataError(f"{text}: rows {start} to {stop} are no rows", hint="write [a:b] with a < b")
    expanded = Path(path).expanduser()
    if expanded.is_file():
        if split:
            raise DataError(
                f"{path} is one file and has no split {split!r}", hint=f"write {path}#[a:b] for some rows of it"
            )
        if kind_of(expanded) is None:
            raise DataError(f"{path}: files ending in {expanded.suffix or 'nothing'} are not read", hint=_READS)
        return Spec(text, (expanded,), start, stop)
    if expanded.is_dir():
        root, found = expanded, sorted(p for p in expanded.rglob("*") if p.is_file() and not _hidden(p, expanded))
    else:
        fixed = takewhile(lambda part: not set(part) & set("*?["), expanded.parent.parts)
        root, found = Path(*fixed), sorted(map(Path, glob(str(expanded), recursive=True)))  # noqa: PTH207
        found = [p for p in found if p.is_file()]
        if not found:
            raise DataError(f"no file, folder or pattern of files at {path}", hint=_nearest(expanded))
    readable = [p for p in found if kind_of(p) is not None]
    if split:
        readable = _of_split(readable, root, split, text)
    tables = [p for p in readable if kind_of(p) in TABLES]
    files = tables or readable
    if not files:
        raise DataError(f"{path} holds no file that can be read", hint=_READS)
    return Spec(text, tuple(files), start, stop, tuple(p for p in readable if p not in files) if tables else ())


def kind_of(path: Path) -> str | None:
    """``.jsonl``, ``.parquet``, ``.txt`` or ``.md``; None for what is not read.

    Example:
        >>> kind_of(Path("a/Train.JSONL.gz")), kind_of(Path("model.bin"))
        ('.jsonl', None)
    """
    name = path.name.lower()
    return next((s.removesuffix(".gz") for s in SUFFIXES if name.endswith(s)), None)


def _parts(text: str) -> tuple[str, str, int, int | None]:
    """Path, split, first row, row after the last. A file that is really called so wins over the grammar."""
    if "#" not in text or Path(text).expanduser().exists():
        return text, "", 0, None
    path, _, rest = text.rpartition("#")
    match = re.fullmatch(r"([^\[\]]*)(?:\[(\d*):(\d*)\])?", rest)
    if match is None:
        raise DataError(
            f"{text}: {rest!r} is not a split or a range of rows", hint="write path#split, path#[a:b] or both"
        )
    split, start, stop = match.groups()
    return path, split, int(start or 0), int(stop) if stop else None


def _of_split(files: list[Path], root: Path, split: str, text: str) -> list[Path]:
    chosen = [p for p in files if re.split(r"[-_.]", p.name)[0] == split or split in p.relative_to(root).parts[:-1]]
    if not chosen:
        names = sorted(
            {re.split(r"[-_.]", p.name)[0] for p in files} | {q for p in files for q in p.relative_to(root).parts[:-1]}
        )
        raise DataError(f"{text}: there is no split {split!r}", hint=f"there are: {', '.join(names[:8]) or 'no files'}")
    return chosen


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _nearest(path: Path) -> str:
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(str(path.with_name(name)) for name in near)}?"
    return _READS if beside else f"there is no folder {path.parent}"
