r"""Tokens as they are shown.

Training text is untrusted and arrives in any script, so nothing is shown as it came:

    surface   a tokenizer's own pieces  → text        "▁Once" → " Once",  "âĢĻ" → "’"
    visible   text                      → safe text   U+202E → ⟨U+202E⟩,  NUL → ⟨U+0000⟩: no character acts on the page
    display   tokens                    → pieces      bytes of one character joined on the token that begins it

A character whose bytes are spread over several tokens is drawn on the first of them; the others keep a mark of their
own, so that each token still has a place to show its value. Bytes that decode to nothing are drawn as ⟨E2⟩.
Undecodable bytes travel as surrogate escapes (PEP 383), which cannot be mistaken for text that spells ``<0xE2>``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

Style = Literal["sentencepiece", "byte_level", "wordpiece", "plain"]

CONTINUES = "·"
"""Drawn on a token that holds only later bytes of a character begun before it."""

_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")
_SPECIAL = re.compile(r"(<(s|/s|unk|pad|bos|eos|mask)>|<\|[^|<>\s]{1,40}\|>|\[(CLS|SEP|PAD|MASK|UNK|BOS|EOS)\])\Z")

# Characters that would change how the text around them is laid out or that no font shows: controls, direction
# overrides and isolates, line separators, zero-width spaces. Joiners stay: Persian and emoji need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Piece:
    """One token as drawn: its text, and what kind of token it is when that is not plain."""

    text: str
    kind: Literal["", "bytes", "special"] = ""
    raw: str = ""
    """What the token is when the text does not say it: ``E2 9C``."""

    @property
    def read(self) -> str:
        """What it adds to a text that is read as a whole: of a character's later bytes, nothing."""
        return "" if self.kind == "bytes" and self.text == CONTINUES else self.text


def visible(text: str) -> str:
    r"""Text in which nothing acts unseen; line breaks and tabs are kept.

    Example:
        >>> visible("a\u202eb\x00\n")
        'a⟨U+202E⟩b⟨U+0000⟩\n'
    """
    text = _UNSEEN.sub(_stand_in, text)
    return _SURROGATE.sub(lambda match: _byte_mark(ord(match[0])), text)


def display(tokens: Sequence[str]) -> list[Piece]:
    """The tokens as pieces, one each, in order.

    Example:
        >>> [piece.text for piece in display(["Hi", "<0xE2>", "<0x9C>", "<0x93>"])]
        ['Hi', '✓', '·', '·']
    """
    text = "".join(tokens)
    if not (_UNSEEN.search(text) or _SURROGATE.search(text) or "<0x" in text):  # as nearly all text is
        return [Piece(token, "special" if _is_special(token) else "") for token in tokens]
    pieces: list[Piece] = []
    start = 0
    while start < len(tokens):
        stop = start
        while stop < len(tokens) and _has_bytes(tokens[stop]):
            stop += 1
        if stop > start:
            pieces += _join_bytes(tokens[start:stop])
            start = stop
            continue
        token = tokens[start]
        pieces.append(Piece(visible(token), "special" if _is_special(token) else ""))
        start += 1
    return pieces


def vocabulary_style(vocabulary: Collection[str]) -> Style:
    """How a tokenizer writes its pieces, told from all of them (``tokenizer.get_vocab()``).

    Example:
        >>> vocabulary_style(["<s>", "▁the", "<0x0A>"])
        'sentencepiece'
    """
    if any("▁" in piece for piece in vocabulary):
        return "sentencepiece"
    if any(piece.startswith(("Ġ", "Ċ")) for piece in vocabulary):
        return "byte_level"
    return "wordpiece" if any(piece.startswith("##") for piece in vocabulary) else "plain"


def surface(pieces: Sequence[str], style: Style) -> list[str]:
    r"""What each of a tokenizer's pieces says, as text. Pieces of part of a character come as surrogate escapes.

    Example:
        >>> surface(["ĠParis", "âĢ", "Ļ"], "byte_level")
        [' Paris', '\udce2\udc80', '\udc99']
    """
    if style == "sentencepiece":
        return [piece.replace("▁", " ") for piece in pieces]
    if style == "wordpiece":
        return [piece[2:] if piece.startswith("##") else (" " if k else "") + piece for k, piece in enumerate(pieces)]
    if style == "byte_level":
        return [_from_byte_level(piece) for piece in pieces]
    return list(pieces)


def _stand_in(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match[0]):04X}⟩"


def _byte_mark(code: int) -> str:
    return f"⟨{code - 0xDC00:02X}⟩" if 0xDC80 <= code <= 0xDCFF else f"⟨U+{code:04X}⟩"


def _is_special(token: str) -> bool:
    return token[:1] in ("<", "[") and bool(_SPECIAL.match(token))


def _has_bytes(token: str) -> bool:
    return bool(_FALLBACK.match(token)) or any("\udc80" <= char <= "\udcff" for char in token)


def _to_bytes(token: str) -> bytes:
    match = _FALLBACK.match(token)
    if match:
        return bytes([int(match[1], 16)])
    return token.encode("utf-8", "surrogateescape")


def _join_bytes(tokens: Sequence[str]) -> list[Piece]:
    """Pieces of a run of tokens that hold bytes: each character on the token that its first byte belongs to."""
    chunks = [_to_bytes(token) for token in tokens]
    owner = [number for number, chunk in enumerate(chunks) for _ in chunk]
    texts = [""] * len(tokens)
    at = 0
    for char in b"".join(chunks).decode("utf-8", "surrogateescape"):
        texts[owner[at]] += char
        at += len(char.encode("utf-8", "surrogateescape"))
    return [
        Piece(visible(text) or CONTINUES, "bytes", chunk.hex(" ").upper())
        for text, chunk in zip(texts, chunks, strict=True)
    ]


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte, inverted: printable bytes are themselves, the others follow U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + k): byte for k, byte in enumerate(others)}


_BYTE_LEVEL = _byte_level_alphabet()


def _from_byte_level(piece: str) -> str:
    if not all(char in _BYTE_LEVEL for char in piece):
        return piece  # an added token, kept as text by the tokenizer
    return bytes(_BYTE_LEVEL[char] for char in piece).decode("utf-8", "surrogateescape")
