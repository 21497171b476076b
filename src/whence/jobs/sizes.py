"""Sizes of memory and of files, as people write and read them."""

from __future__ import annotations

import re

from whence.errors import InvalidSetting

_UNITS = {
    "": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "t": 1000**4,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def bytes_of(text: str) -> int:
    """A size in bytes: GB are powers of ten, GiB of two.

    Raises:
        InvalidSetting: If it is none, or not positive.

    Example:
        >>> bytes_of("16GB"), bytes_of("1.5 GiB"), bytes_of("64M")
        (16000000000, 1610612736, 64000000)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", text.lower())
    size = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if size < 1:
        raise InvalidSetting(f'"{text}" is no size of memory', hint="write 16GB, or 16GiB for powers of two")
    return size


def said(number: float, like: str | None = None) -> str:
    """Three digits and a unit: of the kind that a person used, and powers of two where nobody named a size.

    Args:
        like: The size that was asked for, as it was written.

    Example:
        >>> said(1610612736), said(954e6, "1GB"), said(954e6, "1GiB")
        ('1.5 GiB', '954 MB', '910 MiB')
    """
    base, letters = (1024, "iB") if like is None or "i" in like.lower() else (1000, "B")
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "K" if base == 1024 else "k")):
        if number >= base**power:
            return f"{_digits(number / base**power)} {letter}{letters}"
    return f"{number:.0f} B"


def _digits(number: float) -> str:
    """Three digits, and no power of ten: 1,010 MiB lie below a GiB."""
    return f"{number:.3g}" if number < 999.5 else f"{number:.0f}"
