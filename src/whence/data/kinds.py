"""Which files are read, told by the end of their name; what they were packed with comes last of it."""

from __future__ import annotations

from pathlib import Path

TEXTS = (".txt", ".md")
ORDER: tuple[tuple[str, ...], ...] = ((".jsonl", ".parquet", ".arrow"), (".json", ".csv", ".tsv"), TEXTS)
"""Of a folder, the first of these that it holds: beside tables, a README or a settings file is not training data."""
PACKED = (".gz", ".zst")
"""What any kind but Parquet and Arrow may be packed with."""

_WHOLE = (".parquet", ".arrow")
KINDS = tuple(kind for kinds in ORDER for kind in kinds)
READS = f"whence reads {', '.join(KINDS)}, all but two of them packed with gzip or zstd too, and folders of them"


def kind_of(path: Path) -> str | None:
    """``.jsonl``, ``.parquet``, ``.txt``, …; None for what is not read.

    Example:
        >>> kind_of(Path("a/Train.JSONL.gz")), kind_of(Path("a.parquet.gz")), kind_of(Path("model.bin"))
        ('.jsonl', None, None)
    """
    name = path.name.lower()
    packed = next((end for end in PACKED if name.endswith(end)), "")
    kind = next((kind for kind in KINDS if name.removesuffix(packed).endswith(kind)), None)
    return None if packed and kind in _WHOLE else kind


def told_by_row(source: str) -> str:
    """How a row of a file is counted: ``line`` or ``row``, or nothing where the file is one row."""
    kind = kind_of(Path(source))
    if kind in TEXTS:
        return ""
    return "line" if kind in (".jsonl", ".csv", ".tsv") or kind is None else "row"
