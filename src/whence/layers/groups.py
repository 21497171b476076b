"""Layers that read the same tensor stay together; groups of them are what a pass may be about.

A pass over the text pushes traces of the layers that it is told of, and of no others. What it pushes does not depend
on which those are: forward computes the same, and backward adds gradients in the order in which they were made,
whether or not more of them are wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from whence.layers.adapter import TrackedLayer

Group = tuple[TrackedLayer, ...]
"""Layers, in the model's order."""


def by_reads(layers: Iterable[TrackedLayer]) -> dict[str, list[TrackedLayer]]:
    """Layers by the tensor they read."""
    found: dict[str, list[TrackedLayer]] = {}
    for layer in layers:
        found.setdefault(layer.reads, []).append(layer)
    return found


def in_order(layers: Sequence[TrackedLayer], chosen: Iterable[TrackedLayer]) -> Group:
    """Some of the layers, in the order of all of them."""
    names = {layer.name for layer in chosen}
    return tuple(layer for layer in layers if layer.name in names)


def divided(layers: Sequence[TrackedLayer], count: int) -> list[Group]:
    """So many groups of about equal numbers of weights; fewer, where fewer tensors are read.

    Example:
        >>> from whence.layers import TrackedLayer
        >>> some = [TrackedLayer(name, None, None, 4, 4, False, reads=name[0]) for name in ("a1", "b", "c", "a2")]
        >>> [[layer.name for layer in group] for group in divided(some, 2)]
        [['a1', 'a2'], ['b', 'c']]
    """
    left = list(by_reads(layers).values())
    found: list[Group] = []
    for remaining in range(min(count, len(left)), 0, -1):
        share = sum(layer.weights for members in left for layer in members) / remaining
        taken: list[TrackedLayer] = []
        while left and len(left) >= remaining and sum(layer.weights for layer in taken) < share:
            taken += left.pop(0)
        found.append(in_order(layers, taken))
    return found
