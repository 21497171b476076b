"""Row 2: text as documents, documents as token sequences, sequences as batches of fixed work units.

Tables, labelled texts and pictures lie in memory as tensors and are batched in the same way.
"""

from whence.data.batches import Piece, collate
from whence.data.documents import Document, read_documents
from whence.data.encode import encode
from whence.data.images import ImageData, idx_images, image_folder
from whence.data.labelled import LabelledText, read_labelled
from whence.data.plan import Plan, make_plan
from whence.data.queries import Part, Query, QueryBatch, ask, encode_queries, encode_query, read_queries
from whence.data.spec import Spec, parse_spec
from whence.data.split import split
from whence.data.standards import Standards
from whence.data.store import TokenStore
from whence.data.tabular import Table, read_table
from whence.data.tensors import TensorData

__all__ = [
    "Document",
    "ImageData",
    "LabelledText",
    "Part",
    "Piece",
    "Plan",
    "Query",
    "QueryBatch",
    "Spec",
    "Standards",
    "Table",
    "TensorData",
    "TokenStore",
    "ask",
    "collate",
    "encode",
    "encode_queries",
    "encode_query",
    "idx_images",
    "image_folder",
    "make_plan",
    "parse_spec",
    "read_documents",
    "read_labelled",
    "read_queries",
    "read_table",
    "split",
]
