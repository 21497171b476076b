"""What the steps of a run share: the model, the tokenizer, the data and the questions, each loaded once.

Every property is a finished piece of the run's folder: computed when first asked for, kept on disk, and read
from there when the same run is opened again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float

from whence.artifacts.atomic import write_text
from whence.artifacts.fingerprint import model_fingerprint, settings_fingerprint, text_fingerprint
from whence.artifacts.folder import accepts, claim, finished, mark_finished
from whence.artifacts.manifest import Manifest
from whence.curvature import Curvature
from whence.data.answer_tokens import AnswerTokens
from whence.data.filters import BM25, Filter
from whence.data.queries import Query, QueryBatch, encode_queries, in_words
from whence.data.selection import Selection
from whence.data.store import TokenStore
from whence.errors import InvalidSetting
from whence.influence.query import Queries
from whence.jobs.adapter import compare_losses
from whence.jobs.documents import document_self_influence, self_folder
from whence.jobs.filter_setting import FilterSetting
from whence.jobs.filtered import Filtered, document_tokens, filtered
from whence.jobs.fit import fit, fit_settings
from whence.jobs.layer_groups import LayerGroups
from whence.jobs.log import Log
from whence.jobs.model import base_model, put_adapter, refuse_idle
from whence.jobs.prepare import count_sequences, prepare
from whence.jobs.progress import Unfinished, check_units, together
from whence.jobs.query import load_queries, resolve_rank
from whence.jobs.questions import NAME as QUESTIONS
from whence.jobs.questions import answer_tokens, as_jsonl, asked_in
from whence.jobs.score import score
from whence.jobs.scored import Scores
from whence.jobs.settings import RunSettings
from whence.jobs.solved import GRADIENTS, keep_queries
from whence.jobs.stored_curvature import SCHEMA as CURVATURE_SCHEMA
from whence.layers.select import track
from whence.models.hf import context_length, load_tokenizer, tokenizer_text
from whence.report.pieces import Style, surface, vocabulary_style
from whence.tasks import CausalLM
from whence.world import World

SCHEMA = 1


class Session:
    """A model, its tokenizer and its prepared data, loaded once and shared by all steps."""

    def __init__(self, folder: Path, settings: RunSettings, log: Log, world: World, units: range | None = None) -> None:
        self.folder, self.settings, self.log, self.world, self.units = folder, settings, log, world, units
        self._rows: str | None = None
        self.groups: int | LayerGroups = 1  # of layers, for the fit
        self.task = CausalLM()
        self.tokenizer = load_tokenizer(settings.tokenizer or settings.model)
        self.model = base_model(settings)
        self.context = settings.context or context_length(self.model)
        tokenizer = text_fingerprint(tokenizer_text(self.tokenizer))
        self.digests = {"model": model_fingerprint(self.model), "tokenizer": tokenizer}
        self.adapter = put_adapter(self.model, settings)
        if self.adapter is not None:
            refuse_idle(self.adapter)
            self.digests["adapter"] = self.adapter.fingerprint

    def check_layers(self) -> None:
        """Refuse layers that no fit could track, before anything is written.

        Raises:
            LayerError: As `track` does.
        """
        if not finished(self.folder / "curvature"):
            track(self.model, self.settings.layers, self.settings.params)

    def open(self) -> None:
        """Claim the run's folder.

        Raises:
            ArtifactMismatch, ArtifactError: If it belongs to another run, or is not ours.
        """
        of = self.settings
        called = {"model": f"{of.model}, {of.dtype}", "tokenizer": of.tokenizer or of.model}
        if of.adapter is not None:
            called["adapter"] = of.adapter
        manifest = Manifest("run", SCHEMA, {}, self.digests, called=called)
        together(self.world, lambda: claim(self.folder, manifest, beside={"settings.toml"}))
        if self.world.main:
            self.log.keep(self.folder)
            if not (self.folder / "tokenizer").exists():  # a run's tokens can be read for as long as there is the run
                self.tokenizer.save_pretrained(self.folder / "tokenizer")

    def ask(self, questions: Sequence[Query]) -> None:
        """Take questions already made, in place of those that the settings name; kept with the settings."""
        self.questions = [in_words(query, self.tokenizer) for query in questions]
        self._rows = as_jsonl(questions)
        query = None if self._rows is None else str(self.folder / QUESTIONS)
        self.settings = self.settings.replace(query=query, ask=None, answer=None, rather_than=None)
        if self._rows is None:
            self.log.note("a question weighs its parts as no row can say, so the questions are not kept in the run")

    def keep_settings(self) -> None:
        """Write the settings beside what they made: called once a stage has succeeded with them.

        Raises:
            ArtifactMismatch: If a fit is there that they would not make; the settings that made it are kept.
        """
        accepts(self.folder / "curvature", self._fit_manifest)
        if self.world.main:
            if self._rows is not None:
                write_text(self.folder / QUESTIONS, self._rows)
            write_text(self.folder / "settings.toml", self.settings.to_toml())

    @cached_property
    def store(self) -> TokenStore:
        """The prepared data."""
        settings = self.settings
        store = prepare(
            self.folder,
            train=settings.train,
            tokenizer=self.tokenizer,
            context=self.context,
            batch_tokens=settings.batch_tokens,
            limit=settings.limit,
            columns=settings.columns,
            pack=settings.pack,
            world=self.world,
            log=self.log,
        )
        check_units(self.units, len(store.units))
        return store

    @cached_property
    def curvature(self) -> Curvature:
        """The fitted curvature, damped as asked."""
        settings = self.settings
        if self.adapter is not None and not finished(self.folder / "curvature"):
            losses = compare_losses(self.model, self.store, self.task)
            losses.refuse_same(self.adapter)
            self.log.note(losses.line)
        return fit(
            self.model,
            self.store.trained,
            task=self.task,
            layers=settings.layers,
            params=settings.params,
            curvature=settings.curvature,
            damping=settings.damping,
            samples=settings.samples,
            labels=settings.labels,
            seed=settings.seed,
            store=settings.store,
            groups=self.groups,
            folder=self.folder / "curvature",
            made_from=self.sources,
            units=self.units,
            world=self.world,
            log=self.log,
        )

    @property
    def _fit_manifest(self) -> Manifest:
        of = self.settings
        settings = fit_settings(
            self.task, of.layers, of.params, of.curvature, of.samples, of.labels, of.seed, of.store, self.model
        )
        return Manifest("curvature", CURVATURE_SCHEMA, settings, self.sources)

    @property
    def sources(self) -> dict[str, str]:
        """Digests of what a curvature is made from."""
        return {**self.digests, "data": self.store.fingerprint}

    @cached_property
    def questions(self) -> list[Query]:
        """What is asked, from a file or from the settings."""
        asked = asked_in(self.settings)
        if not asked:
            raise InvalidSetting(
                "nothing was asked", hint='pass --query FILE, or --ask "Who wrote it?" --answer " Ada did."'
            )
        return [in_words(query, self.tokenizer) for query in asked]

    @cached_property
    def parts(self) -> list[QueryBatch]:
        """The questions as batches."""
        return encode_queries(self.questions, self.tokenizer, self.context, self.settings.batch_tokens)

    def parts_of(self, row: int) -> list[QueryBatch]:
        """The batches of one question alone."""
        return encode_queries([self.questions[row]], self.tokenizer, self.context)

    @cached_property
    def answer(self) -> AnswerTokens | None:
        """The answers' tokens as queries of their own, where their scores are to be kept; refuses too many."""
        return answer_tokens(self.parts) if "answer" in self.settings.by else None

    @cached_property
    def asked(self) -> str:
        """The name under which these questions, so damped and cut, are kept: one run serves many."""
        asked = {"questions": self._texts, "damping": str(self.curvature.damping), "rank": self.rank}
        asked |= {} if self.answer is None else {"by": "answer"}
        asked |= {} if self.settings.solver == "fitted" else {"solver": self.settings.solver}
        asked |= {} if self.filter is None else {"filter": str(self.filter), "seed": self.settings.seed}
        return settings_fingerprint(asked)[:12]

    @property
    def filter(self) -> FilterSetting | None:
        """Which documents each question is scored on; None where that is all of them."""
        return FilterSetting.parse(self.settings.filter)

    @cached_property
    def counted(self) -> Filter:
        """Which token occurs in which document: counted once, for whichever filter asks."""
        return BM25().fit(document_tokens(self.store))

    @cached_property
    def filtered(self) -> Filtered | None:
        """What the filter keeps of each question, and the control sample."""
        return None if self.filter is None else filtered(self, self.filter)

    @cached_property
    def scored_data(self) -> TokenStore | Selection:
        """What is read to be scored: the data, or what the filter keeps of them for any question."""
        return self.store if self.filtered is None else self.filtered.selection(self.store)

    @property
    def questions_digest(self) -> str:
        """A digest of what is asked, however it is damped and cut."""
        return settings_fingerprint({"questions": self._texts})[:12]

    @property
    def _texts(self) -> list[list[tuple[str, str, float]]]:
        return [[part.said for part in query.parts] for query in self.questions]

    @cached_property
    def rank(self) -> int | None:
        """What the rank setting comes to."""
        if self.settings.solver != "fitted":
            return None
        weights = sum(block.eigenvalues.numel() for block in self.curvature.blocks.values())
        return resolve_rank(self.settings.rank, len(self.answer or self.questions), weights)

    @property
    def measurement(self) -> Float[torch.Tensor, " q"]:
        """What every question measures: log p of its answer, or the difference of two."""
        measured = self.queries.measurement
        if self.answer is None:
            return measured
        return measured.new_zeros(len(self.questions)).index_add_(0, self.answer.query, measured)

    @cached_property
    def queries(self) -> Queries:
        """Preconditioned gradients of the questions, or of their answers' tokens; computed once and kept."""
        folder = self.folder / "queries" / self.asked
        fitted = {"curvature": settings_fingerprint(self.curvature.settings), **self.sources}
        together(self.world, lambda: claim(folder, Manifest("queries", SCHEMA, {"rank": self.rank}, fitted)))
        path = folder / GRADIENTS
        if not finished(folder):
            if self.world.main:
                mark_finished(folder, [path.name], {"queries": len(self.questions), **keep_queries(self, path)})
                self.log.note(f"queries: {len(self.questions)}, rank {self.rank or 'full'}")
            self.world.barrier()
        return load_queries(path, next(self.model.parameters()).device)

    @property
    def method(self) -> str:
        """The curvature's name, or the solver's where there is another."""
        return self.curvature.name if self.settings.solver == "fitted" else self.settings.solver

    @property
    def scores_name(self) -> str:
        """Of the folder that these scores are kept in."""
        return "-by-".join([self.asked, *sorted(set(self.settings.by))])

    @cached_property
    def scores(self) -> Scores:
        """Scores of every training sequence; NaN of those that are read for no question."""
        result = score(
            self.curvature,
            self.queries,
            self.scored_data,
            model=self.model,
            task=self.task,
            by_layer="layer" in self.settings.by,
            by_token="token" in self.settings.by,
            of=None if self.answer is None else self.answer.query,
            folder=self.folder / "scores" / self.scores_name,
            made_from=self.sources | ({} if self.filtered is None else {"filter": self.scored_data.fingerprint}),
            units=self.units,
            world=self.world,
            log=self.log,
        )
        if result is None:
            raise Unfinished("score")
        return result

    @cached_property
    def self_influence(self) -> torch.Tensor:
        """Influence of every document on itself, ``[documents]``."""
        result = document_self_influence(
            self.curvature,
            self.store,
            model=self.model,
            task=self.task,
            folder=self_folder(self.folder, self.curvature.damping),
            made_from=self.sources,
            units=self.units,
            world=self.world,
            log=self.log,
        )
        if result is None:
            raise Unfinished("self-influence")
        return result

    @cached_property
    def train_size(self) -> int:
        """N: the sequences the model was trained on; the whole of the data given, also where only part was read."""
        settings = self.settings
        if settings.train_size is not None:
            return settings.train_size
        if settings.limit is None:
            return self.store.trained.sequences
        self.log.note(
            "counting the sequences of the whole data, for scores per copy "
            "(train_size in a settings file says it at once)"
        )
        return count_sequences(settings.train, self.tokenizer, self.context, settings.columns, settings.pack)

    def surface(self, tokens: Sequence[int]) -> list[str]:
        """What each token says, as text."""
        return surface(self.tokenizer.convert_ids_to_tokens(list(tokens)), self.style)

    @cached_property
    def style(self) -> Style:
        """How the tokenizer writes its pieces."""
        return vocabulary_style(self.tokenizer.get_vocab())

    def shown_tokens(self, row: int) -> tuple[list[str], list[bool]]:
        """A question's tokens as text, and which of them are its answer."""
        batch = self.parts_of(row)[0].batch
        real = batch.real[0]
        scored = [False, *batch.scored[0, :-1].tolist()][: int(real.sum())]
        return self.surface(batch.inputs[0][real].tolist()), scored
