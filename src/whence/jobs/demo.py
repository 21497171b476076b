"""The demo: questions whose answers are known, because the model's whole training corpus is in the package.

The model answers from facts planted once each; each question is asked in another template than the one its fact
was planted in. So the document behind an answer is known, and finding it can be counted: recall@1 and @10 over
all facts that the model has truly learned, for EK-FAC and, beside it, gradient dot product, cosine, BM25 and chance.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from whence.counted import counted
from whence.curvature import Curvature
from whence.data.filters import BM25
from whence.data.queries import QueryBatch, ask, encode_queries
from whence.demo import Question, paths, read_questions
from whence.evaluate.recall import RecallTable, recall_table
from whence.jobs.fit import fit
from whence.jobs.log import Log
from whence.jobs.opened import Run, by_document
from whence.jobs.query import query_gradients
from whence.jobs.report import write_report
from whence.jobs.report.planted import Planted
from whence.jobs.run import run
from whence.jobs.score import score, self_influence
from whence.jobs.session import Session
from whence.jobs.settings import RunSettings
from whence.jobs.stream import device_of
from whence.jobs.training import epoch_seconds
from whence.report.trust import Recall, RecallRow

NAMES = {
    "ekfac": "EK-FAC influence",
    "gradient_dot": "gradient dot product",
    "cosine": "gradient cosine",
    "bm25": "BM25",
    "random": "chance",
}


@dataclass(frozen=True)
class DemoResult:
    """What the demo found, and what it cost."""

    run: Run
    planted: dict[int, int]
    """Question → the document that holds its answer."""
    recall: RecallTable
    asked: int
    """Facts asked about, learned or not."""
    seconds: float
    cost_in_epochs: float
    """Fit, queries and scores, in units of one training epoch of the same model on the same data."""

    def text(self) -> str:
        """Each question's top documents, the recall table and the cost, plain."""
        lines: list[str] = []
        for number, query in enumerate(self.run.questions):
            lines.append(f"{_line(query.prompt, 56)} →{_line(query.completion, 40)}")
            for place, row in enumerate(self.run.top(3, number), 1):
                mark = "planted" if row["document"] == self.planted.get(number) else ""
                text = self.run.session.tokenizer.decode(self._tokens(row["document"]), skip_special_tokens=True)
                lines.append(f"  {place}. {row['per_copy']:+9.3g} nats a copy  {_line(text, 58):<58} {mark}".rstrip())
        learned = f"{self.recall.questions} of {self.asked} facts learned"
        lines += ["", f"Finding the planted document among {self.recall.documents} ({learned}):", *self.recall.lines()]
        lines += [
            "",
            f"Cost of fit, queries and scores: {self.cost_in_epochs:.1f} training epochs; {self.seconds:.0f} s in all",
        ]
        lines.append(f"Report: {self.run.report}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The object of ``whence demo --json``."""
        return {
            "recall_at_1": self.recall.at(1),
            "recall_at_10": self.recall.at(10),
            "facts_learned": self.recall.questions,
            "facts_asked": self.asked,
            "seconds": round(self.seconds, 1),
            "cost_in_epochs": round(self.cost_in_epochs, 2),
            "report": str(self.run.report),
        }

    def _tokens(self, document: int) -> list[int]:
        store = self.run.session.store
        return [int(token) for token in store.tokens(store.sequences_of(document)[0])[:40]]


def demo(out: Path | str, log: Log | None = None) -> DemoResult:
    """Fit EK-FAC on the packaged corpus, ask its questions, write the report, and count.

    Args:
        out: The run's folder; a second call continues an interrupted first.

    Raises:
        ArtifactMismatch, ArtifactError, StorageError: As for `run`.
    """
    log = log or Log.silent()
    began = time.monotonic()
    files = paths()
    settings = RunSettings(model=str(files.model), train=str(files.corpus), query=str(files.questions), top=10)
    spent = time.process_time()
    result = run(out, settings, log=log, stop_after="score")
    spent = time.process_time() - spent
    session = result.session
    epoch = epoch_seconds(session.model, session.store, session.task)
    everything = read_questions(files.evaluation)
    learned = says(session.model, encoded(session, everything))
    facts = [fact for fact, known in zip(everything, learned, strict=True) if known]
    log.note(
        f"the model has learned {len(facts)} of {len(everything)} facts: asked in a template it never read them in, "
        "it says the right object"
    )
    scores = scores_of_every_method(result, facts, log)
    truth = np.array([fact.fact for fact in facts])
    table = recall_table(scores, truth)
    planted = {
        number: int(query.metadata["fact"])
        for number, query in enumerate(result.questions)
        if query.metadata.get("fact") is not None
    }
    at_1, at_10 = table.at(1), table.at(10)
    Planted(
        model="the demo's model",
        questions=session.questions_digest,
        damping=str(session.curvature.damping),
        documents=planted,
        recall=Recall(
            rows=[RecallRow(method=NAMES[name], at_1=at_1[name], at_10=at_10[name]) for name in scores],
            questions=table.questions,
            note=f"Over the facts learned, of {len(everything)} planted; "
            f"{counted(session.store.documents, 'document')}.",
        ),
    ).write(result.folder)
    write_report(result)
    return DemoResult(result, planted, table, len(everything), time.monotonic() - began, spent / max(epoch, 1e-9))


def scores_of_every_method(run: Run, facts: Sequence[Question], log: Log) -> dict[str, NDArray[np.float64]]:
    """Method → document scores ``[q documents]`` by the run's curvature and by baselines."""
    session = run.session
    parts = encoded(session, facts)
    model, store, task = session.model, session.store, session.task
    raw: dict[str, NDArray[np.float64]] = {}
    identity = fit(model, store, task=task, layers=session.settings.layers, curvature="identity")
    curvatures: dict[str, Curvature] = {"ekfac": session.curvature, "gradient_dot": identity}
    for name, curvature in curvatures.items():
        queries = query_gradients(curvature, model, parts, task=task)
        scores = score(curvature, queries, store, model=model, task=task, log=log)
        assert scores is not None
        raw[name] = by_document(scores.total.numpy(), store)
    own = self_influence(identity, store, model=model, task=task, log=log)
    assert own is not None
    norms = np.sqrt(np.maximum(by_document(own[None].numpy(), store), 1e-30))
    bm25 = BM25().counted_by(session.counted)
    words = [session.tokenizer(q.prompt + q.completion, add_special_tokens=False)["input_ids"] for q in facts]
    return {
        "ekfac": raw["ekfac"],
        "gradient_dot": raw["gradient_dot"],
        "cosine": raw["gradient_dot"] / norms,  # the query's own norm changes no ranking
        "bm25": np.stack([bm25.scores(np.array(tokens)) for tokens in words]),
        "random": np.zeros_like(raw["ekfac"]),  # all tied: expected recall under random order
    }


def says(model: nn.Module, parts: Sequence[QueryBatch]) -> NDArray[np.bool_]:
    """Whether a language model, left to itself, continues each prompt with its completion (greedy decoding), ``[q]``.

    Args:
        parts: Encoded questions, numbered from 0. Decoding greedily gives the completion exactly where each of
            its tokens is the most probable one after those before it, so one forward pass tells.
    """
    found = np.ones(1 + max(int(part.query.max()) for part in parts), dtype=bool)
    with torch.no_grad():
        for part in parts:
            batch = part.batch.to(device_of(model))
            best = model(batch.inputs, use_cache=False).logits.argmax(-1)
            found[part.query.numpy()] &= ((best == batch.targets) | ~batch.scored).all(1).cpu().numpy()
    return found


def encoded(session: Session, facts: Sequence[Question]) -> list[QueryBatch]:
    """Questions as batches, numbered in their order."""
    asked = [ask(fact.prompt, fact.completion, id=str(number)) for number, fact in enumerate(facts)]
    return encode_queries(asked, session.tokenizer, session.context, session.settings.batch_tokens)


def _line(text: str, width: int) -> str:
    line = " ".join(text.split())
    lead = " " if text.startswith(" ") else ""
    return lead + (line if len(line) <= width else line[: width - 1] + "…")
