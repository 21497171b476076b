"""Texts with a class each: for classifiers of text.

messages = read_labelled("spam.tsv", text=1, label=0)
data = messages.data(lambda text: tokenizer(text)["input_ids"], batch_size=16)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from whence.data.cells import read_cells
from whence.data.rows import read_rows
from whence.data.spec import parse_spec
from whence.data.split import split
from whence.data.tabular import number_classes, refuse_unlabelled
from whence.data.tensors import TensorData
from whence.data.texts import take_text
from whence.errors import DataError, InvalidSetting


@dataclass(frozen=True)
class LabelledText:
    """Texts, the class number of each, and what the numbers stand for."""

    texts: tuple[str, ...]
    labels: Int64[Tensor, " n"]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    """Where each is: ``spam.tsv, line 12``."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int] | Tensor) -> LabelledText:
        """Some of them, in the order given; classes keep their numbers."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        texts, names = (tuple(every[row] for row in index.tolist()) for every in (self.texts, self.names))
        return replace(self, texts=texts, labels=self.labels[index], names=names)

    def split(self, shares: Sequence[float], seed: int) -> tuple[LabelledText, ...]:
        """Disjoint parts, as `data.split.split` draws them."""
        return tuple(self.take(rows) for rows in split(len(self), shares, seed))

    def data(
        self,
        tokenize: Callable[[str], Sequence[int]],
        *,
        longest: int | None = None,
        padding: int = 0,
        batch_size: int = 32,
    ) -> TensorData:
        """Token ids ``[n t]``, padded on the right, with their classes.

        Args:
            tokenize: Text → ids, special tokens included.
            longest: Texts of more tokens are cut there; None keeps all of every text.
            padding: What padding holds; ``Batch.real`` says where it is.

        Raises:
            DataError: If a text has no tokens.
        """
        rows = [list(tokenize(text))[:longest] for text in self.texts]
        for row, name in zip(rows, self.names, strict=True):
            if not row:
                raise DataError(f"{name} has no tokens", hint="remove the row, or write what it should say")
        width = max(map(len, rows))
        ids = torch.tensor([row + [padding] * (width - len(row)) for row in rows])
        real = torch.arange(width)[None] < torch.tensor([len(row) for row in rows])[:, None]
        return TensorData(ids, self.labels, batch_size=batch_size, real=real, names=self.names)


def read_labelled(path: Path | str, *, text: str | int = "text", label: str | int = "label") -> LabelledText:
    """Read labelled texts from ``.csv``, ``.tsv``, JSON lines or Parquet.

    Args:
        text: The column or field that holds the text. A number, from 0, is for cells without a header.
        label: The one that holds the class, named in the same way.

    Raises:
        DataError: If a row lacks its text or its label, or either is empty, naming file and line.
    """
    if isinstance(text, str) != isinstance(label, str):
        raise InvalidSetting(f"text={text!r} and label={label!r}", hint="tell both by name, or both by number")
    if Path(path).name.lower().removesuffix(".gz").endswith((".csv", ".tsv")):
        cells = read_cells(path, header=isinstance(text, str))
        places = cells.column(text), cells.column(label)
        texts, labels = ([row[place] for row in cells.rows] for place in places)
        names = [cells.name(row) for row in range(len(cells.rows))]
    else:
        texts, labels, names = [], [], []
        for row in read_rows(parse_spec(path)):
            texts.append(take_text(row, str(text)))
            given = row.fields.get(str(label))
            labels.append("" if given is None else str(given))
            names.append(row.name)
        if not texts:
            raise DataError(f"{path} holds no texts", hint='write one {"text": "…", "label": "…"} a line')
    refuse_unlabelled(labels, names.__getitem__, f"{path}: column {label!r}")
    for name, said in zip(names, texts, strict=True):
        if not said.strip():
            raise DataError(
                f"{name} has no text: column {text!r} is empty", hint="write what it should say, or remove the row"
            )
    classes, numbers = number_classes(labels)
    return LabelledText(tuple(texts), numbers, classes, tuple(names))
