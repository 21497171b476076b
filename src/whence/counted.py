"""How many of a thing, in words."""

from __future__ import annotations


def counted(number: float, thing: str) -> str:
    """A number and its thing, in the plural unless the number reads as one.

    Args:
        number: A count, or an amount, which is written with three digits or whole.
        thing: In the singular.

    Example:
        >>> counted(1, "document"), counted(1200, "row"), counted(2, "class"), counted(0, "query")
        ('1 document', '1,200 rows', '2 classes', '0 queries')
        >>> counted(1.0, "product"), counted(75.41, "epoch"), counted(2208.7, "epoch")
        ('1 product', '75.4 epochs', '2,209 epochs')
    """
    text = f"{number:,}" if isinstance(number, int) else f"{number:.3g}" if abs(number) < 100 else f"{number:,.0f}"
    return f"{text} {thing if text == '1' else _plural(thing)}"


def _plural(thing: str) -> str:
    if thing.endswith("s"):
        return f"{thing}es"
    return f"{thing[:-1]}ies" if thing.endswith("y") and thing[-2] not in "aeiou" else f"{thing}s"
