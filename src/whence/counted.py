"""How many of a thing, in words."""

from __future__ import annotations


def counted(number: float, thing: str, form: str = ",") -> str:
    """A number and its thing, in the plural unless the number reads as one.

    Args:
        thing: In the singular.
        form: How the number is written.

    Example:
        >>> counted(1, "document"), counted(1200, "row"), counted(2, "class"), counted(0, "query")
        ('1 document', '1,200 rows', '2 classes', '0 queries')
        >>> counted(1.0, "product", ".3g"), counted(75.41, "epoch", ".3g")
        ('1 product', '75.4 epochs')
    """
    text = format(number, form)
    return f"{text} {thing if text == '1' else _plural(thing)}"


def _plural(thing: str) -> str:
    if thing.endswith("s"):
        return f"{thing}es"
    return f"{thing[:-1]}ies" if thing.endswith("y") and thing[-2] not in "aeiou" else f"{thing}s"
