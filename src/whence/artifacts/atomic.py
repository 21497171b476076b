"""A file is whole under its name, or it is not there: written beside, flushed to disk, renamed.

Ctrl-C, a full disk or a lost machine leave at most a hidden ``.<name>.<random>.tmp``, which nothing opens.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from whence.errors import StorageError

_REASONS = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than this disk or process may write",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the disk is read-only",
}


@contextmanager
def written(path: Path | str) -> Iterator[Path]:
    """A path to write to, renamed to ``path`` when the block ends and removed when it fails.

    Raises:
        StorageError: If the disk refuses. Files finished earlier are kept.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with written(folder / "a.txt") as beside:
        ...     _ = beside.write_text("whole")
        >>> [p.name for p in folder.iterdir()]
        ['a.txt']
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _flush(beside)
        beside.replace(path)
        _flush(path.parent)  # the new name, too, is on disk before anything is deleted on the strength of it
    except OSError as error:
        _remove(beside)
        raise refusal(path, error) from error
    except BaseException:
        _remove(beside)
        raise


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file whole, or not at all.

    Raises:
        StorageError: If the disk refuses.
    """
    with written(path) as beside:
        beside.write_bytes(text.encode())


def make_folder(folder: Path | str) -> Path:
    """The folder, made where it was missing.

    Raises:
        StorageError: If it cannot be made, or a file has its name.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise StorageError(f"{folder} is a file, not a folder", hint="give another output folder") from error
    except OSError as error:
        raise refusal(folder, error) from error
    return folder


def refusal(path: Path, error: OSError) -> StorageError:
    """The disk's refusal in words."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return StorageError(
        f"{path} could not be written: {reason}. What was finished before it is kept.",
        hint="make room or give another output folder, then run the same command again: it goes on from there",
    )


def is_temporary(path: Path) -> bool:
    """Whether a file is what an interrupted write left behind."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def remove_temporaries(folder: Path, older_than: float = 3600.0) -> None:
    """Remove what interrupted writes left behind.

    Args:
        older_than: Seconds; younger files may be another process's, still being written.
    """
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > older_than:
                path.unlink()


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
