"""From scores to the page a person reads: winners explained, joined to their text, rendered as one file."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from whence.artifacts.atomic import write_text
from whence.curvature import Curvature, Damping
from whence.influence.topk import TopK
from whence.jobs.explain import Explanation, explain, in_float32
from whence.jobs.opened.shown import keep_shown
from whence.jobs.solved import METHODS, whole_query
from whence.layers.coverage import Coverage
from whence.layers.select import named
from whence.report.html import render
from whence.report.model import CoverageRow, Doc, Question, Recall, ReportData, Tail, Trust

if TYPE_CHECKING:
    from whence.jobs.log import Log
    from whence.jobs.opened import Run


def write_report(
    run: Run, *, recall: Recall | None = None, planted: dict[int, int] | None = None, name: str | None = None
) -> Path:
    """Explain the top documents of every question and write ``report.html``.

    Args:
        planted: Question → the document known to hold its answer (the demo).
        name: What to call the model. Default: the name of its folder.
    """
    name = name or model_name(run.session.settings.model)
    write_text(run.report, render(report_data(run, recall=recall, planted=planted or {}, name=name)))
    return run.report


def report_data(run: Run, *, recall: Recall | None, planted: dict[int, int], name: str) -> ReportData:
    """Everything that the report says."""
    session = run.session
    settings, store, curvature = session.settings, session.store, session.curvature
    coverage = named(session.model, list(curvature.blocks)).coverage
    documents = 2 * min(settings.top, store.documents)
    questions = []
    with in_float32(session.model):
        for row in range(len(run.questions)):
            progress = _progress(session.log, row, len(run.questions), documents)
            progress(0.0)
            questions.append(_question(run, row, planted.get(row), progress))
            progress(1.0)
    facts = store.facts
    noise = [note for note in curvature.notes if note.startswith(_NOISE)]
    return ReportData(
        title=f"Influence on {name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        questions=questions,
        sentence=(
            f"{METHODS[session.method]} influence of {store.documents:,} training documents "
            f"({store.sequences:,} sequences) on the answers of {name}, over {coverage.share:.0%} of its parameters."
        ),
        method={
            **{key: value for key, value in asdict(settings).items() if value is not None},
            **{key: portable(value, run.folder) for key in _PATHS if (value := getattr(settings, key)) is not None},
            "train size N": run.train_size,
        },
        provenance={
            "weights": session.digests["model"],
            "tokenizer": session.digests["tokenizer"],
            "data": store.fingerprint,
            "whence": _version(),
            "torch": str(torch.__version__),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {session.model.device}",
        },
        command=f"whence run {run.folder.name} --settings {run.folder.name}/settings.toml",
        coverage=coverage_rows(coverage),
        trust=Trust(
            dtype=settings.dtype,
            damping=_damping(curvature),
            noise=_sentence(noise[0].removeprefix(_NOISE)) if noise else "",
            documents=store.documents,
            sequences=store.sequences,
            tokens=sum(unit.tokens for unit in store.units),
            windowed=int(facts.get("windowed", 0)),
            unscored=int(facts.get("unscored", 0)),
            limit=settings.limit,
        ),
        notes=[*_solves(run), *(note for note in curvature.notes if note not in noise)],
        recall=recall,
    )


def _solves(run: Run) -> list[str]:
    """How well the questions were solved, where another than the fitted curvature did it."""
    return [
        f"{_sentence(str(one))}, preconditioned by {METHODS[run.session.curvature.name]}. Self-influence and what is "
        "divided by it are the fitted curvature's."
        for one in run.answers.solved
    ]


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:]


_NOISE = "sampling noise:"
_PATHS = ("model", "adapter", "train", "tokenizer", "query")


def _progress(log: Log, row: int, questions: int, documents: int) -> Callable[[float], None]:
    """Told the share of one question that is done; counts the documents to be explained over all questions."""
    return lambda share: log.step("report", row * documents + int(share * documents), questions * documents)


def _question(run: Run, row: int, planted: int | None, progress: Callable[[float], None]) -> Question:
    session, store, query = run.session, run.session.store, run.questions[row]
    full = whole_query(session, run.answers.queries, session.curvature, session.parts_of(row), row)
    raw = run.documents[row]
    top = TopK.of(raw, min(session.settings.top, store.documents))
    raises = [int(document) for document in top.highest if raw[document] > 0]
    lowers = [int(document) for document in top.lowest if raw[document] < 0]
    shown = list(dict.fromkeys(raises + lowers))
    explained = explain(session.curvature, session.model, full, store, shown, session.task, progress)
    keep_shown(run.answers.folder, row, explained)
    docs = {e.document: _doc(run, e, raw) for e in explained}
    layers = list(session.curvature.blocks)
    part = query.parts[0]
    tokens, scored = session.shown_tokens(row)
    measurement = float(session.queries.measurement[row])
    contrastive = len(query.parts) > 1  # a difference of two log-probabilities has no ceiling
    return Question(
        id=query.id,
        prompt=part.prompt,
        completion=part.completion,
        rather_than=query.parts[1].completion if contrastive else None,
        planted=planted,
        out_of_range=0 if contrastive else int((raw / run.train_size > -measurement).sum()),
        tokens=tokens,
        scored=scored,
        measurement=measurement,
        tail=Tail.of(raw / run.train_size),
        raises=[docs[document] for document in raises],
        lowers=[docs[document] for document in lowers],
        layers=layers,
        groups=[name for name, _ in layer_groups(layers)],
    )


def _doc(run: Run, e: Explanation, raw: np.ndarray) -> Doc:
    store, n = run.session.store, run.train_size
    row = store.row(e.document)
    layers = list(run.session.curvature.blocks)
    heat = [e.by_layer_token[rows].sum(0) / n for _, rows in layer_groups(layers)]
    return Doc(
        document=e.document,
        source=Path(str(row["source"])).name,
        row=int(row["row"]),
        tokens=run.session.surface(e.tokens),
        score_per_copy=float(raw[e.document]) / n,
        score_raw=float(raw[e.document]),
        percentile=float((raw < raw[e.document]).mean() * 100),
        cosine=e.cosine if run.answers.queries is None else None,  # a cosine has one inner product, and these have two
        self_normalised=e.self_normalised,
        spurious=e.spurious,
        sequences=len(e.windows) + 1,
        windows=e.windows,
        scored=e.scored,
        by_token=_short(e.by_token / n),
        by_layer=_short(e.by_layer / n),
        heat=[_short(line) for line in heat],
        output_tokens=_short(e.output_tokens / n),
        input_tokens=_short(e.input_tokens / n),
        metadata=dict(row.get("metadata", {})),
    )


def model_name(model: str) -> str:
    """The name of a model's folder, with its parent's where it says nothing by itself.

    Example:
        >>> model_name("/data/models/llama-1b"), model_name("/data/llama-1b/checkpoint-500")
        ('llama-1b', 'llama-1b/checkpoint-500')
    """
    folder = Path(model).resolve()
    telling = folder.name != "model" and not folder.name.startswith("checkpoint")
    return folder.name if telling or not folder.parent.name else f"{folder.parent.name}/{folder.name}"


def portable(path: str, run: Path) -> str:
    """A path as a report that is passed on may show it: seen from the run or the working folder, else its last part.

    Example:
        >>> run = Path("/data/runs/a")
        >>> portable("/data/runs/a/train.jsonl", run), portable("/elsewhere/b.jsonl#train[:9]", run)
        ('train.jsonl', 'b.jsonl#train[:9]')
    """
    place, mark, part = path.partition("#")
    if Path(place).is_absolute():
        bases = [base for base in (run.resolve(), Path.cwd()) if base != Path(base.anchor)]
        seen = [Path(place).relative_to(base) for base in bases if Path(place).is_relative_to(base)]
        place = seen[0].as_posix() if seen else Path(place).name
    return place + mark + part


def layer_groups(layers: list[str]) -> list[tuple[str, list[int]]]:
    """Rows of the heat map: a block's attention and its MLP, in the model's order."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(layers):
        block = re.search(r"\.(\d+)\.", name)
        kind = "MLP" if re.search(r"mlp|feed_forward|ffn|fc|experts?", name) else "attention"
        key = f"{block.group(1)} {kind}" if block else name
        groups.setdefault(key, []).append(index)
    return list(groups.items())


def _short(values: np.ndarray) -> list[float]:
    """Four significant digits: what a page shows, at a third of the size."""
    return [float(f"{value:.4g}") for value in values]


def coverage_rows(coverage: Coverage) -> list[CoverageRow]:
    """What is tracked and what is left out, as a report shows it."""
    return [
        CoverageRow(
            kind=row.kind,
            parameters=row.parameters,
            share=row.parameters / coverage.total,
            tracked=row.tracked,
            reason=row.reason,
        )
        for row in coverage.rows
    ]


def _damping(curvature: Curvature) -> str:
    if curvature.damping is None:
        return "none: gradients are not preconditioned"
    values = sorted(curvature.dampings.values())
    rule = curvature.damping
    kind = "given by layer"
    if isinstance(rule, Damping):
        kind = "absolute" if rule.absolute else f"{rule.value:g} × each layer's mean eigenvalue"
    return f"{kind} (λ from {values[0]:.3g} to {values[-1]:.3g})"


def _version() -> str:
    from whence import __version__

    return __version__


__all__ = ["layer_groups", "model_name", "portable", "report_data", "write_report"]
