"""Tiny models: small enough to check against dense matrices, with every kind of layer that is tracked.

Every model is in float64 and eval mode, made from its own seed, and leaves the global generator alone.
"""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional


class MLP(nn.Sequential):
    """Linear layers with tanh between: ``layers.0`` is module ``0``, the next is ``2``, and so on."""

    def __init__(self, *sizes: int, bias: bool = True) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs, bias=bias), nn.Tanh()]
        super().__init__(*layers[:-1])


class Attention(nn.Module):
    """Causal softmax attention, written out: no kernel to depend on. q, k and v read one tensor."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=bias) for _ in range(4))

    def forward(self, x: Float[Tensor, "n t i"], real: Tensor) -> Float[Tensor, "n t i"]:
        q, k, v = self.q(x), self.k(x), self.v(x)
        return self.o(attend(q, k, v, real, self.heads))


class FusedAttention(nn.Module):
    """The same with q, k and v in one Hugging Face ``Conv1D``, as in GPT-2."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.o = conv1d(width, 3 * width), conv1d(width, width)

    def forward(self, x: Float[Tensor, "n t i"], real: Tensor) -> Float[Tensor, "n t i"]:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.o(attend(q, k, v, real, self.heads))


class GatedMLP(nn.Module):
    """down(silu(gate(x)) · up(x)): gate and up read one tensor."""

    def __init__(self, width: int, hidden: int, bias: bool, fused: bool = False) -> None:
        super().__init__()
        linear = conv1d if fused else lambda i, o: nn.Linear(i, o, bias=bias)
        self.gate, self.up, self.down = linear(width, hidden), linear(width, hidden), linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """LayerNorm, attention, LayerNorm, gated MLP, with residuals."""

    def __init__(self, width: int, heads: int, hidden: int, bias: bool, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = FusedAttention(width, heads) if fused else Attention(width, heads, bias)
        self.mlp = GatedMLP(width, hidden, bias, fused)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), real)
        return x + self.mlp(self.norm2(x))


class TinyLM(nn.Module):
    """A causal language model of two blocks with an untied head, called as Hugging Face models are.

    Args:
        bias: Whether the Linear layers inside the blocks have one.
        fused: Conv1D layers with a fused qkv, as in GPT-2, in place of Linear ones.
    """

    def __init__(
        self,
        *,
        vocab: int = 7,
        width: int = 6,
        heads: int = 2,
        hidden: int = 5,
        blocks: int = 2,
        context: int = 32,
        bias: bool = True,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.layers = nn.ModuleList(Block(width, heads, hidden, bias, fused) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(
        self, input_ids: Int64[Tensor, "n t"], attention_mask: Tensor | None = None, **_: Any
    ) -> SimpleNamespace:
        real = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        x = self.embedding(input_ids) + self.positions(torch.arange(input_ids.shape[1], device=input_ids.device))
        for block in self.layers:
            x = block(x, real)
        return SimpleNamespace(logits=self.head(self.norm(x)))


def attend(q: Tensor, k: Tensor, v: Tensor, real: Tensor, heads: int) -> Float[Tensor, "n t i"]:
    """Softmax attention over the earlier real positions (padding sits on the right, so none is all masked)."""
    n, t, width = q.shape
    q, k, v = (x.view(n, t, heads, width // heads).transpose(1, 2) for x in (q, k, v))
    logits = q @ k.transpose(-1, -2) / (width // heads) ** 0.5
    seen = torch.ones(t, t, dtype=torch.bool, device=q.device).tril() & real[:, None, None, :]
    weights = logits.masked_fill(~seen, -torch.inf).softmax(-1)
    return (weights @ v).transpose(1, 2).reshape(n, t, width)


def conv1d(inputs: int, outputs: int) -> nn.Module:
    """A Hugging Face ``Conv1D``: a linear layer whose weight is ``[i o]``."""
    from transformers.pytorch_utils import Conv1D

    return Conv1D(outputs, inputs)


def mlp(*sizes: int, bias: bool = True, seed: int = 0) -> MLP:
    """An MLP, 4 → 5 → 3 unless told otherwise."""
    return seeded(lambda: MLP(*(sizes or (4, 5, 3)), bias=bias), seed, scale=1.0)


def language_model(*, seed: int = 0, **shape: Any) -> TinyLM:
    """A `TinyLM` whose outputs are far from uniform, so that a wrong term shows."""
    return seeded(lambda: TinyLM(**shape), seed, scale=0.6)


def seeded(make: Any, seed: int, scale: float) -> Any:
    """A module with every parameter drawn from ``seed``: norms near one, everything else N(0, scale²)."""
    with torch.random.fork_rng(devices=[]):
        model = make()
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64) * scale
        around_one = "norm" in name and name.endswith("weight")
        parameter.data = 1 + 0.2 * noise if around_one else noise
    return model.double().eval()


ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 32, "n_inner": 12}),
    "gpt_neox": ("GPTNeoX", {"intermediate_size": 12}),
    "llama": ("Llama", {"intermediate_size": 12, "num_key_value_heads": 1}),
    "qwen3": ("Qwen3", {"intermediate_size": 12, "num_key_value_heads": 1, "head_dim": 4}),
    "gemma": ("Gemma", {"intermediate_size": 12, "num_key_value_heads": 1, "head_dim": 4}),
    "mistral": ("Mistral", {"intermediate_size": 12, "num_key_value_heads": 1}),
    "olmo2": ("Olmo2", {"intermediate_size": 12, "num_key_value_heads": 1, "pad_token_id": 0}),
    "phi": ("Phi", {"intermediate_size": 12, "partial_rotary_factor": 0.5}),
}
"""Name → class prefix in transformers and what differs from the common shape below."""


def huggingface(name: str, *, tied: bool | None = None, vocab: int = 11, seed: int = 0) -> Any:
    """A random two-block model of one of `ARCHITECTURES`, width 8, in float64, eager attention, no dropout.

    Most of them compute norms and softmax in float32 whatever they are given: compare to 1e-5, not to 1e-12.

    Args:
        tied: Whether the head shares the embedding's weight; None leaves the architecture its default.
    """
    import transformers

    prefix, own = ARCHITECTURES[name]
    common = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32}
    settings = dict(own if name == "gpt2" else common | own, vocab_size=vocab, bos_token_id=1, eos_token_id=2)
    if tied is not None:
        settings["tie_word_embeddings"] = tied
    config = getattr(transformers, f"{prefix}Config")(**settings)
    config._attn_implementation = "eager"
    return seeded(lambda: transformers.AutoModelForCausalLM.from_config(config), seed, scale=0.4)


def text_classifier(*, classes: int = 3, vocab: int = 11, seed: int = 0) -> Any:
    """A random one-block BERT with a head for so many classes, in float64: it attends to padding unless told not to."""
    import transformers

    shape: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": classes}
    config = transformers.BertConfig(vocab_size=vocab, intermediate_size=12, **shape)
    config._attn_implementation = "eager"
    return seeded(lambda: transformers.BertForSequenceClassification(config), seed, scale=0.4)


def token_ids(count: int, length: int, *, vocab: int = 11, seed: int = 0) -> Int64[Tensor, "n t"]:
    """Random tokens."""
    return torch.randint(vocab, (count, length), generator=torch.Generator().manual_seed(seed))
