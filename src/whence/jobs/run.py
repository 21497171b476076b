"""The whole job: text in, an explained ranking and a report out. Every step continues where it was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from whence.data.queries import Query
from whence.jobs.log import Log
from whence.jobs.memory import stay_within
from whence.jobs.opened import Run, Stage
from whence.jobs.opened.answers import kept
from whence.jobs.progress import Unfinished
from whence.jobs.questions import tokenised_apart, unlike_the_data
from whence.jobs.session import Session
from whence.jobs.settings import RunSettings
from whence.jobs.solved import refuse_unsolvable
from whence.world import World

_PROPERTY: dict[Stage, str] = {
    "prepare": "store",
    "fit": "curvature",
    "query": "queries",
    "score": "scores",
    "self": "self_influence",
}
"""What each stage leaves behind in a session."""


def run(
    folder: Path | str,
    settings: RunSettings,
    *,
    log: Log | None = None,
    world: World | None = None,
    stop_after: Stage = "report",
    units: range | None = None,
    questions: Sequence[Query] | None = None,
) -> Run:
    """Prepare, fit, query, score and report; what is finished already is not done again.

    Args:
        folder: Where everything is kept; the same folder continues an interrupted run.
        stop_after: The last stage wanted. ``self`` takes the place of queries and scores.
        units: Only these work units of the last stage; others may be computed elsewhere, in the same folder.
        questions: Questions already made, in place of those that the settings name.

    Raises:
        WhenceError: Of whatever kind, before the first long pass where it can be known by then.
    """
    log, world = log or Log.silent(), world or World.current()
    session = Session(Path(folder), settings, log, world, units)
    if questions is not None:
        session.ask(questions)
    if stop_after in ("query", "score", "report"):
        _ = session.parts, session.answer  # a question that cannot be used is refused before anything long begins
    if stop_after != "prepare":
        session.check_layers()
    session.open()
    stay_within(session, asking=stop_after in ("query", "score", "report"))
    result = Run(session.folder, session.settings, stop_after, started=session)
    stages: list[Stage] = ["prepare", "fit", "self"] if stop_after == "self" else ["prepare", "fit", "query", "score"]
    try:
        for stage in stages:
            if stage == "fit" and stop_after not in ("fit", "self"):
                refuse_unsolvable(session)
            getattr(session, _PROPERTY[stage])
            for odd in _oddities(session) if stage == "query" else ():
                log.note(odd)
            if stage == "score":  # the ends are scored again here, and not when somebody looks
                result = replace(result, found=kept(session))
            if stage != "self":
                session.keep_settings()
            if stage == stop_after:
                return result
    except Unfinished as unfinished:
        log.note(f"{unfinished}: these units are done; the result is put together when all are")
        return replace(result, waiting=str(unfinished))
    if world.main:
        from whence.jobs.report import write_report

        log.note(f"report: {write_report(result)}")
    world.barrier()
    return result


def _oddities(session: Session) -> list[str]:
    """What a person should know of the questions before they are answered."""
    found = [
        unlike_the_data(session.questions, session.store.facts["shapes"]),
        tokenised_apart(session.questions, session.model, session.tokenizer, session.context),
    ]
    return [one for one in found if one is not None]
