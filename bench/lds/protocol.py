"""What is trained, on what, and asked about what: a byte-level Llama on windows of Python source.

The standard library's source is here with every Python; which file, and a digest of it, stand in the result.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from whence.artifacts.fingerprint import tensors_fingerprint
from whence.data.queries import QueryBatch
from whence.data.tensors import TensorData
from whence.evaluate.examples import collect
from whence.evaluate.models import State, as_queries, parameters_of
from whence.evaluate.retrain import Bank
from whence.evaluate.training import Recipe
from whence.tasks import CausalLM

MANY = ("ast", "csv", "dataclasses", "fractions", "heapq", "locale", "pprint", "queue", "shlex", "textwrap", "timeit")
RECIPE: dict[str, Any] = {"learning_rate": 3e-3, "betas": (0.9, 0.95), "batch_size": 32, "epochs": 6}
"""AdamW, no weight decay, constant rate, a step's loss divided by its 32 windows."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that the figures depend on beside the method."""

    source: Literal["argparse", "many"] = "argparse"
    """The standard library's argparse.py, or `MANY` of its modules."""
    init: Literal["llama", "torch"] = "llama"
    """N(0, 0.02²) as Llama's configuration has it, or what torch's modules start from by themselves."""
    width: int = 64
    hidden: int = 176
    blocks: int = 2
    heads: int = 4
    window: int = 64
    train: int = 256
    queries: int = 32
    subsets: int = 200
    fraction: float = 0.9
    seeds: int = 1
    init_seed: int = 0
    draw_seed: int = 0
    recipe: Recipe = field(default_factory=partial(Recipe, **RECIPE))

    @property
    def settings(self) -> dict[str, Any]:
        """For the result."""
        own = {name: value for name, value in vars(self).items() if name != "recipe"}
        more = {"text": tensors_fingerprint({"text": torch.from_numpy(text_of(self))}), "dtype": "float32"}
        return {**own, **more, "recipe": self.recipe.settings, "task": "causal_lm, bytes, every position but the last"}


def model_of(protocol: Protocol) -> nn.Module:
    """The untrained model; the same seed gives the same weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=protocol.width,
        intermediate_size=protocol.hidden,
        num_hidden_layers=protocol.blocks,
        num_attention_heads=protocol.heads,
        max_position_embeddings=protocol.window,
        tie_word_embeddings=False,
    )
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(protocol.init_seed)
        model = LlamaForCausalLM(config).eval()
        if protocol.init == "torch":
            for module in model.modules():
                if isinstance(module, nn.Linear | nn.Embedding):
                    module.reset_parameters()
    return model


def text_of(protocol: Protocol) -> np.ndarray:
    """The bytes that windows are cut from."""
    library = Path(argparse.__file__).parent
    whole = [library / f"{name}.py" for name in (MANY if protocol.source == "many" else ("argparse",))]
    return np.frombuffer(b"".join(path.read_bytes() for path in whole), dtype=np.uint8).copy()


def windows(protocol: Protocol) -> tuple[TensorData, TensorData]:
    """Training windows and held-out ones, drawn without overlap from the whole text."""
    text = text_of(protocol)
    every = text[: len(text) // protocol.window * protocol.window].reshape(-1, protocol.window)
    chosen = np.random.default_rng(protocol.draw_seed).permutation(len(every))[: protocol.train + protocol.queries]
    rows = torch.from_numpy(every[chosen].astype(np.int64))
    return _data(rows[: protocol.train]), _data(rows[protocol.train :])


def _data(rows: Tensor) -> TensorData:
    scored = torch.ones_like(rows, dtype=torch.bool)
    scored[:, -1] = False
    targets = torch.where(scored, rows.roll(-1, 1), 0)
    return TensorData(rows, targets, batch_size=32, real=torch.ones_like(scored), scored=scored)


@dataclass(frozen=True)
class Setting:
    """A protocol with its model trained on everything, its data, its questions and its bank."""

    protocol: Protocol
    model: nn.Module
    """Trained on all of the windows."""
    data: TensorData
    queries: list[QueryBatch]
    bank: Bank


def prepare(protocol: Protocol, folder: Path | None, progress: Callable[[int, int], None] | None = None) -> Setting:
    """Train on everything; the subsets' models are trained when they are asked for, and kept in ``folder``."""
    data, held_out = windows(protocol)
    model = model_of(protocol)
    start = {name: tensor.clone() for name, tensor in parameters_of(model).items()}
    bank = Bank(
        model,
        CausalLM(),
        collect(data),
        protocol.recipe,
        start=partial(_start, start),
        folder=folder,
        progress=progress,
    )
    whole = bank.models(bank.everything)
    model.load_state_dict({name: tensor[0] for name, tensor in whole.items()})
    bank.at_once = 8  # an interruption costs eight models, and at this size more at once are no faster
    return Setting(protocol, model, data, [as_queries(collect(held_out))], bank)


def _start(state: State, seed: int) -> State:
    return state
