"""One question of a report: both ends of its ranking explained, and the shape of the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from whence.curvature import Damping
from whence.data.answer_tokens import AnswerTokens
from whence.data.rows import file_name
from whence.evaluate.statistics import spearman
from whence.influence.query import Queries
from whence.influence.topk import TopK
from whence.jobs.explain import Explanation, explain, full_rank_query, meet
from whence.jobs.filtered import tokens_asked
from whence.jobs.opened.shown import keep_shown
from whence.jobs.out_of_range import out_of_range
from whence.jobs.query import query_groups
from whence.jobs.report.answers import answer_tokens, leaders_of, said
from whence.jobs.report.corpus import Corpus
from whence.jobs.report.shapes import against, noise_of, tail_of, totals_of
from whence.jobs.solved import whole_query
from whence.report.model import AnswerToken, Doc, Question
from whence.report.overlap import folded, shared_runs, starts_of
from whence.report.trust import Lost, Swept, WouldKeep
from whence.report.words import Word, words_of

if TYPE_CHECKING:
    from whence.jobs.opened import Run

SWEEP = (0.1, 0.3, 3.0, 10.0)
"""Other dampings that the shown documents are ranked at, in units of the report's own."""


BESIDE_ELEMENTS = 2**26
"""Of directions that a question's documents meet at once (256 MiB of float32): more of them take several passes."""


@dataclass(frozen=True)
class Beside:
    """What one question's documents are also met with: answer tokens, and the question at other dampings."""

    answer: list[AnswerToken]
    dampings: list[str]
    by_answer: NDArray[np.float64]
    """``[k d]``, raw."""
    at_dampings: NDArray[np.float64]
    """``[s d]``, raw."""

    @classmethod
    def of(cls, run: Run, row: int, documents: Sequence[int]) -> Beside:
        """No refit is needed for any of them."""
        session = run.session
        curvature, rule = session.curvature, session.curvature.damping
        tokens, sweep = None, list[Damping]()
        if run.answers.queries is None:  # or the question was solved otherwise than these would be
            tokens = answer_tokens(run, row)
            sweep = [replace(rule, value=rule.value * times) for times in SWEEP] if isinstance(rule, Damping) else []
        measured, scores = [np.zeros(0)], [np.zeros((0, len(documents)))]
        for some in _at_once(_directions(run, row, tokens, sweep)):
            measured.append(some.measurement.double().numpy())
            if documents:
                scores.append(meet(curvature, session.model, some, session.store, documents, session.task))
            del some
        k, found = 0 if tokens is None else len(tokens), np.concatenate(scores)
        answer = [] if tokens is None else said(run, tokens, np.concatenate(measured)[:k])
        if not documents:
            found = np.zeros((k + len(sweep), 0))
        return cls(answer, [str(one) for one in sweep], found[:k], found[k:])


def _directions(run: Run, row: int, tokens: AnswerTokens | None, sweep: Sequence[Damping]) -> Iterator[Queries]:
    """The answer's tokens in their order, then the question at each damping, at full rank."""
    session = run.session
    model, task = session.model, session.task
    if tokens is not None:
        yield from query_groups(
            session.curvature, model, tokens.batches, task=task, rank="full", elements=BESIDE_ELEMENTS
        )
    for one in sweep:
        yield full_rank_query(session.curvature.with_damping(one), model, session.parts_of(row), task)


def _at_once(directions: Iterator[Queries]) -> Iterator[Queries]:
    """Directions put together while they are not too large; the next is made once those before it are let go."""
    held: list[Queries] = []
    for one in directions:
        weights = sum(part.numel() for part in one.prepared.values() if isinstance(part, Tensor)) // len(one)
        if held and (sum(map(len, held)) + len(one)) * weights > BESIDE_ELEMENTS:
            some = Queries.join(held)
            held.clear()
            yield some
            del some
        held.append(one)
    if held:
        yield Queries.join(held)


def told(run: Run, row: int, corpus: Corpus, planted: int | None, progress: Callable[[float], None]) -> Question:
    """One question as a report tells it."""
    session, store, query = run.session, run.session.store, run.questions[row]
    raw, n = run.documents[row], run.train_size
    top = TopK.of(raw, min(session.settings.top, store.documents))
    raises = [int(document) for document in top.highest if raw[document] > 0]
    lowers = [int(document) for document in top.lowest if raw[document] < 0]
    shown = list(dict.fromkeys(raises + lowers))
    full = whole_query(session, run.answers.queries, session.curvature, session.parts_of(row), row)
    explained = explain(session.curvature, session.model, full, store, shown, session.task, progress)
    keep_shown(run.answers.folder, row, explained)
    del full
    leading = leaders_of(run, row, shown)
    beside = Beside.of(run, row, [*shown, *leading])
    tokens, scored = session.shown_tokens(row)
    asking = _Asking(run, row, corpus, tokens, scored)
    docs = {e.document: asking.doc(e) for e in explained}
    docs |= {
        document: asking.leader(document, beside.by_answer[:, len(shown) + k]) for k, document in enumerate(leading)
    }
    for k, document in enumerate((*shown, *leading)):
        if beside.answer:
            docs[document] = replace(docs[document], by_answer=_short(beside.by_answer[:, k] / n, digits=6))
    docs |= _folded(docs, [raises, lowers], corpus)
    layers = list(session.curvature.blocks)
    groups = layer_groups(layers)
    measurement = float(session.measurement[row])
    contrastive = len(query.parts) > 1  # a difference of two log-probabilities has no ceiling
    return Question(
        id=query.id,
        prompt=query.prompt,
        completion=query.completion,
        rather_than=query.rather_than,
        metadata=dict(query.metadata),
        planted=planted,
        out_of_range=0 if contrastive else out_of_range(raw / n, measurement),
        tokens=tokens,
        scored=scored,
        measurement=measurement,
        answer=beside.answer,
        noise=noise_of(raw / n, session.curvature.noise),
        swept=_swept(beside.dampings, beside.at_dampings[:, : len(shown)], raw[shown]),
        lost=_lost(run, row),
        would_keep=asking.would_keep(raises),
        tail=tail_of(raw / n),
        totals=totals_of(raw / n, corpus.groupings),
        against=against(raw / n, corpus, asking.found, shown),
        raises=[docs[document] for document in raises],
        lowers=[docs[document] for document in lowers],
        leaders=[docs[document] for document in leading],
        layers=layers,
        groups=[name for name, _ in groups],
        group_of=[group for layer in range(len(layers)) for group, (_, of) in enumerate(groups) if layer in of],
    )


class _Asking:
    """What a question's documents are looked at with."""

    def __init__(self, run: Run, row: int, corpus: Corpus, tokens: list[str], scored: list[bool]) -> None:
        self.run, self.corpus, self.raw = run, corpus, run.documents[row]
        self.scored = int((~np.isnan(self.raw)).sum())
        self.words = words_of(tokens)
        answer = next((place for place, mark in enumerate(scored) if mark), len(tokens))
        self.answer = [word for word in self.words if word.start >= answer]
        self.ids = tokens_asked(run.questions[row], run.session.tokenizer)
        self.found = None if corpus.search is None else corpus.search.scores(self.ids)

    def doc(self, e: Explanation) -> Doc:
        """A document at either end, with all its parts."""
        n = self.run.train_size
        heat = [e.by_layer_token[rows].sum(0) / n for _, rows in layer_groups(list(self.run.session.curvature.blocks))]
        return replace(
            self._bare(e.document, e.tokens, float(self.raw[e.document])),
            cosine=e.cosine if self.run.answers.queries is None else None,  # it has one inner product; these have two
            self_normalised=e.self_normalised,
            self_influence=e.self_influence,
            spurious=e.spurious,
            sequences=len(e.windows) + 1,
            windows=e.windows,
            scored=e.scored,
            by_token=_short(e.by_token / n),
            by_layer=_short(e.by_layer / n),
            heat=[_short(line) for line in heat],
            output_tokens=_short(e.output_tokens / n),
            input_tokens=_short(e.input_tokens / n),
        )

    def leader(self, document: int, by_answer: NDArray[np.float64]) -> Doc:
        """A document that is here for one answer token alone."""
        tokens = self.run.session.store.document_tokens(document).tolist()
        return self._bare(document, tokens, float(by_answer.sum()))

    def _bare(self, document: int, tokens: Sequence[int], raw: float) -> Doc:
        row, n = self.run.session.store.row(document), self.run.train_size
        said = self.run.session.surface(tokens)
        words = words_of(said)
        return Doc(
            document=document,
            source=file_name(str(row["source"])),
            row=int(row["row"]),
            place=self.corpus.place(document),
            hash=self.corpus.hashes[document],
            tokens=said,
            score_per_copy=raw / n,
            score_raw=raw,
            percentile=float((self.raw < raw).sum() / self.scored * 100),
            bm25_rank=self._bm25_rank(document),
            quotes_answer=bool(self.answer) and bool(starts_of(_texts(words), _texts(self.answer))),
            shared=shared_runs(words, self.words, self.answer),
            metadata=dict(row.get("metadata", {})),
        )

    def would_keep(self, raises: Sequence[int]) -> WouldKeep | None:
        """Which of these documents TF-IDF would have kept, where nothing was filtered."""
        if self.run.answers.filter is not None or self.corpus.tfidf is None:
            return None
        firsts = [count for _, count in self.corpus.firsts]
        order = self.corpus.tfidf.top(self.ids, max(firsts))
        return WouldKeep(of=len(raises), held=[int(np.isin(raises, order[:first]).sum()) for first in firsts])

    def _bm25_rank(self, document: int) -> int | None:
        if self.found is None or self.found[document] <= 0:
            return None
        return 1 + int((self.found > self.found[document]).sum())


def _lost(run: Run, row: int) -> Lost | None:
    """What a filter lost of a question's top, where there was one."""
    if not run.answers.recall:
        return None
    found = run.answers.recall[row]
    return Lost(**asdict(found), exact=found.exact)


def _texts(words: Sequence[Word]) -> list[str]:
    return [word.text for word in words]


def _folded(docs: dict[int, Doc], lists: Sequence[Sequence[int]], corpus: Corpus) -> dict[int, Doc]:
    """Copies folded, within each end of the ranking, under the one with most influence."""
    told: dict[int, Doc] = {}
    for documents in lists:
        under = folded(documents, {d: docs[d].tokens for d in documents}, {d: docs[d].hash for d in documents})
        for document in documents:
            leader, similarity = under.get(document, (None, 1.0))
            hashes = {docs[other].hash for other in documents if document in (other, under.get(other, (None,))[0])}
            told[document] = replace(
                docs[document],
                copy_of=leader,
                similarity=similarity,
                times=sum(corpus.times[hash_] for hash_ in hashes),
            )
    return told


def _swept(dampings: Sequence[str], scores: NDArray[np.float64], own: NDArray[np.float64]) -> list[Swept]:
    """How the shown documents rank at other dampings: ``[s d]`` beside ``[d]``."""
    few = min(10, int((own > 0).sum()))
    first = set(np.argsort(-own, kind="stable")[:few].tolist())
    return [
        Swept(
            damping=damping,
            spearman=float(spearman(row[None], own[None])[0]) if len(own) > 2 and np.ptp(row) and np.ptp(own) else None,
            first_ten=len(first & set(np.argsort(-row, kind="stable")[:few].tolist())),
            of=few,
        )
        for damping, row in zip(dampings, scores, strict=True)
    ]


def layer_groups(layers: list[str]) -> list[tuple[str, list[int]]]:
    """Rows of the heat map: a block's attention and its MLP, in the model's order."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(layers):
        block = re.search(r"\.(\d+)\.", name)
        kind = "MLP" if re.search(r"mlp|feed_forward|ffn|fc|experts?", name) else "attention"
        key = f"{block.group(1)} {kind}" if block else name
        groups.setdefault(key, []).append(index)
    return list(groups.items())


def _short(values: np.ndarray, digits: int = 4) -> list[float]:
    """A few significant digits: what a page shows, at a third of the size."""
    return [float(f"{value:.{digits}g}") for value in values]
