"""Influence added up: over the documents of a group, and over the layers of the network."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from pyarrow import parquet

from whence.data.table import NAME, PREFIX
from whence.errors import InvalidSetting
from whence.jobs.opened.shown import read_layers
from whence.jobs.views import View
from whence.report.notebook import Column, cell

if TYPE_CHECKING:
    from whence.data.store import TokenStore
    from whence.jobs.opened.run import Run

OWN = ("source", "hash")
"""Columns that every run can be grouped by, whatever its data hold."""


def group_view(run: Run, column: str, question: int) -> View:
    """Groups of documents that were scored, the one that raises the answer most first.

    ``per_copy`` of a group is the change in nats when one more copy of all its documents is trained on; ``mean`` is
    that of one of its documents, so that a large group and a small one can be compared.
    """
    raw = run.raw(question) / run.train_size
    scored = np.flatnonzero(~np.isnan(raw))
    keys, raw = column_of(run.store, column), raw[scored]
    names: dict[str, int] = {}
    of = np.array([names.setdefault(cell(keys[d], "word") if keys[d] is not None else "–", len(names)) for d in scored])
    counts = np.bincount(of, minlength=len(names))
    total, up = np.bincount(of, raw, len(names)), np.bincount(of, raw.clip(min=0), len(names))
    order = np.argsort(-total, kind="stable")
    label = list(names)
    rows = [
        {
            column: label[k],
            "documents": int(counts[k]),
            "per_copy": float(total[k]),
            "mean": float(total[k] / counts[k]),
            "share": float(up[k] / up.sum()) if up.sum() > 0 else 0.0,
        }
        for k in order
    ]
    columns = [
        Column(column, column, "text"),
        Column("documents", "documents", "count"),
        Column("per_copy", "nats per copy of all", "influence"),
        Column("mean", "mean of a document", "influence"),
        Column("share", "share of what raises", "share"),
    ]
    return View(f"By {column}: {run.said(question)}", columns, rows, value="per_copy")


def layer_view(run: Run, question: int) -> View:
    """Layers in the model's order; what raises and what lowers the answer are added up apart.

    Of all documents where their scores were kept by layer, else of those that the report shows, and the title says so.
    """
    run.answers.question(question)
    shown = None if "layer" in run.answers.by else read_layers(run.answers.folder, question)
    parts = (run.answers.by_layer(question, run.store) if shown is None else shown) / run.train_size
    parts = parts[:, ~np.isnan(parts).any(0)]
    of = "" if shown is None else f", of the {shown.shape[1]:,} documents that the report shows"
    size = np.abs(parts).sum()
    rows = [
        {
            "layer": name,
            "block": _block(name),
            "raises": float(part.clip(min=0).sum()),
            "lowers": float(part.clip(max=0).sum()),
            "share": float(np.abs(part).sum() / size) if size > 0 else 0.0,
        }
        for name, part in zip(run.answers.layers, parts, strict=True)
    ]
    columns = [
        Column("layer", "layer", "word"),
        Column("raises", f"raises, nats per copy of {'all' if shown is None else 'each'}", "influence"),
        Column("lowers", "lowers", "influence"),
        Column("share", "share of both", "share"),
    ]
    return View(f"By layer{of}: {run.said(question)}", columns, rows, value="share")


def column_of(store: TokenStore, column: str) -> list[Any]:
    """A value for each document: of a metadata field where the data have one of that name, else of our own columns.

    Raises:
        InvalidSetting: If there is no such column; names those there are.
    """
    path = store.folder / NAME
    names = parquet.read_schema(path).names
    fields = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    if column not in fields and column not in OWN:
        near = difflib.get_close_matches(column, [*fields, *OWN], n=1)
        raise InvalidSetting(
            f'the data have no column "{column}"',
            hint=f'did you mean "{near[0]}"?' if near else f"there are: {', '.join(dict.fromkeys([*fields, *OWN]))}",
        )
    stored = PREFIX + column if column in fields else column
    return list(parquet.read_table(path, columns=[stored])[stored].to_pylist())


def _block(layer: str) -> int | None:
    found = re.search(r"\.(\d+)\.", layer)
    return int(found[1]) if found else None
