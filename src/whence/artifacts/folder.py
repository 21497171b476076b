"""Claiming an output folder: start it, go on with it, or refuse it because it is another run's."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from whence.artifacts.atomic import is_temporary, make_folder, remove_temporaries
from whence.artifacts.fingerprint import file_checksum
from whence.artifacts.manifest import NAME, Manifest, require
from whence.errors import ArtifactError, ArtifactMismatch

_HINT = "give another output folder, or remove this one to start again"


def claim(folder: Path | str, manifest: Manifest, *, beside: Collection[str] = ()) -> bool:
    """Start a folder, or go on with it where the same run left it.

    Args:
        beside: Names that may lie in a folder not yet claimed.

    Returns:
        True if the folder was begun earlier by the same kind of run, with equal settings and sources.

    Raises:
        ArtifactMismatch: If it belongs to a run with other sources or settings: both are named.
        ArtifactError: If it holds another kind of thing, or files that are not ours.
        StorageError: If it cannot be written.
    """
    folder = make_folder(folder)
    if not (folder / NAME).exists():
        foreign = sorted(p.name for p in folder.iterdir() if not is_temporary(p) and p.name not in beside)
        if foreign:
            shown = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
            raise ArtifactError(f"{folder} is not empty and not ours: it holds {shown}", hint=_HINT)
        manifest.write(folder)
        return False
    return accepts(folder, manifest)


def accepts(folder: Path | str, manifest: Manifest) -> bool:
    """Whether a folder was begun by the same kind of run, with equal settings and sources; writes nothing.

    Returns:
        False if nobody has claimed it.

    Raises:
        ArtifactMismatch, ArtifactError: As for `claim`.
    """
    folder = Path(folder)
    if not (folder / NAME).exists():
        return False
    found = Manifest.read(folder, manifest.kind, manifest.schema)
    if found.schema != manifest.schema:
        raise ArtifactError(f"{folder} has the older layout {found.schema} of whence {found.whence}", hint=_HINT)
    require(folder, found, made_from=manifest.made_from, settings=manifest.settings, called=manifest.called, hint=_HINT)
    for theirs, ours in (
        (found.made_from, manifest.made_from),
        (found.settings, manifest.settings),
    ):
        extra = sorted(theirs.keys() - ours.keys())
        if extra:
            name = f"{extra[0]} {found.called[extra[0]]}" if extra[0] in found.called else extra[0]
            made = f"{name} = {theirs[extra[0]]}"
            raise ArtifactMismatch(artifact=folder, field="run", made_with=made, used_with=f"no {extra[0]}", hint=_HINT)
    return True


def release(folder: Path | str) -> None:
    """Give up a folder that this run claimed and could not finish: it is removed, and free for any other run."""
    folder = Path(folder)
    if (folder / NAME).exists() and not Manifest.read(folder).finished:
        shutil.rmtree(folder, ignore_errors=True)


def finished(folder: Path | str) -> bool:
    """Whether a folder was finished: everything is there that its manifest lists."""
    folder = Path(folder)
    if not (folder / NAME).exists():
        return False
    manifest = Manifest.read(folder)
    return manifest.finished and all((folder / name).exists() for name in manifest.files)


def mark_finished(folder: Path | str, files: Iterable[str] = (), facts: Mapping[str, Any] | None = None) -> Manifest:
    """Write the manifest again, with checksums and facts: the last thing that happens to a folder.

    Args:
        files: Names within the folder, all present.

    Raises:
        StorageError: If the disk refuses; the folder then stays unfinished.
    """
    folder = Path(folder)
    remove_temporaries(folder)
    manifest = replace(
        Manifest.read(folder),
        files={name: file_checksum(folder / name) for name in sorted(files)},
        facts=dict(facts or {}),
        finished=True,
    )
    manifest.write(folder)
    return manifest


def verify(folder: Path | str) -> Manifest:
    """Compare every file with its checksum.

    Raises:
        ArtifactError: If the folder is unfinished, or a file is missing or was changed, by name.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    if not manifest.finished:
        raise ArtifactError(f"{folder} was not finished", hint="run the same command again: it goes on from there")
    for name, checksum in manifest.files.items():
        path = folder / name
        if not path.exists() or file_checksum(path) != checksum:
            what = "was changed after it was written" if path.exists() else "is missing"
            raise ArtifactError(f"{path} {what}", hint="remove the folder and make it again")
    return manifest
