"""A folder that `datasets.load_from_disk` opens, written without the library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from whence.artifacts.fingerprint import text_fingerprint
from whence.jobs.export.data import FEATURE, Scored, with_features, with_scores

_INFO, _STATE = "dataset_info.json", "state.json"


def write_saved(files: Sequence[Path], folder: Path, scored: Scored) -> None:
    """Arrow files with the new columns, and the two pages that make them a saved dataset.

    Args:
        files: In order; a page beside them that describes the dataset is carried over.
        folder: Empty.
    """
    names = [f"data-{number:05d}-of-{len(files):05d}.arrow" for number in range(len(files))]
    for source, name in zip(files, names, strict=True):
        _copy(source, folder / name, scored)
    info, state = (_page(files[0].parent / page) for page in (_INFO, _STATE))
    if isinstance(info.get("features"), dict):
        info["features"] |= dict.fromkeys(scored.names, FEATURE)
    print_of = text_fingerprint(json.dumps([state.get("_fingerprint"), scored.names, scored.values.tobytes().hex()]))
    state |= {"_data_files": [{"filename": name} for name in names], "_fingerprint": print_of[:16]}
    state |= {"_format_columns": None, "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False}
    state.setdefault("_split", None)
    for page, content in ((_INFO, info), (_STATE, state)):
        (folder / page).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _copy(source: Path, out: Path, scored: Scored) -> None:
    with pa.memory_map(str(source)) as raw:
        packed_as_file = raw.read(6) == b"ARROW1"
        raw.seek(0)
        reader: Any = pa.ipc.open_file(raw) if packed_as_file else pa.ipc.open_stream(raw)
        scored.refuse_taken(dict.fromkeys(reader.schema.names), str(source))
        schema = with_features(reader.schema, scored.names)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if packed_as_file else reader
        with pa.OSFile(str(out), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in with_scores(source, batches, schema, scored):
                writer.write_batch(batch)


def _page(path: Path) -> dict[str, Any]:
    """A page beside the data; an empty one where there is none, as of files by themselves."""
    if not path.is_file():
        return {}
    page = json.loads(path.read_text(encoding="utf-8"))
    return page if isinstance(page, dict) else {}
