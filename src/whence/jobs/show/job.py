"""Show: nothing is computed and nothing written; the model is loaded for its layers alone."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whence.errors import ArtifactError
from whence.jobs.settings import RunSettings
from whence.jobs.show.documents import ShownDocument, first_documents
from whence.jobs.show.layers import ShownLayers, layers_of
from whence.jobs.show.state import Done, state_of

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Shown:
    """What was asked for; None where it was not."""

    documents: list[ShownDocument] | None = None
    layers: ShownLayers | None = None
    run: list[Done] | None = None

    def print(self, console: Console) -> None:
        """For a person: coloured where the console is a terminal that has colours, marked by brackets elsewhere."""
        from whence.jobs.show import page

        page.draw(self.documents, self.layers, self.run, console)

    def text(self) -> str:
        """The same without colours, 100 columns wide."""
        from rich.console import Console

        page = io.StringIO()
        self.print(Console(file=page, width=100, highlight=False, markup=False, emoji=False))
        return page.getvalue().removesuffix("\n")

    def to_dict(self) -> dict[str, Any]:
        """For a machine."""
        parts = {
            "documents": None if self.documents is None else [asdict(one) for one in self.documents],
            "layers": None if self.layers is None else asdict(self.layers),
            "run": None if self.run is None else [asdict(one) for one in self.run],
        }
        return {name: part for name, part in parts.items() if part is not None}


def show(
    folder: Path,
    settings: RunSettings | None,
    *,
    data: bool = True,
    layers: bool = True,
    run: bool = True,
    count: int = 5,
) -> Shown:
    """Look at a run, or at a model and data that a run could be made of.

    Args:
        folder: Of the run; it need not be there for data and layers.
        settings: Which model and data; not needed for what is done of a run.
        count: How many documents.

    Raises:
        ArtifactError: If the state of a run is asked for, and there is none.
        DataError, ModelError, LayerError: As for a run with these settings.
    """
    if run and not (folder / "manifest.json").exists():
        raise ArtifactError(f"{folder} is not a run: it has no manifest.json", hint="`whence run` begins one")
    return Shown(
        first_documents(folder, settings, count) if data and settings is not None else None,
        layers_of(settings) if layers and settings is not None else None,
        state_of(folder) if run else None,
    )
