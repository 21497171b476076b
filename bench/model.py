"""The bench models and their data: tiny Llamas with random weights, random tokens, everything seeded.

Costs do not depend on what a model has learned, so nothing is trained here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM


@dataclass(frozen=True, slots=True)
class Shape:
    """A model and the data it meets."""

    name: str
    width: int
    layers: int
    heads: int
    mlp: int
    sequences: int
    tokens: int
    batch: int
    queries: int
    vocabulary: int = 2048

    def with_sequences(self, sequences: int) -> Shape:
        """The same with less data: for a quick look, and for peak memory, which depends on a batch alone."""
        return replace(self, sequences=sequences)


BENCH = Shape("bench", width=256, layers=4, heads=8, mlp=688, sequences=512, tokens=128, batch=32, queries=16)
WIDE = Shape("wide", width=1024, layers=1, heads=16, mlp=2816, sequences=16, tokens=64, batch=16, queries=4)
SHAPES = {shape.name: shape for shape in (BENCH, WIDE)}

ATTENTION = "eager"
"""One kernel for everybody: fused kernels differ in cost, and in gradients from batch-mate to batch-mate."""


def build(shape: Shape, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """The model, in eval mode; the same weights at every call."""
    config = LlamaConfig(
        hidden_size=shape.width,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        vocab_size=shape.vocabulary,
        max_position_embeddings=4 * shape.tokens,
        tie_word_embeddings=False,
        attn_implementation=ATTENTION,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    return model.to(dtype).eval()


def tracked_names(shape: Shape) -> list[str]:
    """Every linear module inside the blocks: seven a block, no head."""
    attention = [f"self_attn.{part}_proj" for part in "qkvo"]
    mlp = [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    return [f"model.layers.{block}.{part}" for block in range(shape.layers) for part in (*attention, *mlp)]


def weights(shape: Shape) -> int:
    """Weights in the tracked modules."""
    return shape.layers * (4 * shape.width**2 + 3 * shape.width * shape.mlp)


def train_tokens(shape: Shape) -> Int64[Tensor, "n t"]:
    """Training sequences, all of one length, so that nobody pays for padding."""
    return _random(shape, shape.sequences, seed=1)


def query_tokens(shape: Shape) -> Int64[Tensor, "q t"]:
    """Queries: sequences like the others, every token but the first scored."""
    return _random(shape, shape.queries, seed=2)


def batches(tokens: Int64[Tensor, "n t"], size: int) -> Sequence[Int64[Tensor, "b t"]]:
    """Consecutive batches."""
    return tokens.split(size)


def _random(shape: Shape, rows: int, seed: int) -> Tensor:
    return torch.randint(shape.vocabulary, (rows, shape.tokens), generator=torch.Generator().manual_seed(seed))
