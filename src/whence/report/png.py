"""Pixels as PNG inside a ``data:`` address: eight bits a colour, no filter, so that nothing but zlib is needed.

Source: W3C, Portable Network Graphics specification, sections 5 and 11.
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of pixels ``[h w]`` (grey) or ``[h w 3]`` (red, green, blue).

    Raises:
        ValueError: If they have another shape, or hold no pixel.
    """
    if pixels.dtype != np.uint8 or pixels.size == 0 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)):
        raise ValueError(f"pixels {pixels.shape} of {pixels.dtype}; grey is [h w] and colour [h w 3], of bytes")
    height, width = pixels.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # 0: no filter
    parts = [_chunk(b"IHDR", head), _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """The same as an address that a page can show without asking anyone."""
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
