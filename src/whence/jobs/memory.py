"""What was chosen to stay within a limit of memory: for a run once, and for all of its processes.

    RUN/memory.json     {"asked": …, "batch_tokens": …, "rank": …, "groups": [[layer, …], …]}

It is a record, and what an interrupted run goes on with: partial sums of other groups would be of no use to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whence.artifacts.atomic import write_text
from whence.artifacts.fingerprint import settings_fingerprint
from whence.artifacts.folder import finished
from whence.artifacts.manifest import NAME as MANIFEST
from whence.artifacts.manifest import Manifest
from whence.data.queries import Query
from whence.jobs.layer_groups import LayerGroups
from whence.jobs.plan.subject import Subject, refuse_unknown_costs
from whence.jobs.plan.within import Chosen
from whence.jobs.prepare import FOLDER as DATA
from whence.jobs.progress import together

if TYPE_CHECKING:
    from whence.jobs.session import Session

NAME = "memory.json"


@dataclass(frozen=True, slots=True)
class Choice:
    """Settings that fit into memory, and the groups of layers for the fit."""

    batch_tokens: int
    rank: int | str
    groups: LayerGroups


def stay_within(session: Session, *, asking: bool) -> None:
    """Where a session's settings limit memory, have it take the batches, rank and groups of layers that fit.

    Args:
        asking: Whether its questions will be asked, and not the curvature fitted alone.

    Raises:
        InvalidSetting: If nothing fits; names the layer or the pass that does not.
    """
    if session.settings.memory is not None:
        refuse_unknown_costs(session.settings if asking else session.settings.replace(solver="fitted"))
        chosen = together(session.world, lambda: choose(session, session.questions if asking else []))
        session.settings = session.settings.replace(batch_tokens=chosen.batch_tokens, rank=chosen.rank)
        session.groups = chosen.groups
        for name in ("parts", "answer"):  # they were batched as the settings had it
            vars(session).pop(name, None)


def choose(session: Session, questions: Sequence[Query]) -> Choice:
    """What a session is to run with: as chosen before, or chosen now.

    Args:
        questions: Those that are still to be asked.

    Raises:
        InvalidSetting: If nothing fits; names the layer or the pass that does not.
    """
    settings, path = session.settings, session.folder / NAME
    of = {name: getattr(settings, name) for name in ("memory", "layers", "params", "curvature", "dtype", "store", "by")}
    asked = settings_fingerprint({**of, **session.digests, "questions": len(questions)})
    kept = _read(path, asked)
    if kept is not None and settings.rank in ("auto", kept.rank):
        return kept
    chosen = _chosen(session, questions)
    page = {
        "asked": asked,
        "batch_tokens": chosen.batch_tokens,
        "rank": chosen.rank,
        "groups": [list(group) for group in chosen.groups.names],
    }
    session.log.note(str(chosen))
    write_text(path, json.dumps(page, indent=1, ensure_ascii=False) + "\n")
    return Choice(chosen.batch_tokens, chosen.rank, chosen.groups)


def _chosen(session: Session, questions: Sequence[Query]) -> Chosen:
    data, settings = session.folder / DATA, session.settings
    prepared = (data / MANIFEST).exists()
    if prepared:  # batches are as they were begun
        settings = settings.replace(batch_tokens=Manifest.read(data).settings["batch_tokens"])
    subject = Subject(session.model, session.task, settings, questions, session.tokenizer, session.context, session.log)
    lengths = subject.read()
    text = lengths.batched(settings.batch_tokens) if prepared else lengths
    return subject.fitted_into(text, fitted=finished(session.folder / "curvature"))


def _read(path: Path, asked: str) -> Choice | None:
    try:
        page: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if page["asked"] != asked:
            return None
        return Choice(page["batch_tokens"], page["rank"], LayerGroups(tuple(map(tuple, page["groups"]))))
    except (OSError, ValueError, KeyError, TypeError):  # not there, or no longer whole
        return None
