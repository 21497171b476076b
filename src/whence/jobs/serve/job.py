"""The explorer as a job: started, told where it is, and served until it is interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from whence.counted import counted
from whence.errors import InvalidSetting
from whence.jobs.serve.handler import Server
from whence.jobs.serve.listing import runs_below


class Explorer:
    """A server that listens; `serve` answers until Ctrl-C."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server

    @property
    def url(self) -> str:
        """Its address, with the token that opens it."""
        return self.server.gate.url

    def serve(self) -> None:
        """Answer until interrupted, which is how it is ended."""
        try:
            self.server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
        finally:
            self.server.server_close()

    def text(self) -> str:
        """What a command prints."""
        return f"{counted(len(runs_below(self.folder)), 'run')} in {self.folder}: {self.url}\nCtrl-C ends it."

    def to_dict(self) -> dict[str, Any]:
        """The same for a machine."""
        return {
            "folder": str(self.folder),
            "runs": [found.name for found in runs_below(self.folder)],
            "url": self.url,
            "port": self.server.server_port,
        }


def explorer(folder: Path | str, port: int = 0, *, say: Callable[[str], object] | None = None) -> Explorer:
    """Listen on 127.0.0.1 for whoever has the address.

    Args:
        folder: A run, or a folder with runs in it or below.
        port: 0 takes a free one.
        say: Where mistakes are told while it serves; stderr when not given.

    Raises:
        ArtifactError: If there is no such folder.
        InvalidSetting: If the port is none.
        StorageError: If the port is taken.
    """
    folder = Path(folder)
    runs_below(folder)
    if not 0 <= port <= 65535:
        raise InvalidSetting(f"there is no port {port}", hint="ports go up to 65535; 0 takes a free one")
    return Explorer(folder, Server(folder, port, say))
