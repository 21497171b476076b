"""Row 1: what lies on disk. A folder with a manifest; written beside and renamed, so present means whole."""

from whence.artifacts.folder import claim, finished, mark_finished, verify
from whence.artifacts.manifest import Manifest, require
from whence.artifacts.tensors import load_tensors, map_tensors, open_tensors, save_tensors
from whence.artifacts.tree import TreeSum

__all__ = [
    "Manifest",
    "TreeSum",
    "claim",
    "finished",
    "load_tensors",
    "map_tensors",
    "mark_finished",
    "open_tensors",
    "require",
    "save_tensors",
    "verify",
]
