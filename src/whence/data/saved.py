"""What `Dataset.save_to_disk` and `DatasetDict.save_to_disk` leave: Arrow files, and a page that lists them.

    dataset_dict.json                     of several splits: their names, each a folder of the following
    state.json, dataset_info.json         which Arrow files are the data: others are caches of what was done to it

Rows are stored as they stood, selections and shuffles applied. The library is not needed to read them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from whence.errors import DataError

_DICT, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"


def is_saved(folder: Path) -> bool:
    """Whether a folder is a saved dataset, or several splits of one."""
    return (folder / _DICT).is_file() or ((folder / _STATE).is_file() and (folder / _INFO).is_file())


def files_of(folder: Path, split: str, place: str) -> list[Path]:
    """The Arrow files of a saved dataset, in order.

    Raises:
        DataError: If the split is not there, or none was named and there are several; or a file is missing.
    """
    if not (folder / _DICT).is_file():
        if split:
            raise DataError(
                f"{place} is a saved dataset without splits, so {split!r} is none of it", hint=f"write {place}"
            )
        return _of_one(folder)
    splits = [str(name) for name in _page(folder / _DICT).get("splits", [])]
    return _of_one(folder / chosen_split(splits, split, place))


def chosen_split(splits: list[str], split: str, place: str) -> str:
    """The split that is meant: the one named, or the only one.

    Raises:
        DataError: If that is none; the splits are listed.
    """
    if split in splits or (not split and len(splits) == 1):
        return split or splits[0]
    there = ", ".join(splits[:8]) or "none"
    if split:
        raise DataError(f"{place} has no split {split!r}", hint=f"there are: {there}")
    raise DataError(f"{place} has several splits: {there}", hint=f"name one: {place}#{(splits or ['train'])[0]}")


def _of_one(folder: Path) -> list[Path]:
    listed = _page(folder / _STATE).get("_data_files") or []
    files = [folder / str(entry["filename"]) for entry in listed if isinstance(entry, dict) and "filename" in entry]
    if not files:
        raise DataError(f"{folder} lists no data files in {_STATE}", hint="save the dataset again")
    for file in files:
        if not file.is_file():
            raise DataError(f"{file} is missing: {_STATE} lists it", hint="save or copy the dataset again")
    return files


def _page(path: Path) -> dict[str, Any]:
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="save the dataset again") from error
    return page if isinstance(page, dict) else {}
