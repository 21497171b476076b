"""What a language model is given to read: sequences padded on the right, or several to a row.

No attention mask is passed. A causal model never looks at what comes later, padding included. Sequences of one row that
are not to see each other are told apart by their positions, which begin again at 0: transformers builds the mask of
every kind of attention from them (sliding windows too, which a mask given to it would replace). `capture.check` holds
the first batch against the same sequences alone, before anything long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from whence.errors import ModelError
from whence.types import Batch

PACKS = ("eager", "sdpa")
"""Attention kernels of transformers that keep the sequences of a row apart, however many rows there are."""


def read(model: nn.Module, batch: Batch, call: Callable[..., Any] | None = None) -> Float[Tensor, "n t v"]:
    """The logits at every position of every sequence, padding included.

    Args:
        call: What takes ids and options in the model's place, `torch.func.functional_call` with some weights say.

    Raises:
        ModelError: If sequences share a row that they are not to see, and the model is none of transformers.
    """
    return in_sequences(batch, read_rows(model, batch, call))


def read_rows(model: nn.Module, batch: Batch, call: Callable[..., Any] | None = None) -> Float[Tensor, "r w v"]:
    """The same, of the model's rows."""
    outputs = (call or model)(ids_of(batch), **_options(model, batch))
    logits = outputs if isinstance(outputs, Tensor) else outputs.logits
    assert isinstance(logits, Tensor)
    return logits


def read_body(body: nn.Module, batch: Batch) -> Float[Tensor, "r w d"]:
    """What the head would read, of the model's rows."""
    return body(input_ids=ids_of(batch), **_options(body, batch)).last_hidden_state


def ids_of(batch: Batch) -> Tensor:
    """The token ids of the rows that the model reads."""
    return batch.inputs if batch.layout is None else batch.layout.inputs


def in_sequences(batch: Batch, rows: Tensor) -> Tensor:
    """What a model made of its rows, as the batch's sequences."""
    return rows if batch.layout is None else batch.layout.unpack(rows)


def refuse_packing(model: nn.Module) -> None:
    """Refuse kernels that would let the sequences of a row see each other where there are several rows.

    Raises:
        ModelError: Naming the kernel, or that the model is none of transformers.
    """
    kernel = getattr(getattr(model, "config", None), "_attn_implementation", None)
    if kernel is None:
        raise ModelError(f"{type(model).__name__} is no model of transformers, and cannot be told {_APART}", hint=_NONE)
    if kernel not in PACKS:
        raise ModelError(
            f"the attention kernel {kernel} does not keep documents of one row apart in several rows at once",
            hint=f'use attention = "eager", or {_NONE}',
        )


_APART = "which documents of a row not to look at"
_NONE = "leave packing out (pack = none): scores are the same"


def _options(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """Keywords that models of transformers take, and others do not."""
    if not hasattr(model, "config"):
        if batch.layout is not None and batch.layout.position is not None:
            refuse_packing(model)
        return {}
    options: dict[str, Any] = {"use_cache": False}
    if batch.layout is not None and batch.layout.position is not None:
        options["position_ids"] = batch.layout.position
    return options
