"""Both ends of every question's ranking, scored again at full rank in float32 and kept beside the scores.

Where queries were cut to a rank or the pass ran in half precision, its numbers choose candidates. Each question then
meets its own again, until the documents that are shown, at either end, are ranked by what is shown of them. The
result is a number a document, from which every view is made: the terminal, JSON, tables and the report.

    scores/<questions>-rescored-<top>/question-00000.safetensors    document, raw [d]
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from whence.artifacts.folder import claim, mark_finished
from whence.artifacts.manifest import Manifest
from whence.artifacts.tensors import load_tensors, save_tensors
from whence.counted import counted
from whence.errors import NumericalError
from whence.influence.topk import TopK
from whence.jobs.explain import RESCORED, full_rank_query, in_float32, rescore
from whence.jobs.progress import count_units, together
from whence.jobs.score import HINT

if TYPE_CHECKING:
    from whence.jobs.session import Session

SCHEMA = 1


@dataclass(frozen=True)
class Rescored:
    """Raw influence of every document on every question, ``[q documents]``, its ends at full rank."""

    raw: NDArray[np.float64]
    """NaN where a filter left a document out: it was not scored, which is not a score of 0."""
    again: NDArray[np.bool_]
    """Which were scored again."""

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which documents a question is ranked on, ``[q documents]``; all of them without a filter."""
        return ~np.isnan(self.raw)


def rescored(session: Session, first: NDArray[np.float64]) -> Rescored:
    """The numbers that are shown: computed once, by all processes together, a question at a time, and kept.

    Args:
        first: The first pass, ``[q documents]``. Returned as it is where it was at full rank and not in half precision.

    Raises:
        NumericalError: If a score is NaN or inf; names the document.
        ArtifactMismatch: If the folder holds those of other scores.
    """
    raw, again = first.copy(), np.zeros(first.shape, dtype=bool)
    if not ends_again(session.queries.rank, getattr(torch, session.settings.dtype), session.settings.top):
        return Rescored(raw, again)
    files = _files(session, first)
    for row, path in enumerate(files):
        known = load_tensors(path)
        raw[row, known["document"]] = known["raw"]
        again[row, known["document"]] = True
    return Rescored(raw, again)


def folder_name(session: Session) -> str:
    """Of the files of one set of questions, as many shown."""
    return f"{session.asked}-rescored-{session.settings.top}"


def ends_again(rank: int | None, dtype: torch.dtype, top: int) -> int:
    """How many documents at each end are scored again at the least; 0 after a pass at full rank and full precision."""
    return 0 if rank is None and dtype in (torch.float32, torch.float64) else max(RESCORED, top)


def _files(session: Session, first: NDArray[np.float64]) -> list[Path]:
    """A file for each question; those that are missing are computed."""
    top, world = session.settings.top, session.world
    folder = session.folder / "scores" / folder_name(session)
    sources = {
        **session.sources,
        "curvature": session.curvature.fingerprint,
        "queries": session.queries.fingerprint,
    }
    together(world, lambda: claim(folder, Manifest("rescored", SCHEMA, {"top": top, "ends": RESCORED}, sources)))
    files = [folder / f"question-{row:05d}.safetensors" for row in range(len(first))]
    mine = world.shard(len(files))
    missing = [row for row in mine if not files[row].exists()]
    advance = count_units(session.log, "rescore", len(mine), done=len(mine) - len(missing))
    with in_float32(session.model) if missing else nullcontext():
        for row in missing:
            exact = _ends(session, row, first[row], top)
            documents = sorted(exact)
            values = torch.tensor([exact[document] for document in documents], dtype=torch.float64)
            save_tensors(files[row], {"document": torch.tensor(documents), "raw": values})
            advance(row)
    world.barrier()
    if world.main:
        mark_finished(folder, [path.name for path in files])
    if missing:
        session.log.note(_note(first, files, session.settings.dtype))
    world.barrier()
    return files


def _ends(session: Session, row: int, first: NDArray[np.float64], top: int) -> dict[int, float]:
    """Document → its full-rank score, for all that are among the ``top`` of either end by these very scores."""
    full = full_rank_query(session.curvature, session.model, session.parts_of(row), session.task)
    raw, exact = first.copy(), dict[int, float]()
    while not all(document in exact for document in _both(raw, top)):
        new = [document for document in _both(raw, max(RESCORED, top)) if document not in exact]
        exact |= rescore(session.curvature, session.model, full, session.store, new, session.task)
        raw[new] = [exact[document] for document in new]
        if not np.isfinite(raw[new]).all():
            bad = next(document for document in new if not np.isfinite(exact[document]))
            name = session.store.name(session.store.sequences_of(bad)[0])
            raise NumericalError(f"the score of {name}, scored again at full rank, is NaN or inf", hint=HINT)
    return exact


def _both(raw: NDArray[np.float64], k: int) -> list[int]:
    ends = TopK.of(raw, k)
    return [int(document) for document in dict.fromkeys([*ends.highest, *ends.lowest])]


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Pearson's r; NaN where it says nothing: under three documents, or all alike."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _note(first: NDArray[np.float64], files: Sequence[Path], dtype: str) -> str:
    """How many were scored again, whoever did it, and how well the first pass had foretold the result."""
    count, agreements = 0, []
    for before, path in zip(first, files, strict=True):
        known = load_tensors(path)
        count += len(known["document"])
        agreements.append(_correlation(before[known["document"]], known["raw"].numpy()))
    least = min((r for r in agreements if np.isfinite(r)), default=None)
    agreement = "" if least is None else f": r = {least:.4f} with the first pass"
    among = f", the least of {len(files)} questions" if least is not None and len(files) > 1 else ""
    kind = "float64" if dtype == "float64" else "float32"
    return f"rescored {counted(count, 'document')} at full rank in {kind}{agreement}{among}"
