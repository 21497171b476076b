"""Tiny data in memory: sequences of varied lengths, table rows, and any way of cutting them into batches.

Examples are `types.Batch`es of one row without padding: what the dense oracle reads, and what `collate`
pads into the batches that the code under test reads.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from whence.types import TENSORS, Batch, Unit


def example(
    inputs: Tensor,
    targets: Tensor,
    scored: Sequence[bool] | None = None,
    *,
    number: int = 0,
    document: int | None = None,
    offset: int = 0,
) -> Batch:
    """One sequence ``[t]`` (or one row ``[i]`` of another task, with one position) as a batch of one."""
    positions = 1 if scored is None else len(scored)
    return Batch(
        ids=torch.tensor([number]),
        inputs=inputs[None],
        targets=targets[None],
        real=torch.ones(1, positions, dtype=torch.bool),
        scored=torch.tensor([scored]) if scored is not None else torch.ones(1, 1, dtype=torch.bool),
        document=torch.tensor([number if document is None else document]),
        offset=torch.tensor([offset]),
    )


def sequence(
    tokens: Sequence[int], prompt: int = 1, *, number: int = 0, document: int | None = None, offset: int = 0
) -> Batch:
    """Tokens of which the first ``prompt`` are given and the rest scored; the last position predicts nothing."""
    tokens_ = torch.tensor(tokens)
    scored = [prompt - 1 <= t < len(tokens) - 1 for t in range(len(tokens))]
    targets = torch.where(torch.tensor(scored), tokens_.roll(-1), 0)
    return example(tokens_, targets, scored, number=number, document=document, offset=offset)


def sequences(count: int = 6, *, vocab: int = 7, longest: int = 6, prompts: bool = True, seed: int = 0) -> list[Batch]:
    """Sequences of 2 to ``longest`` random tokens; with ``prompts``, every second one begins unscored."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for number in range(count):
        length = 2 + (number * 2 + 3) % (longest - 1)
        tokens = torch.randint(vocab, (length,), generator=draw).tolist()
        prompt = 1 + (length - 1) // 2 if prompts and number % 2 else 1
        made.append(sequence(tokens, prompt, number=number, document=100 + number))
    return made


def rows(count: int = 8, *, inputs: int = 4, classes: int = 3, regression: bool = False, seed: int = 0) -> list[Batch]:
    """Rows of a table with a class label, or with ``classes`` numbers to predict."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, inputs, generator=draw, dtype=torch.float64)
    y = (
        torch.randn(count, classes, generator=draw, dtype=torch.float64)
        if regression
        else torch.randint(classes, (count,), generator=draw)
    )
    return [example(x[n], y[n], number=n) for n in range(count)]


def images(count: int = 6, *, channels: int = 2, size: tuple[int, int] = (6, 5), classes: int = 3) -> list[Batch]:
    """Pictures of noise with a class label."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(count, channels, *size, generator=draw, dtype=torch.float64)
    y = torch.randint(classes, (count,), generator=draw)
    return [example(x[n], y[n], number=n) for n in range(count)]


def collate(examples: Sequence[Batch], padding: int = 0, fill: int = 0) -> Batch:
    """One batch of many, padded on the right to the longest plus ``padding``; padding holds token ``fill``.

    Rows of a table have one position and are never padded.
    """
    table = examples[0].inputs.is_floating_point()
    longest = 1 if table else max(one.real.shape[1] for one in examples) + padding

    def join(field: str, value: int) -> Tensor:
        parts = [getattr(one, field) for one in examples]
        if parts[0].dim() < 2 or table:
            return torch.cat(parts)
        return torch.cat([functional.pad(part, (0, longest - part.shape[1]), value=value) for part in parts])

    values = {"inputs": fill}
    return Batch.of(*(join(field, values.get(field, 0)) for field in TENSORS))


@dataclass(frozen=True)
class TinyData:
    """`types.Data` over a list of examples, cut any way a law asks for.

    Args:
        examples: Batches of one, numbered 0, 1, … in this order.
        batch_size: How many share a batch; batches never cross a unit.
        cuts: Where units begin (after 0), as sequence counts; None makes units of three sequences.
        padding: Positions of padding beyond the longest of a batch.
        order: The order in which sequences are dealt to units; None is as numbered.
    """

    examples: Sequence[Batch]
    batch_size: int = 3
    cuts: Sequence[int] | None = None
    padding: int = 0
    order: Sequence[int] | None = None
    fill: int = 0

    @property
    def sequences(self) -> int:
        return len(self.examples)

    @property
    def members(self) -> list[list[int]]:
        """The sequence numbers of each unit."""
        order = list(range(self.sequences)) if self.order is None else list(self.order)
        edges = [0, *(range(3, self.sequences, 3) if self.cuts is None else self.cuts), self.sequences]
        return [order[a:b] for a, b in itertools.pairwise(edges)]

    @property
    def units(self) -> list[Unit]:
        return [
            Unit(number, len(unit), sum(int(self.examples[n].real.sum()) for n in unit))
            for number, unit in enumerate(self.members)
        ]

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for one in self.examples:
            digest.update(repr((one.inputs.tolist(), one.targets.tolist(), one.scored.tolist())).encode())
        return digest.hexdigest()[:16]

    def batches(self, unit: int) -> Iterator[Batch]:
        yield from self.gather(self.members[unit])

    def gather(self, sequences: Sequence[int]) -> Iterator[Batch]:
        for start in range(0, len(sequences), self.batch_size):
            chosen = [self.examples[n] for n in sequences[start : start + self.batch_size]]
            yield collate(chosen, self.padding, self.fill)

    def name(self, sequence: int) -> str:
        return f"tiny, sequence {sequence}"
