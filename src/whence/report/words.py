"""Text as words, for what documents and questions have in common: verbatim runs, near-copies, scripts.

A word is a run of letters and digits; a sign of a script that is written without spaces is a word by itself. Words are
compared without regard to case. Tokens stay in sight: every word knows which of them it lies in.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from whence.report.pieces import display

_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana and Han."""
_WORD = re.compile(rf"[{_SPACELESS}]|(?:(?![{_SPACELESS}])[^\W_])(?:(?![{_SPACELESS}])[^\W_]|[\u0300-\u036f'’])*")


@dataclass(frozen=True, slots=True)
class Word:
    """One word, and the tokens it lies in: from ``start``, up to but not including ``stop``."""

    text: str
    """Without regard to case."""
    start: int
    stop: int


def words_of(tokens: Sequence[str]) -> list[Word]:
    """The words of a text that is given as the surface of its tokens; special tokens are none.

    Example:
        >>> [(word.text, word.start, word.stop) for word in words_of(["<s>", "The", " sw", "eet", " 东京"])]
        [('the', 1, 2), ('sweet', 2, 4), ('东', 4, 5), ('京', 4, 5)]
    """
    text, owner = "", list[int]()
    for number, piece in enumerate(display(tokens)):
        said = " " if piece.kind == "special" else piece.read
        text += said
        owner += [number] * len(said)
    return [
        Word(match[0].casefold(), owner[match.start()], owner[match.end() - 1] + 1) for match in _WORD.finditer(text)
    ]


_NAMES = {"CJK": "Chinese", "HANGUL": "Korean", "HIRAGANA": "Japanese", "KATAKANA": "Japanese"}
_OF_SCRIPT = 0.1
"""Share of kana that makes a text with Han characters Japanese."""


def script_of(text: str) -> str:
    """The script that most letters are of, as a language where a script has one.

    Example:
        >>> script_of("Where is it?"), script_of("東京は日本の首都"), script_of("北京是首都"), script_of("42!")
        ('Latin', 'Japanese', 'Chinese', 'none')
    """
    counts = Counter(_script(char) for char in text if char.isalpha())
    if not counts:
        return "none"
    if counts["Japanese"] > _OF_SCRIPT * counts.total():
        return "Japanese"
    return max(counts, key=lambda name: (counts[name], name))


@lru_cache(maxsize=65536)
def _script(char: str) -> str:
    first = unicodedata.name(char, "other letters").split()[0].split("-")[0]
    return _NAMES.get(first, first.capitalize())
