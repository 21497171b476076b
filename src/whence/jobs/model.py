"""The model that settings name, and the adapter on top of it."""

from __future__ import annotations

from torch import nn

from whence.errors import ModelError
from whence.jobs.settings import RunSettings
from whence.models.hf import DTYPES, load_model
from whence.models.lora import LoraAdapter, load_adapter


def base_model(settings: RunSettings) -> nn.Module:
    """The model by itself: what its fingerprint is taken of.

    Raises:
        ModelError: If it cannot be loaded.
    """
    device = None if settings.device == "auto" else settings.device
    return load_model(settings.model, dtype=settings.dtype, attention=settings.attention, device=device)


def put_adapter(model: nn.Module, settings: RunSettings) -> LoraAdapter | None:
    """Put the adapter onto the model, in place, if there is one.

    Raises:
        ModelError: If it cannot be loaded, is of another kind, or does not fit.
    """
    if settings.adapter is None:
        return None
    return load_adapter(model, settings.adapter, dtype=DTYPES[settings.dtype])


def refuse_idle(adapter: LoraAdapter) -> None:
    """Refuse an adapter that adds nothing.

    Raises:
        ModelError: If every B is zero.
    """
    if adapter.idle:
        raise ModelError(
            f"the adapter in {adapter.path} changes nothing: every one of its B factors is zero",
            hint="it was saved before its first step, or its weights were lost on the way; save it after training",
        )
