"""Which layers are fitted together. No number depends on it; see docs/adr/0008-layer-groups.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whence.artifacts.fingerprint import text_fingerprint
from whence.errors import InvalidSetting
from whence.layers import TrackedLayer
from whence.layers.groups import Group, by_reads, divided


@dataclass(frozen=True, slots=True)
class LayerGroups:
    """A division of the tracked layers, by name."""

    names: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def count(cls, layers: Sequence[TrackedLayer], count: int) -> LayerGroups:
        """So many groups, about equally large; never more than there are tensors that layers read."""
        return cls.of(divided(layers, count))

    @classmethod
    def of(cls, groups: Sequence[Sequence[TrackedLayer]]) -> LayerGroups:
        return cls(tuple(tuple(layer.name for layer in group) for group in groups))

    def largest(self, layers: Sequence[TrackedLayer]) -> int:
        """Weights of the largest group."""
        weights = {layer.name: layer.weights for layer in layers}
        return max(sum(weights.get(name, 0) for name in group) for group in self.names)

    def among(self, layers: Sequence[TrackedLayer]) -> list[Group]:
        """The groups as layers.

        Raises:
            InvalidSetting: If they are not these layers, each once, or layers that read one tensor are parted.
        """
        where = {name: number for number, group in enumerate(self.names) for name in group}
        if sorted(where) != sorted(layer.name for layer in layers) or sum(map(len, self.names)) != len(layers):
            raise InvalidSetting(
                f"these {len(self)} groups are not the {len(layers)} layers that are fitted, each once"
            )
        for members in by_reads(layers).values():
            if len({where[layer.name] for layer in members}) > 1:
                parted = " and ".join(layer.name for layer in members)
                raise InvalidSetting(f"{parted} read the same tensor, and can only be fitted together")
        return [tuple(layer for layer in layers if where[layer.name] == number) for number in range(len(self))]


def key_of(layers: Group) -> str:
    """What is filed under a group's name is of no other group."""
    return text_fingerprint("\n".join(layer.name for layer in layers))[:12]
