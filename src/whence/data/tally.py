"""What is counted while documents become sequences, so that nothing is left unsaid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from whence.data.documents import Document
from whence.data.encode import Encoded
from whence.errors import DataError

NAMED = 20
"""How many documents of a sort are named; all of them are counted."""


@dataclass
class Tally:
    """Counts over all documents; `facts` goes into the manifest."""

    documents: int = 0
    sequences: int = 0
    tokens: int = 0
    """Of documents: the token that two windows share counts once."""
    scored: int = 0
    windowed: int = 0
    """Documents longer than the context."""
    unscored: int = 0
    """Documents with nothing to predict: empty, or of one token."""
    unscored_names: list[str] = field(default_factory=list)
    longest: int = 0
    windowed_names: list[str] = field(default_factory=list)
    shapes: dict[str, int] = field(default_factory=dict)
    """Shape of rows → how many were read as it."""
    noticed: dict[str, int] = field(default_factory=dict)
    """Key of `encode.NOTICES` → how many documents."""
    noticed_names: dict[str, list[str]] = field(default_factory=dict)

    def count(self, document: Document, encoded: Encoded) -> None:
        self.documents += 1
        self.sequences += len(encoded.pieces)
        self.tokens += encoded.tokens
        self.scored += encoded.scored
        self.longest = max(self.longest, encoded.tokens)
        self.shapes[document.shape] = self.shapes.get(document.shape, 0) + 1
        if len(encoded.pieces) > 1:
            self.windowed += 1
            _name(self.windowed_names, document)
        if encoded.scored == 0:
            self.unscored += 1
            _name(self.unscored_names, document)
        for key in sorted(encoded.noticed):
            self.noticed[key] = self.noticed.get(key, 0) + 1
            _name(self.noticed_names.setdefault(key, []), document)

    def check(self) -> None:
        """Refuse data in which nothing can be predicted."""
        if self.documents == 0:
            raise DataError("there are no documents", hint="check the data that was given")
        if self.scored == 0:
            raise DataError(
                f"none of the {self.documents} documents has anything to predict ({self.unscored_names[0]}, …)",
                hint="a document needs two tokens at least, the beginning-of-text token included"
                if set(self.shapes) <= {"text"}
                else "look at what is scored: labels that are not -100, assistant turns without a weight of 0",
            )

    def facts(self) -> dict[str, Any]:
        return dict(vars(self))


def _name(names: list[str], document: Document) -> None:
    if len(names) < NAMED:
        names.append(document.name)
