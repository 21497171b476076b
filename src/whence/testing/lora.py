"""Tiny models with a LoRA adapter on them, and adapters saved as PEFT saves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn


def with_lora(
    model: Any, targets: Sequence[str] | str, *, rank: int = 2, scale: float = 0.5, seed: int = 1, **settings: Any
) -> Any:
    """A model of `tiny` with an adapter whose A and B are drawn from ``seed``, in float64 and eval mode.

    Args:
        targets: Ends of module names, as PEFT matches them.
        scale: Standard deviation of the draws; 0 leaves B zero, as PEFT begins.
        settings: More of ``peft.LoraConfig``: ``lora_alpha``, ``use_rslora``, ``lora_dropout``, …
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, target_modules=targets, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = inject_adapter_in_model(config, model)
    _draw(model, scale, seed)
    return model.double().eval()


def save_lora(
    model: Any, folder: Path, targets: Sequence[str] | str, *, scale: float = 0.3, seed: int = 1, **settings: Any
) -> Path:
    """An adapter of a Hugging Face model, drawn as in `with_lora`, in a folder written by ``save_pretrained``."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=targets, **{"r": 2, "task_type": "CAUSAL_LM", **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapped = get_peft_model(model, config)
    _draw(wrapped, scale, seed)
    wrapped.save_pretrained(str(folder))
    return folder


def _draw(model: nn.Module, scale: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64) * (scale or 1.0)
            outer = "lora_B" in name or "lora_embedding_B" in name
            parameter.data = (noise * 0 if outer and not scale else noise).to(parameter.dtype)
        elif ".modules_to_save." in name:
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
            parameter.data = parameter.data + (scale * noise).to(parameter.dtype)
