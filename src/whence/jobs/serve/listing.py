"""The runs of a folder, each in a line: what it is of, how far it is, or what is wrong with it.

A run is named in addresses by a digest of its place below the folder. No part of an address is ever used as a path.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from whence.artifacts.folder import finished
from whence.artifacts.manifest import NAME as MANIFEST
from whence.artifacts.manifest import Manifest
from whence.errors import ArtifactError, WhenceError
from whence.jobs.compare.sides import key_of
from whence.jobs.log import NAME as EVENTS
from whence.jobs.opened import answers_of
from whence.jobs.prepare import FOLDER as DATA
from whence.jobs.report.provenance import model_name
from whence.jobs.serve.progress import Progress, progress_of
from whence.jobs.settings import RunSettings
from whence.jobs.summary import short
from whence.jobs.valuation.folder import KIND as VALUATION

DEPTH = 4
"""Folders that a run may lie below the one that is served."""
MOST_FOLDERS = 5000
"""Folders that are looked into for runs."""
REPORTS = ("report.html", "suspects.html")
"""Pages that a run writes, which are served as they are."""
State = Literal["working", "answered", "valued", "unfinished", "broken"]


@dataclass(frozen=True, slots=True)
class Found:
    """A folder that is a run, or was to be one."""

    key: str
    """What addresses call it."""
    name: str
    """Where it lies below the folder that is served."""
    folder: Path

    def report(self, name: str = REPORTS[0]) -> Path | None:
        """A page that it wrote; never a link to a file elsewhere."""
        path = self.folder / name
        return path if name in REPORTS and path.is_file() and not path.is_symlink() else None

    @property
    def reports(self) -> list[str]:
        """The pages that are there."""
        return [name for name in REPORTS if self.report(name) is not None]


@dataclass(frozen=True, slots=True)
class Line:
    """A run among others."""

    found: Found
    state: State
    model: str = ""
    data: str = ""
    documents: int | None = None
    questions: int = 0
    """Asked at whatever damping or rank, each counted once."""
    asked: str = ""
    """The first of its newest questions."""
    problem: str = ""
    """What is wrong with it."""
    progress: Progress | None = None
    changed: datetime | None = None


def runs_below(folder: Path) -> list[Found]:
    """Every run in a folder and some levels below it, or the folder itself; in the order of their names.

    Raises:
        ArtifactError: If there is no such folder.
    """
    if not folder.is_dir():
        raise ArtifactError(f"there is no folder {folder}", hint="give a run, or a folder that holds runs")
    if is_run(folder):
        return [_found(folder, folder.resolve().name)]
    left = [MOST_FOLDERS]
    below = sorted(_below(folder, DEPTH, left), key=lambda path: path.relative_to(folder).parts)
    return [_found(path, path.relative_to(folder).as_posix()) for path in below]


def is_run(folder: Path) -> bool:
    """Whether a folder looks like a run's, be it whole or not."""
    if not (folder / MANIFEST).is_file():
        return (folder / "settings.toml").is_file() and (folder / DATA).is_dir()
    try:
        return Manifest.read(folder).kind in ("run", VALUATION)
    except WhenceError:
        return any((folder / name).exists() for name in ("settings.toml", EVENTS, DATA))


def line_of(found: Found) -> Line:
    """What there is to say of a run. Whatever is wrong with it is said, and never raised."""
    try:
        return _line(found)
    except WhenceError as error:
        return Line(found, "broken", problem=str(error), changed=_changed(found.folder))
    except Exception as error:  # a damaged folder can fail anywhere; its line says how
        return Line(found, "broken", problem=f"{type(error).__name__}: {error}", changed=_changed(found.folder))


def _line(found: Found) -> Line:
    folder = found.folder
    kind = Manifest.read(folder).kind
    progress, changed = progress_of(folder), _changed(folder)
    working = progress is not None and progress.working
    if kind == VALUATION:
        return Line(
            found,
            "working" if working else "valued" if found.reports else "unfinished",
            progress=progress,
            changed=changed,
        )
    prepared = finished(folder / DATA)
    documents = int(Manifest.read(folder / DATA).facts["documents"]) if prepared else None
    if not (folder / "settings.toml").exists():
        return Line(
            found, "working" if working else "unfinished", documents=documents, progress=progress, changed=changed
        )
    settings = RunSettings.from_toml(folder / "settings.toml")
    answers = answers_of(folder)
    query = answers[0].questions[0] if answers else None
    return Line(
        found,
        "working" if working else "answered" if answers else "unfinished",
        model=model_name(settings.model),
        data=Path(settings.train).name,
        documents=documents,
        questions=len({key_of(query) for one in answers for query in one.questions}),
        asked="" if query is None else f"{short(query.prompt)} → {short(query.completion)}",
        progress=progress,
        changed=changed,
    )


def _below(folder: Path, depth: int, left: list[int]) -> Iterator[Path]:
    if depth == 0:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # a folder of somebody else's
        return
    for entry in entries:
        if entry.name.startswith(".") or left[0] <= 0 or not entry.is_dir():
            continue
        left[0] -= 1
        path = Path(entry.path)
        if is_run(path):
            yield path
        else:
            yield from _below(path, depth - 1, left)


def _found(folder: Path, name: str) -> Found:
    return Found(hashlib.sha256(os.fsencode(name)).hexdigest()[:12], name, folder)


def _changed(folder: Path) -> datetime | None:
    times = [path.stat().st_mtime for name in (EVENTS, MANIFEST) if (path := folder / name).exists()]
    return datetime.fromtimestamp(max(times), UTC) if times else None
