"""Datasets of the hub by name, from this machine's caches. The only file that imports `datasets`.

Two caches may hold one: the library's, where `load_dataset` left Arrow files, and the hub's, where `hf download` left
the files of the repository. Nothing is asked of the network: what is not there is named, with the line that
fetches it. `load_dataset` itself is not called, as it takes the latest copy when another revision was asked for.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whence.data.kinds import kind_of
from whence.data.saved import chosen_split
from whence.errors import DataError


@dataclass(frozen=True, slots=True)
class Name:
    """``owner/name:config@revision``."""

    name: str
    config: str
    revision: str

    def __str__(self) -> str:
        return self.name + (f":{self.config}" if self.config else "") + (f"@{self.revision}" if self.revision else "")

    @property
    def fetch(self) -> str:
        """The line that puts it where it is looked for."""
        asked = [repr(self.name), *([repr(self.config)] if self.config else [])]
        asked += [f"revision={self.revision!r}"] if self.revision else []
        return f'python -c "import datasets; datasets.load_dataset({", ".join(asked)})"'


@dataclass(frozen=True, slots=True)
class Copy:
    """A dataset on this machine: its Arrow files, or the folder of its repository."""

    place: list[Path] | Path
    found: str


def parse_name(text: str) -> Name | None:
    """A name of the hub; None for what can only be a path.

    Example:
        >>> parse_name("owner/name:en@v1"), parse_name("data/x/train.jsonl"), parse_name("train.csv")
        (Name(name='owner/name', config='en', revision='v1'), None, None)
    """
    word = r"[A-Za-z0-9][\w.-]*"
    match = re.fullmatch(rf"({word}(?:/{word})?)(?::({word}))?(?:@([\w./-]+))?", text, re.ASCII)
    if match is None or kind_of(Path(match[1])) is not None:
        return None
    return Name(match[1], match[2] or "", match[3] or "")


def find(name: Name, split: str, *, missing: str, near: str | None) -> Copy:
    """The files of a dataset in the caches.

    Args:
        missing: What to say where there is none.
        near: A hint at files of nearly that name, if any.

    Raises:
        DataError: If the library is not installed, the dataset is not there, or there are several configurations,
            revisions or splits of it and none of them was named.
    """
    try:
        import datasets
    except ImportError as error:
        fetch = "a dataset of the hub is looked up with the `datasets` library: pip install 'whence[datasets]'"
        raise DataError(f"{missing}, and the `datasets` library is not installed", hint=near or fetch) from error
    from huggingface_hub.constants import HF_HUB_CACHE

    prepared = Path(datasets.config.HF_DATASETS_CACHE).expanduser()
    files = Path(HF_HUB_CACHE).expanduser() / f"datasets--{name.name.replace('/', '--')}"
    copy = _prepared(name, split, prepared, files) or _files(name, files)
    if copy is not None:
        return copy
    raise DataError(
        f"{missing}, and no dataset {name} in the caches {prepared} and {files.parent}",
        hint=near or f"fetch it where there is a network, nothing is downloaded here: {name.fetch}",
    )


def _prepared(name: Name, split: str, cache: Path, files: Path) -> Copy | None:
    """What `load_dataset` left: ``owner___name/config/version/commit/name-split.arrow``."""
    from datasets.naming import camelcase_to_snakecase, filenames_for_dataset_split

    *owner, last = name.name.split("/")
    short = camelcase_to_snakecase(last)
    root = cache / "___".join([*owner, short])
    copies = [p.parent for p in sorted(root.glob(f"{name.config or '*'}/*/*/dataset_info.json"))]
    if not copies:
        others = sorted({p.parts[-4] for p in root.glob("*/*/*/dataset_info.json")})
        if others and name.config:
            raise DataError(f"{name.name} has no configuration {name.config!r} in {root}", hint=_there(others))
        return None
    configs = sorted({copy.parts[-3] for copy in copies})
    if len(configs) > 1:
        raise DataError(
            f"{name.name} has several configurations: {', '.join(configs[:8])}",
            hint=f"name one: {name.name}:{configs[0]}",
        )
    folder = _of_revision(name, copies, files)
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    splits: dict[str, dict[str, Any]] = info.get("splits") or {}
    chosen = chosen_split(list(splits), split, str(name))
    shards = splits[chosen].get("shard_lengths")
    paths = filenames_for_dataset_split(str(folder), short, chosen, filetype_suffix="arrow", shard_lengths=shards)
    for path in map(Path, paths):
        if not path.is_file():
            raise DataError(f"{path} is missing from the cache of {name}", hint=f"fetch it again: {name.fetch}")
    return Copy([Path(path) for path in paths], f"{name.name}:{configs[0]} at commit {folder.name}")


def _files(name: Name, repository: Path) -> Copy | None:
    """What `hf download` left: the files of a commit as they lie in the repository."""
    copies = sorted(p for p in (repository / "snapshots").glob("*") if p.is_dir())
    if not copies:
        return None
    folder = _of_revision(name, copies, repository)
    return Copy(folder / name.config if name.config else folder, f"{name.name} at commit {folder.name}")


def _of_revision(name: Name, copies: list[Path], repository: Path) -> Path:
    """The copy of the commit that is meant: folders are called by their commit."""
    ref = repository / "refs" / (name.revision or "main")
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else name.revision
    chosen = [copy for copy in copies if commit and copy.name.startswith(commit)]
    if not chosen and not name.revision:
        chosen = copies
    if len(chosen) == 1:
        return chosen[0]
    commits = [copy.name for copy in copies]
    what = f"no revision {name.revision!r}" if name.revision and not chosen else "several revisions"
    raise DataError(f"{name.name} has {what} in the cache", hint=f"{_there(commits)}; or fetch it: {name.fetch}")


def _there(names: list[str]) -> str:
    return f"there are: {', '.join(names[:8])}"
