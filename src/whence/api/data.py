"""What a person has, as data: rows in a list, a data set of ``datasets``, a torch data set or loader, tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from whence.data.documents import Document, to_document
from whence.data.memory import TokenData
from whence.data.rows import Row
from whence.data.store import encoded_documents
from whence.data.tensors import TensorData
from whence.errors import DataError, InvalidSetting
from whence.models.hf import context_length
from whence.types import Data

BATCH_SIZE = 32
"""Examples a batch, of data that say nothing of it."""
BATCH_TOKENS = 8192
"""Padded tokens a batch, likewise."""
_SHAPES = (
    'a list of texts or of rows like {"text": …}, a data set of `datasets`, a torch Dataset or DataLoader of '
    "(input, target) pairs, a pair of tensors, or anything with the methods of `whence.types.Data`"
)


def as_data(
    data: Any,
    *,
    tokenizer: Any = None,
    model: nn.Module | None = None,
    context: int | None = None,
    batch_size: int | None = None,
) -> Data:
    """Training examples in any of the usual forms, as `Data`: held in memory, in their order.

    `fit`, `score` and the others do this themselves. Do it once where the same data serve several of them.

    Args:
        data: Texts, rows, a data set or loader, a pair of tensors. Of a loader its data set is read, in order, whatever
            it shuffles. An item is read once: what a data set augments at random is taken as it came.
        tokenizer: For rows of text. Rows of ``input_ids`` need none.
        model: Whose context that is.
        context: Tokens a sequence may have; a longer row becomes several, whose scores add up to its own. Default:
            the model's own.
        batch_size: Examples a batch, where they are no token sequences; the loader's own, else 32.

    Raises:
        DataError: If an item cannot be used, with its number.
        InvalidSetting: If rows are text and there is no tokenizer.
    """
    if _is_data(data):
        return data
    if isinstance(data, DataLoader):
        batch_size = batch_size or data.batch_size
        if isinstance(data.dataset, torch.utils.data.IterableDataset):
            return as_data(list(data.dataset), tokenizer=tokenizer, model=model, context=context, batch_size=batch_size)
        data = data.dataset
    batch_size = batch_size or BATCH_SIZE
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, tuple) and all(isinstance(part, Tensor) for part in data):
        return _of_tensors(data, batch_size)
    items = _items(data)
    first = next(items, None)
    if first is None:
        raise DataError("there is nothing to read in the data", hint=f"give it {_SHAPES}")
    items = chain([first], items)
    if isinstance(first, str | Mapping):
        return token_data(items, tokenizer, context or context_length(model))
    if isinstance(first, tuple | list) and len(first) == 2:
        return _of_pairs(items, batch_size)
    raise DataError(f"an item of the data is {_kind(first)}, which cannot be read", hint=f"give it {_SHAPES}")


def token_data(rows: Iterable[str | Mapping[str, Any]], tokenizer: Any, context: int) -> TokenData:
    """Rows as token sequences: of any shape that `whence.data.shapes` tells apart.

    Raises:
        DataError: If a row cannot be used; it is named as it is found, ``data[3]``.
        InvalidSetting: If they are text and there is no tokenizer.
    """
    documents = (_document(row, number, tokenizer) for number, row in enumerate(rows))
    return TokenData(encoded.pieces for _, encoded in encoded_documents(documents, tokenizer, context))


def _document(row: str | Mapping[str, Any], number: int, tokenizer: Any) -> Document:
    fields = {"text": row} if isinstance(row, str) else {name: _plain(value) for name, value in row.items()}
    document = to_document(Row(f"data[{number}]", -1, fields), {})
    if tokenizer is None and document.tokens is None:
        raise InvalidSetting("the rows are text, and there is no tokenizer", hint="pass tokenizer=…")
    return document


def _plain(value: Any) -> Any:
    """Arrays as lists: a data set may hand out either."""
    return value.tolist() if isinstance(value, Tensor | np.ndarray) else value


def _is_data(data: Any) -> bool:
    """By its methods; `isinstance` would compute its fingerprint."""
    return all(hasattr(type(data), name) for name in ("batches", "gather", "name"))


def _items(data: Any) -> Iterator[Any]:
    """Item by item, by number where they have numbers: an old-style data set ends with an error of ours otherwise."""
    if isinstance(data, str | bytes | Mapping | Tensor | nn.Module):
        raise DataError(
            f"{_kind(data)} is not data",
            hint="a file is read by `whence.run`; here, give " + _SHAPES,
        )
    if isinstance(data, Sequence) or (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        return (data[number] for number in range(len(data)))
    if isinstance(data, Iterable):
        return iter(data)
    raise DataError(f"{_kind(data)} is not data", hint=f"give it {_SHAPES}")


def _of_tensors(tensors: tuple[Tensor, ...], batch_size: int) -> TensorData:
    if len(tensors) != 2:
        raise DataError(
            f"{len(tensors)} tensors cannot be read as inputs and targets",
            hint="give two; a model of several inputs can take them stacked into one and apart again",
        )
    return TensorData(*tensors, batch_size=batch_size)


def _of_pairs(items: Iterator[Any], batch_size: int) -> TensorData:
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    for number, item in enumerate(items):
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"item {number} of the data is {_kind(item)}, not a pair", hint="give (input, target)")
        for part, into in zip(item, (inputs, targets), strict=True):
            try:
                into.append(torch.as_tensor(part))
            except (TypeError, ValueError, RuntimeError) as error:
                raise DataError(
                    f"item {number} of the data holds {_kind(part)}, which is no tensor", hint="transform it into one"
                ) from error
            if into[-1].shape != into[0].shape:
                shapes = f"{tuple(into[-1].shape)}, and those before {tuple(into[0].shape)}"
                raise DataError(f"item {number} of the data has the shape {shapes}", hint="bring them to one shape")
    return TensorData(torch.stack(inputs), torch.stack(targets), batch_size=batch_size)


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
