"""Every error a user can meet, in one family.

    WhenceError                 what, which, and what to do next (exit code 1)
    ├── InvalidSetting          a setting that cannot be honoured: damping ≤ 0, an unknown key, …
    ├── DataError               a document, a row or a query that cannot be used; names file, line and field
    ├── ModelError              a model or tokenizer that cannot be loaded or used
    │   └── LayerError          a layer that cannot be tracked, by name
    ├── NumericalError          NaN, inf or divergence; names the layer and the document
    ├── ArtifactError           a folder or file that is missing, cut short, or not ours
    │   └── ArtifactMismatch    an artifact that belongs to other weights, data, tokenizer or settings
    ├── StorageError            no space left, no permission: what was finished is kept
    └── CheckFailed             what `whence check` found would make a run wrong

Checks happen at the boundary, before the first pass. ``assert`` is for our own mistakes.
"""

from __future__ import annotations

from pathlib import Path


class WhenceError(Exception):
    """What went wrong, which thing it was, and a hint at what to do.

    Args:
        message: One or more lines; the first says what went wrong and names the thing.
        hint: What the user can do about it, as a command or a setting where possible.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class InvalidSetting(WhenceError):  # noqa: N818 (the family says what is wrong, not that it is an error)
    """A setting that cannot be honoured as given."""


class DataError(WhenceError):
    """A document, a row or a query that cannot be used."""


class ModelError(WhenceError):
    """A model or a tokenizer that cannot be loaded or used."""


class LayerError(ModelError):
    """A layer that cannot be tracked; the message names it."""


class NumericalError(WhenceError):
    """NaN, inf or divergence; the message names the layer and the document."""


class ArtifactError(WhenceError):
    """A folder or file that is missing, cut short, or not one of ours."""


class ArtifactMismatch(ArtifactError):  # noqa: N818
    """An artifact that belongs to other weights, data, tokenizer or settings.

    Args:
        artifact: The folder that was opened.
        field: What differs: ``model``, ``tokenizer``, ``data`` or ``settings``.
        made_with: What the artifact was made with.
        used_with: What it was now to be used with.
        hint: What the user can do about it.
    """

    def __init__(self, *, artifact: Path | str, field: str, made_with: str, used_with: str, hint: str) -> None:
        super().__init__(
            f"{artifact} does not belong to this {field}.\n  made with: {made_with}\n  used with: {used_with}",
            hint=hint,
        )
        self.field = field


class StorageError(WhenceError):
    """The disk refused: no space left or no permission. What was finished is kept."""


class CheckFailed(WhenceError):  # noqa: N818
    """What ``whence check`` found would make a run wrong; the rows say what, the message which."""
