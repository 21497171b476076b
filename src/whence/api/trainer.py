"""A Hugging Face ``Trainer``, handed over: its model, and the sequences that it really trained on.

    trained = wh.from_trainer(trainer)
    curvature = trained.fit()
    scores = trained.score(curvature, wh.ask("Who wrote it?", " Ada did."))

The sequences are taken from the trainer's own loader, item by item in the order of the data set and through its own
collator, so that columns, truncation, packing and masked labels are the trainer's. What is then compared is the loss:
on the first rows the trainer's and ours must be one number, or the trainer's is another loss and is refused.

The trainer is known by its methods and by the name of its class: transformers is not imported here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from whence.api import fitted
from whence.api.data import token_data
from whence.api.given import evaluating
from whence.api.selves import SelfInfluences
from whence.curvature import Curvature
from whence.data.memory import TokenData
from whence.errors import DataError, InvalidSetting, ModelError
from whence.jobs.explain import in_float32
from whence.jobs.plan import Plan
from whence.jobs.scored import Scores
from whence.jobs.stream import device_of
from whence.layers.quantised import is_quantised
from whence.report.notebook import facts
from whence.tasks import CausalLM

COMPARED = 4
"""Rows on which the trainer's loss is compared with ours."""
KNOWN_LOSSES = {("transformers.trainer", "Trainer"), ("trl.trainer.sft_trainer", "SFTTrainer")}
"""Whose ``compute_loss`` is the model's own mean cross-entropy."""
_INPUTS = {"input_ids", "labels", "attention_mask", "position_ids"}
_PACKED = {"cu_seq_lens_q", "cu_seq_lens_k", "seq_idx"}


@dataclass(frozen=True)
class Trained:
    """What a trainer trained, and on what. Half-precision weights are taken to float32 while it computes."""

    model: nn.Module = field(repr=False)
    data: TokenData
    task: CausalLM
    tokenizer: Any = field(repr=False)
    notes: tuple[str, ...]
    """What of the training is not in an influence, or was noticed."""

    @property
    def train_size(self) -> int:
        """N: the rows of the data set, each a sequence."""
        return self.data.sequences

    def fit(self, **settings: Any) -> Curvature:
        """`whence.fit` on the sequences that were trained on.

        Args:
            settings: Its settings: ``layers``, ``damping``, ``samples``, …
        """
        with _in_float32(self.model):
            return fitted.fit(self.model, self.data, task=self.task, tokenizer=self.tokenizer, **settings)

    def score(self, curvature: Curvature, queries: Any, **settings: Any) -> Scores:
        """`whence.score` of the sequences that were trained on.

        Args:
            queries: Questions made with `whence.ask`, rows, or what `whence.query_gradients` made.
            settings: ``by_layer``, ``by_token``, ``folder``, …
        """
        with _in_float32(self.model):
            return fitted.score(curvature, queries, self.data, **settings)

    def self_influence(self, curvature: Curvature, **settings: Any) -> SelfInfluences:
        """`whence.self_influence` of the sequences that were trained on."""
        with _in_float32(self.model):
            return fitted.self_influence(curvature, self.data, **settings)

    def plan(self, **settings: Any) -> Plan:
        """`whence.plan` for this model and these sequences."""
        with _in_float32(self.model):
            return fitted.plan(self.model, self.data, task=self.task, tokenizer=self.tokenizer, **settings)

    def _repr_html_(self) -> str:
        pairs: list[tuple[str, Any]] = [("model", type(self.model).__name__), ("sequences trained on", self.train_size)]
        return facts("Handed over by a trainer", [*pairs, *(("note", note) for note in self.notes)])


def from_trainer(trainer: Any) -> Trained:
    """A Hugging Face ``Trainer``'s model and the sequences that it trains on, for `fit` and `score`.

    Its ``train_dataset`` is read once, in order, through its own collator, and held in memory as tokens. PEFT models
    are taken with their adapter on; influence is then over the adapter's parameters.

    Args:
        trainer: After training (or before: the model is taken as it is). A `transformers.Trainer` or a subclass that
            leaves its loss alone, TRL's ``SFTTrainer`` among them.

    Raises:
        InvalidSetting: Naming what cannot be honoured: no training data or a stream of them, a loss of its own,
            smoothed labels, a masked language model, an encoder with a decoder, weights spread over processes.
        DataError: If a row cannot be read as a sequence of its own, with its number.
        ModelError: If the trainer's loss on the first rows is another than next-token cross-entropy.
    """
    _refuse_other_losses(trainer)
    model = _model(trainer)
    rows = _rows(trainer)
    first = [next(rows)]
    data = token_data(_watched(rows, first), None, context=_WHOLE)
    trained = Trained(model, data, CausalLM(), _tokenizer(trainer), tuple(_notes(trainer, model, data)))
    _compare_losses(trainer, trained, first[:COMPARED])
    return trained


_WHOLE = 2**30
"""A context that no row exceeds: what the trainer gave to the model in one piece stays in one."""


def _watched(rows: Iterator[dict[str, Any]], first: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All rows, the first few of which are kept."""
    yield first[0]
    for row in rows:
        if len(first) < COMPARED:
            first.append(row)
        yield row


def _refuse_other_losses(trainer: Any) -> None:
    for needed in ("model", "args", "get_train_dataloader", "compute_loss"):
        if not hasattr(trainer, needed):
            raise InvalidSetting(
                f"{type(trainer).__name__} is no Hugging Face Trainer: it has no {needed}", hint="pass trainer itself"
            )
    owner = next(cls for cls in type(trainer).__mro__ if "compute_loss" in vars(cls))
    if (owner.__module__, owner.__name__) not in KNOWN_LOSSES:
        raise InvalidSetting(
            f"{owner.__name__} computes a loss of its own (compute_loss), which may be any",
            hint="write it as a task and use `whence.fit(model, data, task=…)`: see the tutorial on your own loss",
        )
    if getattr(trainer, "compute_loss_func", None) is not None:
        raise InvalidSetting(
            "the trainer has a compute_loss_func, a loss of its own", hint="write it as a task: `whence.fit(…, task=…)`"
        )
    smoothing = getattr(trainer.args, "label_smoothing_factor", 0) or 0
    if smoothing:
        raise InvalidSetting(
            f"labels were smoothed (label_smoothing_factor = {smoothing:g}): that is another loss",
            hint="train without, or hand the rows to `whence.fit` to ask about the plain loss",
        )


def _model(trainer: Any) -> nn.Module:
    model: nn.Module = trainer.model
    for flag, what in (("is_fsdp_enabled", "FSDP"), ("is_deepspeed_enabled", "DeepSpeed")):
        if getattr(trainer, flag, False):
            raise InvalidSetting(
                f"the model's weights are spread over processes by {what}", hint="save it, and use `whence run`"
            )
    config = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise InvalidSetting(
            f"{type(model).__name__} is an encoder with a decoder, not a causal language model",
            hint="write its loss as a task: `whence.fit(…, task=…)`",
        )
    return model


def _rows(trainer: Any) -> Iterator[dict[str, Any]]:
    """Each item of the data set as the model was given it: through the trainer's loader and collator, alone."""
    if getattr(trainer, "train_dataset", None) is None:
        raise InvalidSetting("the trainer has no train_dataset, so nothing was trained on", hint="give it the one used")
    if isinstance(trainer.train_dataset, torch.utils.data.IterableDataset) or not hasattr(
        trainer.train_dataset, "__len__"
    ):
        raise InvalidSetting(
            "the train_dataset is a stream, of which nobody knows what was read",
            hint="write the rows that were trained on to a file, and use `whence run`",
        )
    loader = trainer.get_train_dataloader()
    dataset, collate = loader.dataset, loader.collate_fn
    if getattr(_innermost(collate), "mlm", False):
        raise InvalidSetting("the collator masks words (mlm=True): that is no causal language model", hint="mlm=False")
    if len(dataset) == 0:
        raise DataError("the train_dataset is empty", hint="give the trainer the rows that it was trained on")
    once, twice = (_row(0, dataset[0], collate) for _ in range(2))
    if any(not torch.equal(once[name], twice[name]) for name in once):
        raise DataError(
            "row 0 of the train_dataset is another one each time it is read: something in it is drawn at random",
            hint="hand over rows that stay the same, so that what is scored is what was trained on",
        )
    return (_row(number, dataset[number], collate) for number in range(len(dataset)))


def _row(number: int, item: Any, collate: Callable[[list[Any]], Any]) -> dict[str, Any]:
    batch = collate([item])
    if not isinstance(batch, Mapping) or "input_ids" not in batch or "labels" not in batch:
        has = ", ".join(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise DataError(
            f"row {number} of the train_dataset, collated, has no input_ids with labels: it has {has}",
            hint="a collator for language models gives them: DataCollatorForLanguageModeling(tokenizer, mlm=False)",
        )
    if batch.keys() & _PACKED:
        raise _packed(number, "its collator gives where each begins")
    unknown = {name for name in batch.keys() - _INPUTS if batch[name] is not None}
    if unknown:
        raise DataError(f"row {number} is also given {', '.join(sorted(unknown))}, which is not honoured here")
    row = {name: batch[name] for name in _INPUTS if isinstance(batch.get(name), Tensor)}
    if any(part.dim() != 2 or len(part) != 1 for part in row.values()):
        raise DataError(f"row {number}, collated alone, is not one sequence", hint="a row may hold one text alone")
    positions = row.pop("position_ids", None)
    if positions is not None and not torch.equal(positions[0].cpu(), torch.arange(positions.shape[1])):
        raise _packed(number, "its position_ids begin again")
    return {name: part[0] for name, part in row.items()}


def _packed(number: int, seen: str) -> DataError:
    return DataError(
        f"row {number} holds several texts packed into one: {seen}",
        hint="hand over a trainer of the same rows with packing off: each text is then scored by itself",
    )


def _innermost(collate: Any) -> Any:
    """The collator inside the one that the trainer wraps around it to remove columns."""
    return getattr(collate, "data_collator", collate)


def _tokenizer(trainer: Any) -> Any:
    known = getattr(trainer, "processing_class", None)
    inner = getattr(known, "tokenizer", known)  # of a processor, its tokenizer
    return inner if inner is not None and hasattr(inner, "encode") else None


def _notes(trainer: Any, model: nn.Module, data: TokenData) -> Iterator[str]:
    args = trainer.args
    packed = bool(getattr(args, "packing", False))
    if packed:
        yield "packing: a sequence is a block of several rows' texts, and scores are of blocks"
    longest = getattr(args, "max_length", None)
    if longest is not None and data.longest >= longest and not packed:
        yield f"truncation: rows reach the trainer's max_length of {longest} tokens; what was cut off is not here"
    if getattr(args, "neftune_noise_alpha", None) is not None:
        yield "NEFTune: noise was added to embeddings in training; influence is of the loss without it"
    if any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in model.modules()):
        yield "dropout: off here; influence is of the loss without it"
    dtype = next(model.parameters()).dtype
    if dtype not in (torch.float32, torch.float64):
        name = str(dtype).removeprefix("torch.")
        yield f"weights are {name}: taken to float32 while computing, and back bit for bit afterwards"
    elif getattr(args, "bf16", False) or getattr(args, "fp16", False):
        yield "mixed precision: trained under autocast; gradients here are those of the float32 weights"
    if _tokenizer(trainer) is None:
        yield "the trainer has no tokenizer (processing_class), so questions need tokenizer=…"


def _compare_losses(trainer: Any, trained: Trained, rows: Sequence[dict[str, Any]]) -> None:
    """The trainer's own loss of the first rows, one by one, against ours.

    Raises:
        ModelError: If they differ by more than rounding.
    """
    model, device = trained.model, device_of(trained.model)
    batches = trained.data.gather(list(range(len(rows))))
    ours: dict[int, float] = {}
    with evaluating(model), torch.no_grad(), _in_float32(model):
        for batch in batches:
            losses = trained.task.loss(model, batch.to(device))
            counts = batch.scored.sum(1).tolist()
            each = zip(batch.ids.tolist(), losses.tolist(), counts, strict=True)
            ours |= {number: loss / count if count else math.nan for number, loss, count in each}
        for number, row in enumerate(rows):
            inputs = {name: part[None].to(device) for name, part in row.items()}
            theirs = float(trainer.compute_loss(model, inputs))
            if math.isfinite(ours[number]) and not math.isclose(ours[number], theirs, rel_tol=2e-3, abs_tol=1e-4):
                raise ModelError(
                    f"the trainer's loss of row {number} is {theirs:.4f}, and next-token cross-entropy is "
                    f"{ours[number]:.4f}: it trains on another loss",
                    hint="write that loss as a task: `whence.fit(model, data, task=…)`",
                )


@contextmanager
def _in_float32(model: nn.Module) -> Iterator[None]:
    """The model in float32 for a while, unless its weights are quantised and stay as they are."""
    if any(is_quantised(module) for module in model.modules()):
        yield
        return
    with in_float32(model):
        yield
