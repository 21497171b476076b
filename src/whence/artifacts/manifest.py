"""``manifest.json``: what a folder holds, what it was made from, and how.

    kind, schema     what is in the folder, and which version of its layout
    settings         everything that decides its numbers
    made_from        name → fingerprint: model, tokenizer, data, curvature
    called           name → what a source was called, for messages; never compared
    finished         false while it grows
    files            name → SHA-256, once finished
    facts            numbers worth keeping: counts, seconds, coverage

A folder is used with what it was made from, or refused: see `require`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from whence.artifacts.atomic import write_text
from whence.artifacts.fingerprint import canonical
from whence.errors import ArtifactError, ArtifactMismatch

NAME = "manifest.json"


def _version() -> str:
    try:
        return metadata.version("whence")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "0"


@dataclass(frozen=True)
class Manifest:
    """What a folder holds. Written first, and once more when the folder is finished."""

    kind: str
    schema: int
    settings: Mapping[str, Any]
    made_from: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = False
    called: Mapping[str, str] = field(default_factory=dict)
    whence: str = field(default_factory=_version)

    def write(self, folder: Path | str) -> None:
        """Put the manifest into its folder, whole or not at all.

        Raises:
            StorageError: If the disk refuses.
        """
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False, default=str)
        write_text(Path(folder) / NAME, text + "\n")

    @classmethod
    def read(cls, folder: Path | str, kind: str | None = None, schema: int | None = None) -> Manifest:
        """The manifest of a folder.

        Args:
            kind: What the caller needs the folder to hold; None takes anything.
            schema: The newest layout that the caller can read.

        Raises:
            ArtifactError: If there is none, it is not JSON, holds another kind, or has a newer layout.
        """
        path = Path(folder) / NAME
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            what = f"no {kind} in {folder}" if kind else f"{folder} is not one of ours"
            raise ArtifactError(f"{what}: there is no {NAME}", hint="check the path; `whence run` makes it") from error
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{path} cannot be read: {error}", hint="remove the folder and make it again"
            ) from error
        names = {f.name for f in fields(cls)}
        required = {"kind", "schema", "settings", "made_from"}
        if not isinstance(loaded, dict) or not required <= loaded.keys():
            raise ArtifactError(f"{path} is not a manifest of ours", hint="check the path")
        manifest = cls(**{name: value for name, value in loaded.items() if name in names})
        if kind is not None and manifest.kind != kind:
            raise ArtifactError(f"{folder} holds {manifest.kind}, not {kind}", hint="check the path")
        if schema is not None and manifest.schema > schema:
            raise ArtifactError(
                f"{folder} was written by a newer whence ({manifest.whence}, layout {manifest.schema}; this one reads "
                f"up to {schema})",
                hint="upgrade: pip install -U whence",
            )
        return manifest


def require(
    folder: Path | str,
    manifest: Manifest,
    *,
    made_from: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    called: Mapping[str, str] | None = None,
    hint: str = "use what it was made with, or make it again in another folder",
) -> None:
    """Refuse a folder that was made from something else, or otherwise. Only what is given is compared.

    Args:
        called: What the sources are called now, for the message.

    Raises:
        ArtifactMismatch: Naming the first field that differs, and both its values.
    """
    for name, value in (made_from or {}).items():
        if manifest.made_from.get(name) != value:
            raise ArtifactMismatch(
                artifact=folder,
                field=name,
                made_with=_told(name, str(manifest.made_from.get(name, "none")), manifest.called),
                used_with=_told(name, value, called or {}),
                hint=hint,
            )
    for name, value in (settings or {}).items():
        made = manifest.settings.get(name)
        if name not in manifest.settings or canonical(made) != canonical(value):
            shown = f"{name} = {canonical(made)}" if name in manifest.settings else f"{name} not set"
            raise ArtifactMismatch(
                artifact=folder, field="run", made_with=shown, used_with=f"{name} = {canonical(value)}", hint=hint
            )


def _told(name: str, fingerprint: str, called: Mapping[str, str]) -> str:
    """``models/toy, float32 (d315…)``: a digest alone tells a reader nothing."""
    return f"{called[name]} ({fingerprint})" if name in called else fingerprint
