"""Numbers as they are printed, and influences as levels of colour. `numbers.js` prints the same way."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

LEVELS = 8
"""Steps of colour on either side of zero."""

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def signed(value: float | None) -> str:
    """Three significant digits with a sign; powers of ten where plain digits would be long.

    Example:
        >>> signed(0.08312), signed(-0.0000321), signed(0.0), signed(None)
        ('+0.0831', '−3.21 × 10⁻⁵', '0', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    return ("+" if value > 0 else "") + plain(value)


def plain(value: float | None) -> str:
    """Three significant digits, with a sign only when below zero.

    Example:
        >>> plain(1234.5), plain(0.5), plain(2e-7)
        ('1230', '0.500', '2.00 × 10⁻⁷')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    minus = "−" if value < 0 else ""
    mantissa, power = f"{abs(value):.2e}".split("e")
    exponent = int(power)
    if -4 < exponent < 6:
        return minus + f"{float(f'{abs(value):.3g}'):.{max(0, 2 - exponent)}f}"
    return f"{minus}{mantissa} × 10{str(exponent).translate(_SUPERSCRIPT)}"


def short(value: float | None) -> str:
    """Two decimals, of a correlation or a small amount; where they would say nothing, what is left of it.

    Example:
        >>> short(0.5149), short(-0.3), short(0.0012), short(2e-7), short(None)
        ('0.51', '−0.30', '0.001', '2.00 × 10⁻⁷', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or 0.005 <= abs(value) < 100:
        return f"{value:.2f}".replace("-", "−")
    return f"{value:.1g}".replace("-", "−") if 1e-4 <= abs(value) < 0.005 else plain(value)


def count(value: int) -> str:
    """Whole numbers with thin spaces between thousands.

    Example:
        >>> count(1234567)
        '1\u202f234\u202f567'
    """
    return f"{value:,}".replace(",", "\u202f")


def percent(share: float) -> str:
    """A share, 0 to 1, in percent: more digits near both ends, never rounded up to the whole.

    Example:
        >>> percent(0.371), percent(0.99987), percent(1.0), percent(0.0004)
        ('37\u202f%', '99.99\u202f%', '100\u202f%', '0.04\u202f%')
    """
    if not math.isfinite(share):
        return "–"
    hundredths = share * 100
    near = min(hundredths, 100 - hundredths)
    digits = (
        0 if near == 0 or 10 <= hundredths <= 99 else 1 if near >= 1 else min(4, max(2, math.ceil(-math.log10(near))))
    )
    text = f"{hundredths:.{digits}f}"
    if float(text) >= 100 > hundredths:  # 99.999 99 is not all of it
        text = "> 99.9999"
    return text + "\u202f%"


def largest(values: Iterable[float]) -> float:
    """The largest magnitude among finite values; zero when there is none."""
    numbers = np.abs(np.fromiter(values, dtype=np.float64))
    return float(numbers.max(initial=0.0, where=np.isfinite(numbers)))


def level(value: float, top: float) -> int:
    """Colour of a value on a scale that ends at ``top``: −8 … 8, proportional to the value, 0 uncoloured.

    Example:
        >>> level(1.0, 1.0), level(-0.5, 1.0), level(0.01, 1.0)
        (8, -4, 0)
    """
    if not top or not math.isfinite(value):
        return 0
    return max(-LEVELS, min(LEVELS, math.floor(LEVELS * abs(value) / top + 0.5) * (1 if value > 0 else -1)))


def level_class(step: int) -> str:
    """The style sheet's name of a level: ``p5``, ``n3``, or nothing."""
    return f"p{step}" if step > 0 else f"n{-step}" if step < 0 else ""
