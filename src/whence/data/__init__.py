"""Row 2: text as documents, documents as token sequences, sequences as batches of fixed work units."""

from whence.data.batches import Piece, collate
from whence.data.tensors import TensorData

__all__ = ["Piece", "TensorData", "collate"]
