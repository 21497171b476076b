"""How far a run is, from its folder alone: each stage, what of it is there, and in numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whence.artifacts.folder import finished
from whence.artifacts.manifest import Manifest
from whence.artifacts.tree import TreeSum
from whence.counted import counted
from whence.data.store import TokenStore
from whence.jobs.prepare import FOLDER as DATA

_SUM = re.compile(r"(.+)-\d{6}-\d{6}\.safetensors")
_PART = "part-*.safetensors"


@dataclass(frozen=True, slots=True)
class Done:
    """One stage of a run."""

    stage: str
    finished: bool
    says: str


def state_of(folder: Path) -> list[Done]:
    """Every stage that was begun, in the order of a run."""
    if not finished(folder / DATA):
        begun = (folder / DATA / "manifest.json").exists()
        return [Done("data", False, "begun, not finished" if begun else "not begun")]
    store = TokenStore.open(folder / DATA)
    units = len(store.units)
    counts = (store.documents, "document"), (store.sequences, "sequence"), (store.facts["tokens"], "token")
    says = ", ".join(counted(*one) for one in counts)
    return [
        Done("data", True, f"{says}, {counted(units, 'work unit')}"),
        _curvature(folder / "curvature", units),
        *(_queries(path) for path in _begun(folder / "queries")),
        *(_parts("scores", path, units) for path in _begun(folder / "scores") if "-rescored-" not in path.name),
        *(_parts("self-influence", path, units) for path in _begun(folder / "self")),
        _report(folder / "report.html"),
    ]


def _curvature(folder: Path, units: int) -> Done:
    if finished(folder):
        manifest = Manifest.read(folder)
        counts: dict[str, Any] = manifest.facts["counts"]
        seen = f", fitted on {counted(counts['sequences'], 'sequence')}" if "sequences" in counts else ""
        return Done(
            "curvature", True, f"{manifest.facts['name']} of {counted(len(manifest.facts['reads']), 'layer')}{seen}"
        )
    if not (folder / "manifest.json").exists():
        return Done("curvature", False, "not begun")
    names = dict.fromkeys(m[1] for path in sorted((folder / "parts").glob("*")) if (m := _SUM.fullmatch(path.name)))
    counts = {name: units - sum(map(len, TreeSum(folder / "parts", name, units).missing())) for name in names}
    done = ", ".join(f"{name} {count} of {counted(units, 'unit')}" for name, count in counts.items())
    return Done("curvature", False, done or f"begun, none of {counted(units, 'unit')} done")


def _queries(folder: Path) -> Done:
    count = Manifest.read(folder).facts.get("queries")
    return Done(f"queries {folder.name}", finished(folder), "begun" if count is None else counted(count, "question"))


def _parts(stage: str, folder: Path, units: int) -> Done:
    done = len(list(folder.glob(_PART)))
    return Done(f"{stage} {folder.name}", finished(folder), f"{done} of {counted(units, 'unit')}")


def _report(path: Path) -> Done:
    return Done("report", path.exists(), path.name if path.exists() else "not written")


def _begun(folder: Path) -> list[Path]:
    """Folders of questions or scores, as they were begun."""
    return sorted((p.parent for p in folder.glob("*/manifest.json")), key=lambda p: p.stat().st_ctime_ns)
