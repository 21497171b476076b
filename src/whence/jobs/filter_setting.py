"""Which documents a question is scored on, as one word of the settings: ``tfidf:10000``, ``bm25:1000``, ``none``."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from whence.errors import InvalidSetting

NONE = "none"
KEPT = 10_000
"""Documents kept where a filter's name stands alone, as Grosse et al. 2023 did."""
CONTROL = 256
"""Documents drawn from all, and scored whatever a filter says of them, to estimate what it lost."""
BIAS = "favours documents that repeat the question's words; influential ones in other words are lost"
"""To be said wherever a filter is used."""
# As in `data.filters.FILTERS`, which takes a moment to import and is not needed to read a setting.
_CALLED = {"tfidf": "TF-IDF", "bm25": "BM25"}


@dataclass(frozen=True, slots=True)
class FilterSetting:
    """A filter, and how many documents it keeps for each question."""

    name: str
    count: int = KEPT

    @classmethod
    def parse(cls, text: str) -> FilterSetting | None:
        """What a setting says; None where nothing is to be filtered.

        Raises:
            InvalidSetting: If there is no such filter, or it would keep nothing.

        Example:
            >>> FilterSetting.parse("bm25:1000"), FilterSetting.parse("tfidf").count, FilterSetting.parse("none")
            (FilterSetting(name='bm25', count=1000), 10000, None)
        """
        name, colon, count = text.partition(":")
        if text == NONE:
            return None
        if name not in _CALLED:
            near = difflib.get_close_matches(name.lower().replace("-", ""), [*_CALLED, NONE], n=1, cutoff=0.5)
            hint = f'did you mean "{near[0]}"?' if near else f"filters are: {', '.join(_CALLED)}, or none"
            raise InvalidSetting(f'no filter is called "{name}"', hint=hint)
        if not colon:
            return cls(name)
        if not re.fullmatch(r"[0-9]+", count) or int(count) < 1:
            raise InvalidSetting(
                f"filter = {text} must say how many documents to keep, at least 1",
                hint=f"{name}:1000 keeps 1,000 for each question; {name} alone keeps {KEPT:,}",
            )
        return cls(name, int(count))

    @property
    def title(self) -> str:
        """The filter as a person would name it."""
        return _CALLED[self.name]

    @property
    def called(self) -> str:
        """What it keeps: TF-IDF's first 10,000."""
        return f"{self.title}'s first {self.count:,}"

    def most(self, documents: int, questions: int) -> int:
        """Documents that a pass reads at most: those of every question, and the control sample."""
        return min(documents, self.count * questions + CONTROL)

    def __str__(self) -> str:
        return f"{self.name}:{self.count}"
