"""A training set small enough to be trained on many times: all of it as one batch in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional

from whence.artifacts.fingerprint import tensors_fingerprint
from whence.errors import InvalidSetting
from whence.types import TENSORS, Batch, Data


def collect(data: Data, sequences: Sequence[int] | None = None) -> Batch:
    """Every sequence of the data in the order of their numbers, or the chosen ones in the order given.

    Sequences are padded on the right to the longest; `rows` cuts that off again.
    """
    if sequences is None:
        parts = [batch for unit in data.units for batch in data.batches(unit.number)]
        sequences = range(data.sequences)
    else:
        parts = list(data.gather(sequences))
    if any(batch.layout is not None and batch.layout.position is None for batch in parts):
        raise InvalidSetting(
            "documents that run together in windows cannot be trained on one by one",
            hint='validate a run whose data are not packed in windows (pack = "none")',
        )
    width = max(batch.real.shape[1] for batch in parts)
    padded = [_padded(batch, width) for batch in parts]
    whole = Batch.of(*(torch.cat([getattr(batch, name) for batch in padded]) for name in TENSORS))
    place = {number: row for row, number in enumerate(whole.ids.tolist())}
    return _take(whole, torch.tensor([place[int(number)] for number in sequences], device=whole.ids.device))


def rows(examples: Batch, chosen: Int64[Tensor, " m"]) -> Batch:
    """Some examples as a batch, as wide as the longest of them."""
    batch = _take(examples, chosen.to(examples.ids.device))
    width = int(batch.real.sum(1).max())
    if width == batch.real.shape[1]:
        return batch
    return _changed(batch, lambda tensor: tensor[:, :width])


def content(examples: Batch) -> str:
    """A fingerprint of what is trained on, in its order; how it is cut into batches does not matter."""
    return tensors_fingerprint({name: getattr(examples, name) for name in ("inputs", "targets", "real", "scored")})


def _wide(batch: Batch) -> list[str]:
    """The fields of a batch of sequences that have positions, and so may be padded and cut."""
    shape = batch.real.shape
    tokens = not batch.targets.is_floating_point() and batch.targets.shape == shape  # else labels or values
    named = [name for name in ("inputs", *(["targets"] if tokens else [])) if getattr(batch, name).shape[:2] == shape]
    return [*named, "real", "scored"]


def _take(batch: Batch, chosen: Tensor) -> Batch:
    return batch.rows(chosen)


def _padded(batch: Batch, width: int) -> Batch:
    missing = width - batch.real.shape[1]
    if missing == 0:
        return batch
    return _changed(batch, lambda tensor: _pad(tensor, missing))


def _changed(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    wide = _wide(batch)
    return Batch.of(*(change(getattr(batch, name)) if name in wide else getattr(batch, name) for name in TENSORS))


def _pad(tensor: Tensor, missing: int) -> Tensor:
    return functional.pad(tensor, [0, 0] * (tensor.dim() - 2) + [0, missing])
