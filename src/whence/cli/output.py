"""What a command prints: one JSON object for machines, or the text that a result gives of itself."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from whence.jobs.log import Log


class Result(Protocol):
    """What every job hands to its command."""

    def text(self) -> str:
        """For a person, plain, ending without a newline."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """For a machine; JSON's types only."""
        ...


def show(result: Result, *, as_json: bool) -> None:
    """Print a result on stdout, from the main process alone."""
    if not _main():
        return
    if as_json:
        json.dump(result.to_dict(), sys.stdout, ensure_ascii=False, allow_nan=False)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(result.text() + "\n")


def progress() -> Log:
    """The log a command hands to its job: on stderr, from the main process alone."""
    from whence.jobs.log import Log

    return Log.stderr() if _main() else Log.silent()


def _main() -> bool:
    from whence.world import World

    return World.current().main
