"""One training document of a run: where it lies, what it says, and its part in an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whence.data.rows import row_name
from whence.jobs.explain import explain, in_float32
from whence.jobs.opened.shown import Shown, read_shown
from whence.jobs.solved import whole_query
from whence.jobs.views import TokenView, View
from whence.report.excerpt import shown_on_tokens
from whence.report.notebook import Column, facts
from whence.report.pieces import surface, vocabulary_style

if TYPE_CHECKING:
    from whence.jobs.opened.run import Run


class Document:
    """A row of the training data. It holds where it lies and its metadata, and reads the rest when asked.

    Args:
        number: Its number in the order of the data, from 0: ``document`` in every table.

    Raises:
        InvalidSetting: If there is no such document.
    """

    def __init__(self, run: Run, number: int) -> None:
        self.run, self.number = run, number
        self.row: dict[str, Any] = run.found_row(number)
        """Source, row, counts and ``metadata``, as in ``documents.parquet``; ``text``, how it begins."""

    @property
    def name(self) -> str:
        """Where it lies: ``train.jsonl, line 12``."""
        return row_name(str(self.row["source"]), int(self.row["row"]))

    @property
    def metadata(self) -> dict[str, Any]:
        """Every other field of its row."""
        return dict(self.row["metadata"])

    @property
    def text(self) -> str:
        """What it says, as the tokenizer reads it back: special tokens left off."""
        tokens = self.run.store.document_tokens(self.number).tolist()
        return str(self.run.tokenizer.decode(tokens, skip_special_tokens=True))

    def score(self, question: int = 0) -> float:
        """Its influence on an answer, in nats per copy. Positive raises it. NaN where a filter left it out."""
        return float(self.run.raw(question)[self.number]) / self.run.train_size

    def tokens(self, question: int = 0) -> TokenView:
        """Which of its tokens carry its influence on an answer, in nats per copy.

        Of a document that the report shows this is read from the run. Of any other it is computed, for which the
        model is loaded.
        """
        shown, n = self._shown(question), self.run.train_size
        pieces = self.run.tokenizer.convert_ids_to_tokens(shown.tokens)
        texts = surface(pieces, vocabulary_style(self.run.tokenizer.get_vocab()))
        count = len(texts)
        columns = {
            "text": texts,
            "scored": shown.scored,
            "gradient": shown_on_tokens((shown.by_token / n).tolist(), count),
            "predicted": shown_on_tokens((shown.output_tokens / n).tolist(), count),
            "read": (shown.input_tokens / n).tolist(),
        }
        rows = [{"token": k, **{name: values[k] for name, values in columns.items()}} for k in range(count)]
        return TokenView(f"{self.name} → {self.run.said(question)}", rows)

    def layers(self, question: int = 0) -> View:
        """Through which layers its influence goes, in nats per copy: the parts add up to its score.

        Read or computed, as `tokens` is.
        """
        by_layer = self._shown(question).by_layer / self.run.train_size
        rows = [
            {"layer": name, "per_copy": float(part)}
            for name, part in zip(self.run.answers.layers, by_layer, strict=True)
        ]
        columns = [Column("layer", "layer", "word"), Column("per_copy", "nats per copy", "influence")]
        return View(f"{self.name} → {self.run.said(question)}, by layer", columns, rows, value="per_copy")

    def _shown(self, question: int) -> Shown:
        self.run.answers.question(question)
        kept = read_shown(self.run.answers.folder, question, self.number)
        if kept is not None:
            return kept
        session = self.run.session
        with in_float32(session.model):
            parts = self.run.encoded(question)
            curvature, damping = session.curvature, self.run.answers.damping
            curvature = curvature if damping is None else curvature.with_damping(damping)
            full = whole_query(session, self.run.answers.queries, curvature, parts, question)
            found = explain(curvature, session.model, full, session.store, [self.number], session.task)
        return Shown.of(found[0])

    def __repr__(self) -> str:
        return f"Document({self.number}, {self.name!r})"

    def _repr_html_(self) -> str:
        pairs = [("begins", self.row["text"]), ("tokens", self.row["tokens"]), ("of them scored", self.row["scored"])]
        pairs += self.metadata.items()
        return facts(f"Document {self.number}: {self.name}", pairs)
