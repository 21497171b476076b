"""Row 2: text as documents, documents as token sequences, sequences as batches of fixed work units."""

from whence.data.batches import Piece, collate
from whence.data.documents import Document, read_documents
from whence.data.encode import encode
from whence.data.plan import Plan, make_plan
from whence.data.queries import Part, Query, QueryBatch, ask, encode_queries, encode_query, read_queries
from whence.data.spec import Spec, parse_spec
from whence.data.store import TokenStore
from whence.data.tensors import TensorData

__all__ = [
    "Document",
    "Part",
    "Piece",
    "Plan",
    "Query",
    "QueryBatch",
    "Spec",
    "TensorData",
    "TokenStore",
    "ask",
    "collate",
    "encode",
    "encode_queries",
    "encode_query",
    "make_plan",
    "parse_spec",
    "read_documents",
    "read_queries",
]
