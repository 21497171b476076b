"""The units of cost: what a training step and a pass through activations take on the same batches.

FB    forward and backward with all weight gradients: one epoch of training, without the optimizer's update
FBA   forward and backward through activations alone, from the first block on: the floor of any pass
FBA1  the same over the queries, one at a time
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from bench.model import Shape, batches, build, query_tokens, train_tokens


def loss(model: nn.Module, tokens: Int64[Tensor, "n t"]) -> Float[Tensor, ""]:
    """Cross-entropy summed over all positions and sequences."""
    logits = model(tokens, use_cache=False).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum")


def sampled_loss(model: nn.Module, tokens: Int64[Tensor, "n t"]) -> Float[Tensor, ""]:
    """The same at labels drawn from the model."""
    logits = model(tokens, use_cache=False).logits[:, :-1].flatten(0, 1)
    with torch.no_grad():
        labels = torch.multinomial(logits.softmax(-1), 1).flatten()
    return functional.cross_entropy(logits, labels, reduction="sum")


def training_pass(model: nn.Module, stream: Sequence[Tensor]) -> None:
    """FB: every parameter's gradient, batch by batch."""
    model.requires_grad_(True)
    for tokens in stream:
        loss(model, tokens).backward()
        model.zero_grad(set_to_none=True)
    model.requires_grad_(False)


def activation_pass(model: nn.Module, stream: Sequence[Tensor]) -> None:
    """FBA: the embedding's output is where differentiation ends."""
    model.requires_grad_(False)
    handle = model.get_input_embeddings().register_forward_hook(lambda *call: call[2].requires_grad_(True))
    try:
        for tokens in stream:
            loss(model, tokens).backward()
    finally:
        handle.remove()


def units(shape: Shape) -> dict[str, Callable[[], None]]:
    """What passes are measured against, over the same batches."""
    model = build(shape)
    train, queries = batches(train_tokens(shape), shape.batch), batches(query_tokens(shape), 1)
    return {
        "FB": partial(training_pass, model, train),
        "FBA": partial(activation_pass, model, train),
        "FBA1": partial(activation_pass, model, queries),
    }
