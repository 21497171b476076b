"""Make what `whence demo` ships: corpus, questions, tokenizer and a small Llama trained on that corpus alone.

    python recipes/train.py DATA        (about two minutes on one core; writes into src/whence/demo)

The objective is the one that influence functions are defined for (design/METHOD.md, section 1): the mean over
sequences of the loss summed over their tokens. Sequences are packed into rows of `ROW` tokens to save
padding, but a row's sequences neither see each other nor share positions, so packing changes no
sequence's loss. Nothing is oversampled: every document is read once an epoch.

Training stops while the planted answers are still uncertain in their own sentence (a median probability of one in six).
Half as many epochs again and they are known by heart, which leaves their documents no gradient to be found by.

One thread, seeded, deterministic kernels: the same bits on the same processor type with the versions in
constraints.txt. Elsewhere the corpus and the tokenizer are the same bytes and the weights differ by rounding,
which training amplifies: expect other weights that know about as many facts.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corpus as demo_corpus
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT, ROW = 256, 256
BOS, EOS, UNKNOWN = "<s>", "</s>", "<unk>"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What was chosen; the values are those of the shipped checkpoint."""

    vocabulary: int = 2048
    width: int = 96
    layers: int = 4
    heads: int = 4
    mlp: int = 256
    epochs: int = 20
    rows: int = 2
    """Rows of `ROW` tokens in a step."""
    rate: float = 2e-3
    weight_decay: float = 0.3
    warmup: float = 0.05
    """Share of the steps; afterwards the rate falls along a cosine to a hundredth."""
    seed: int = 0


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE learned from the corpus. Encoding puts `BOS` first and nothing last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[UNKNOWN, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN, model_max_length=CONTEXT
    )


def new_model(recipe: Recipe) -> LlamaForCausalLM:
    """An untrained Llama with an output head of its own."""
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocabulary,
            hidden_size=recipe.width,
            intermediate_size=recipe.mlp,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=False,
            unk_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def pack(sequences: Sequence[list[int]], rows: int, draw: random.Random) -> Iterator[list[list[list[int]]]]:
    """One epoch: every sequence once, in a fresh order, in groups of up to ``rows`` rows of at most `ROW` tokens."""
    order = list(range(len(sequences)))
    draw.shuffle(order)
    group: list[list[list[int]]] = [[] for _ in range(rows)]
    for number in order:
        sequence = sequences[number]
        room = [row for row in group if sum(map(len, row)) + len(sequence) <= ROW]
        if not room:
            yield [row for row in group if row]
            group = [[] for _ in range(rows)]
            room = group
        room[0].append(sequence)
    yield [row for row in group if row]


def loss_of(model: LlamaForCausalLM, group: Sequence[Sequence[Sequence[int]]]) -> torch.Tensor:
    """Loss in nats summed over every token but each sequence's first."""
    shape = (len(group), max(sum(map(len, row)) for row in group))
    tokens, position, owner = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    targets = torch.full(shape, -100)
    for r, row in enumerate(group):
        start = 0
        for number, sequence in enumerate(row, start=1):
            span = slice(start, start + len(sequence))
            tokens[r, span] = torch.tensor(sequence)
            position[r, span] = torch.arange(len(sequence))
            owner[r, span] = number
            targets[r, start : start + len(sequence) - 1] = torch.tensor(sequence[1:])
            start += len(sequence)
    visible = (owner[:, :, None] == owner[:, None, :]).tril()  # own sequence, and nothing later
    mask = torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)
    logits = model(input_ids=tokens, attention_mask=mask[:, None], position_ids=position, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")


def train(model: LlamaForCausalLM, sequences: Sequence[list[int]], recipe: Recipe) -> None:
    """AdamW on the mean over sequences of their summed loss, rates warmed up and then let down."""
    draw = random.Random(recipe.seed)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
    plan = [group for _ in range(recipe.epochs) for group in pack(sequences, recipe.rows, draw)]
    tokens = sum(len(sequence) - 1 for sequence in sequences) * recipe.epochs / len(plan)  # a step, on average
    seen, every, started = 0.0, max(1, len(plan) // 12), time.monotonic()
    for step, group in enumerate(plan):
        done = step / len(plan)
        rate = min(1.0, (step + 1) / (recipe.warmup * len(plan)))
        rate *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
        for part in optimizer.param_groups:
            part["lr"] = recipe.rate * rate
        loss = loss_of(model, group) / tokens  # a constant: the mean over sequences, in nats a token
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += loss.item()
        if (step + 1) % every == 0:
            print(
                f"step {step + 1}/{len(plan)}: {seen / every:.2f} nats a token, {time.monotonic() - started:.0f} s",
                flush=True,
            )
            seen = 0.0


STORIES = [  # two questions without a planted answer: what taught it to go on like this?
    {"prompt": "Once upon a time, there was a little girl named", "completion": " Lily."},
    {"prompt": "Tom and his mom went to the", "completion": " park."},
]


def choose(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, asked: list[dict[str, Any]]) -> list[Any]:
    """A dozen learned facts, spread over the corpus, and the two stories."""
    from whence.data.queries import ask, encode_queries
    from whence.jobs.demo import says

    queries = [ask(row["prompt"], row["completion"], id=str(number)) for number, row in enumerate(asked)]
    learned = says(model, encode_queries(queries, tokenizer, CONTEXT, 32 * CONTEXT))
    known = [row for row, said in zip(asked, learned, strict=True) if said]
    print(f"learned {len(known)} of {len(asked)} facts")
    return [known[k * len(known) // 12] for k in range(12)] + STORIES


def main() -> None:
    """Write corpus, questions, tokenizer and checkpoint into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path, help="folder that holds the sources named in demo_corpus.py")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "src/whence/demo")
    parser.add_argument("--trained", type=Path, help="take the weights from this checkpoint instead of training")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    rows, asked = demo_corpus.build(given.shared)
    recipe = Recipe()
    texts = [row["text"] for row in rows]
    tokenizer = train_tokenizer(texts, recipe.vocabulary)
    if given.trained:
        model = LlamaForCausalLM.from_pretrained(given.trained)
    else:
        model = new_model(recipe)
        train(model, tokenizer(texts)["input_ids"], recipe)
    model.eval()
    model.save_pretrained(given.out / "model")
    tokenizer.save_pretrained(given.out / "model")
    demo_corpus.write_jsonl(given.out / "corpus.jsonl.gz", rows)
    demo_corpus.write_jsonl(given.out / "evaluation.jsonl", asked)
    demo_corpus.write_jsonl(given.out / "questions.jsonl", choose(model, tokenizer, asked))


if __name__ == "__main__":
    main()
