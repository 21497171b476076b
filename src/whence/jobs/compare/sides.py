"""The two that are compared: runs with their answers, and what each was made with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whence.artifacts.fingerprint import text_fingerprint
from whence.artifacts.folder import finished
from whence.artifacts.manifest import Manifest
from whence.counted import counted
from whence.curvature.damping import Damping
from whence.data.queries import Query
from whence.errors import ArtifactError, InvalidSetting
from whence.jobs.documents import read_self_influence, self_folder
from whence.jobs.opened import Answers, Run, answers_of
from whence.jobs.opened.answers import NAME as ANSWERS
from whence.jobs.settings import RunSettings
from whence.jobs.summary import short


def open_sides(a: Path, b: Path | None) -> tuple[Run, Run]:
    """Both runs, each with one set of answers: the newest two that share a question, or those that were named.

    Args:
        a: A run's folder, or one of those below its ``answers/``.
        b: Another; None is the same run, whose two newest answers to the same questions are compared.

    Raises:
        ArtifactError: If one is no run, or was asked nothing and has no self-influence.
        InvalidSetting: If they share no question, or are one and the same.
    """
    one, first = _open(a)
    other, second = _open(b or a)
    if b is not None and one.folder.resolve() == other.folder.resolve() and first == second:
        raise InvalidSetting(
            f"{a} and {b} are the same run", hint=f"`whence compare {a}` compares its own answers with each other"
        )
    pairs = [(x, y) for x in first for y in second if x.folder.resolve() != y.folder.resolve() and shared(x, y)]
    if b is None:
        pairs = [(y, x) for x, y in pairs if x.written > y.written]  # the older first
        if not pairs:
            raise InvalidSetting(
                f"{a} has answered no question twice: {_asked(first)}",
                hint=f"ask again with another damping or rank, `whence score {a} --damping 0.01`, or name a second run",
            )
    elif not pairs:
        if not (first and second) and _both(one, other):  # one of them was asked nothing
            return one, other
        raise InvalidSetting(
            f"no question was asked of both\n  {a}: {_asked(first)}\n  {b}: {_asked(second)}",
            hint="ask both the same: `whence score RUN --query FILE`, which fits nothing again",
        )
    x, y = pairs[0]
    return replace(one, found=x), replace(other, found=y)


def key_of(query: Query) -> str:
    """What a question says, whatever it is called."""
    return json.dumps(
        [part.said if part.tokens else (part.prompt, part.completion, part.weight) for part in query.parts]
    )


def shared(a: Answers, b: Answers) -> set[str]:
    """The questions that both answer."""
    return set(map(key_of, a.questions)) & set(map(key_of, b.questions))


def self_influence_of(run: Run) -> NDArray[np.float64] | None:
    """Influence of every document on itself, where the run keeps it."""
    if run.found is not None:
        damping: object = run.found.damping
    else:
        damping = None if run.settings.curvature == "identity" else Damping.parse(run.settings.damping)
    known = read_self_influence(self_folder(run.folder, damping), run.store.documents)
    return None if known is None else known.numpy()


def made_with(run: Run) -> dict[str, str]:
    """Everything that decides a run's numbers, as a person would name it."""
    found: dict[str, Any] = {}
    whole, data = Manifest.read(run.folder), Manifest.read(run.folder / "data")
    fitted = Manifest.read(run.folder / "curvature").settings if finished(run.folder / "curvature") else {}
    found["model"] = f"{run.settings.model}, weights {whole.made_from['model'][:8]} in {run.settings.dtype}"
    found["tokenizer"] = whole.made_from["tokenizer"][:8]
    # Of the documents, not of the sequences that they were cut into: how they were cut stands below.
    texts = text_fingerprint("\n".join(run.store.to_arrow()["hash"].to_pylist()))
    found["data"] = f"{run.settings.train}, content {texts[:8]}"
    found |= {name: value for name, value in data.settings.items() if name not in ("units", "batch_tokens")}
    found |= {name: value for name, value in fitted.items() if name != "task"}
    if run.found is not None:
        found |= {"damping": run.found.damping, "trained on": counted(run.found.train_size, "sequence")}
        found |= {"filter": run.found.filter or "none"}
        asked = run.folder / "queries" / run.found.asked
        if finished(asked):
            found["rank"] = Manifest.read(asked).settings["rank"] or "full"
    found["attention"] = run.settings.attention
    return {name: _word(value) for name, value in found.items()}


def _open(path: Path) -> tuple[Run, list[Answers]]:
    """A run and its sets of answers, the newest first; the only one, if one was named."""
    if (path / ANSWERS).is_file():
        run = Run.open(path)
        return run, [run.answers]
    file = path / "settings.toml"
    if not file.exists():
        raise ArtifactError(f"{path} is not a run: it has no settings.toml", hint="`whence run` makes one")
    run, answers = Run(path, RunSettings.from_toml(file)), answers_of(path)
    if not answers and not (path / "self").is_dir():
        raise ArtifactError(f"{path} has no scores yet", hint=f'`whence score {path} --ask "…" --answer "…"`')
    return run, answers


def _both(a: Run, b: Run) -> bool:
    return self_influence_of(a) is not None and self_influence_of(b) is not None


def _asked(answers: Iterable[Answers]) -> str:
    said = [f"“{short(q.completion)}” after “{short(q.prompt)}”" for one in answers for q in one.questions]
    return "; ".join(said[:3]) + (f"; and {len(said) - 3} more" if len(said) > 3 else "") or "nothing"


def _word(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return " ".join(_word(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={_word(item)}" for name, item in value.items()) or "–"
    return str(value)
