"""Names for content: two things with one fingerprint are the same thing. 16 hexadecimal digits of SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

DIGITS = 16


def model_fingerprint(module: nn.Module) -> str:
    """A hash of every tensor a checkpoint would hold, by name, dtype, shape and bytes, and of adapters' scales."""
    state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    for name, part in module.named_modules():
        scales = getattr(part, "scaling", None)  # PEFT's: by what a layer's factors are multiplied is no tensor
        if isinstance(scales, Mapping) and scales:
            state[f"{name}.scaling"] = torch.tensor([float(scale) for scale in scales.values()])
    return tensors_fingerprint(state)


def tensors_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A hash of named tensors, in the order of their names.

    Example:
        >>> a, b = torch.zeros(2), torch.ones(3)
        >>> tensors_fingerprint({"a": a, "b": b}) == tensors_fingerprint({"b": b, "a": a})
        True
        >>> tensors_fingerprint({"a": a}) == tensors_fingerprint({"a": a.double()})
        False
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:DIGITS]


def text_fingerprint(text: str) -> str:
    """A hash of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def settings_fingerprint(settings: Mapping[str, Any]) -> str:
    """A hash of settings that does not depend on their order.

    Example:
        >>> settings_fingerprint({"rank": 32, "damping": 0.1}) == settings_fingerprint({"damping": 0.1, "rank": 32})
        True
    """
    return text_fingerprint(canonical(settings))


def file_fingerprint(path: Path | str) -> str:
    """A hash of a file's bytes, read a megabyte at a time."""
    return file_checksum(path)[:DIGITS]


def file_checksum(path: Path | str) -> str:
    """The whole SHA-256 of a file, as ``sha256sum`` prints it."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """One JSON text for one value: keys sorted, no spaces, tuples as lists."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
