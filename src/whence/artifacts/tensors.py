"""Tensors on disk: safetensors, written whole or not at all."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from whence.artifacts.atomic import written
from whence.errors import ArtifactError

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def save_tensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to one file, which then is whole, or absent.

    Args:
        metadata: Short texts to keep in the file's header.

    Raises:
        StorageError: If the disk refuses; files written earlier are kept.
    """
    ready: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        own = _own(tensor)
        ready[name] = own.clone() if own.data_ptr() in seen else own  # one tensor under two names
        seen.add(own.data_ptr())
    with written(path) as beside:
        try:
            save_file(ready, beside, metadata=dict(metadata or {}))
        except SafetensorError as error:  # the writer is Rust's: the number of the system's error is in its text
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error


def load_tensors(path: Path | str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Every tensor of a file.

    Raises:
        ArtifactError: If the file is missing, cut short, or not safetensors.
    """
    with open_tensors(path, device) as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}


@contextmanager
def open_tensors(path: Path | str, device: torch.device | str = "cpu") -> Iterator[Any]:
    """A file to take tensors from one by one: ``keys()``, ``get_tensor(name)``, ``get_slice(name)``, ``metadata()``.

    Raises:
        ArtifactError: If the file is missing, cut short, or not safetensors.
    """
    try:
        file = safe_open(str(path), framework="pt", device=str(device))
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    with file as opened:
        try:
            yield opened
        except SafetensorError as error:
            raise _unreadable(path, error) from error


def map_tensors(path: Path | str) -> dict[str, NDArray[Any]]:
    """Every array of a file as a read-only view of the disk: nothing is read until it is looked at.

    Raises:
        ArtifactError: If the file is missing, cut short, or not safetensors.
    """
    with open_tensors(path):  # checks the header against the length
        pass
    raw = np.memmap(path, mode="r")
    size = int(raw[:8].view("<u8")[0])
    header = json.loads(raw[8 : 8 + size].tobytes())
    header.pop("__metadata__", None)
    body = raw[8 + size :]
    return {
        name: body[slice(*entry["data_offsets"])].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }


def _own(tensor: Tensor) -> Tensor:
    """The tensor alone in its memory, as the format wants it: no strides, no sharing."""
    tensor = tensor.detach().cpu().contiguous()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()


def _unreadable(path: Path | str, error: Exception) -> ArtifactError:
    if not Path(path).exists():
        return ArtifactError(f"{path} is missing", hint="run the command that makes it again")
    return ArtifactError(
        f"{path} is not a whole tensor file: {error}", hint="remove it and run the command that makes it again"
    )
