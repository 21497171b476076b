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


def said(number: float) -> str:
    """Three digits and a unit.

    Example:
        >>> said(1610612736)
        '1.5 GiB'
    """
    for power, letter in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= power:
            return f"{number / power:.3g} {letter}"
    return f"{number:.0f} B"
