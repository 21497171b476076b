"""``path-or-name[:config][@revision][#split[[a:b]]]``: which files hold the data, and which of their rows are meant.

train.jsonl              one file: JSON lines, a JSON list, CSV, TSV, Parquet, Arrow or plain text; packed or not
corpus/                  every such file below a folder, by name
corpus/*.jsonl.gz        a pattern
corpus#validation        of a folder or pattern, the files called validation-… or lying in validation/
saved/, saved#train      what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote
owner/name:config#train  a dataset of the hub, from this machine's cache; @revision names a commit of it
train.jsonl#[:1000]      rows 0 to 999; with a split, train#validation[:1000]

What lies on this disk wins over a dataset of the same name. Nothing is ever downloaded.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from glob import glob
from itertools import takewhile
from pathlib import Path

from whence.data import hub, saved
from whence.data.kinds import ORDER, READS, kind_of
from whence.errors import DataError


@dataclass(frozen=True, slots=True)
class Spec:
    """Files to read in this order, and the rows of them that are meant, counted through all files."""

    text: str
    """As the user wrote it."""
    files: tuple[Path, ...]
    start: int = 0
    stop: int | None = None
    left_out: tuple[Path, ...] = ()
    """Files beside the data that are read only by themselves: a README. Whoever reads the spec should say so."""
    found: str = ""
    """Where a name was found, and which commit of it, where that was not said."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """A spec taken apart."""

    text: str
    place: str
    split: str
    start: int
    stop: int | None

    def of(self, files: list[Path] | tuple[Path, ...], **more: str | tuple[Path, ...]) -> Spec:
        return replace(Spec(self.text, tuple(files), self.start, self.stop), **more)  # type: ignore[arg-type]


def parse_spec(text: str | Path) -> Spec:
    """Find the files of a spec.

    Raises:
        DataError: If nothing is there (with the nearest names), it is of a kind we do not read, or it has splits and
            none was named.
    """
    parts = _parts(str(text))
    if parts.start >= (parts.stop if parts.stop is not None else parts.start + 1):
        raise DataError(f"{text}: rows {parts.start} to {parts.stop} are no rows", hint="write [a:b] with a < b")
    path = Path(parts.place).expanduser()
    if path.is_file():
        return _file(parts, path)
    if path.is_dir():
        return _folder(parts, path)
    matched = [p for p in sorted(map(Path, glob(str(path), recursive=True))) if p.is_file()]  # noqa: PTH207
    if matched:
        fixed = takewhile(lambda part: not set(part) & set("*?["), path.parent.parts)
        return _readable(parts, Path(*fixed), matched)
    return _named(parts, path)


def _parts(text: str) -> _Parts:
    """A file that is really called so wins over the grammar."""
    if "#" not in text or Path(text).expanduser().exists():
        return _Parts(text, text, "", 0, None)
    place, _, rest = text.rpartition("#")
    match = re.fullmatch(r"([^\[\]]*)(?:\[(\d*):(\d*)\])?", rest)
    if match is None:
        raise DataError(
            f"{text}: {rest!r} is not a split or a range of rows", hint="write path#split, path#[a:b] or both"
        )
    split, start, stop = match.groups()
    return _Parts(text, place, split, int(start or 0), int(stop) if stop else None)


def _file(parts: _Parts, path: Path) -> Spec:
    place = parts.place
    if parts.split:
        raise DataError(
            f"{place} is one file and has no split {parts.split!r}", hint=f"write {place}#[a:b] for some rows of it"
        )
    if kind_of(path) is None:
        raise DataError(f"{place}: files ending in {path.suffix or 'nothing'} are not read", hint=READS)
    return parts.of([path])


def _folder(parts: _Parts, folder: Path) -> Spec:
    if saved.is_saved(folder):
        return parts.of(saved.files_of(folder, parts.split, parts.place))
    found = sorted(p for p in folder.rglob("*") if p.is_file() and not _hidden(p, folder))
    return _readable(parts, folder, found)


def _readable(parts: _Parts, root: Path, found: list[Path]) -> Spec:
    """The files of a folder or a pattern that are read: of one rank, and of the split."""
    readable = [p for p in found if kind_of(p) is not None]
    if parts.split:
        readable = _of_split(readable, root, parts.split, parts.text)
    files = next((some for kinds in ORDER if (some := [p for p in readable if kind_of(p) in kinds])), [])
    if not files:
        raise DataError(f"{parts.place} holds no file that can be read", hint=READS)
    return parts.of(files, left_out=tuple(p for p in readable if p not in files))


def _named(parts: _Parts, path: Path) -> Spec:
    """A dataset of the hub, or else nothing at all."""
    missing = f"no file, folder or pattern of files at {parts.place}"
    near = _nearest(path)
    name = hub.parse_name(parts.place)
    if name is None:
        raise DataError(missing, hint=near or _no_such_folder(path))
    if Path(name.name).expanduser().exists():  # then only what follows the name was wrong
        raise DataError(
            f"{missing}; {name.name} is there, and files have no :config or @revision",
            hint=f"write {name.name}, with #split where it has some",
        )
    copy = hub.find(name, parts.split, missing=missing, near=near)
    if isinstance(copy.place, Path):
        return replace(_folder(parts, copy.place), found=copy.found)
    return parts.of(copy.place, found=copy.found)


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


def _nearest(path: Path) -> str | None:
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(str(path.with_name(name)) for name in near)}?" if near else None


def _no_such_folder(path: Path) -> str:
    return READS if path.parent.is_dir() else f"there is no folder {path.parent}"
