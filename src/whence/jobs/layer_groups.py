"""Which layers are fitted together: a division that every process of a fit, and every later call, keeps to.

    curvature/parts/groups.json     {"asked": …, "groups": [[name, …], …]}

No number depends on it. But partial sums of one division are of no use to another, so the first that was made for
what is asked (so many groups, or so much memory) is the one that is gone on with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from whence.artifacts.atomic import write_text
from whence.artifacts.fingerprint import text_fingerprint
from whence.errors import InvalidSetting
from whence.layers import TrackedLayer
from whence.layers.groups import Group, by_reads, divided, in_order
from whence.world import World

NAME = "groups.json"


@dataclass(frozen=True, slots=True)
class LayerGroups:
    """A division of the tracked layers by name, and what it was made for."""

    names: tuple[tuple[str, ...], ...]
    asked: str

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def count(cls, layers: Sequence[TrackedLayer], count: int) -> LayerGroups:
        """So many groups, about equally large; never more than there are tensors that layers read."""
        return cls.of(divided(layers, count), f"{count} groups")

    @classmethod
    def of(cls, groups: Sequence[Group], asked: str) -> LayerGroups:
        return cls(tuple(tuple(layer.name for layer in group) for group in groups), asked)

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
        return [in_order(layers, [layer for layer in layers if where[layer.name] == k]) for k in range(len(self))]

    def agreed(self, folder: Path | None, world: World) -> LayerGroups:
        """This division, or the one that others made for the same before."""
        if folder is None:
            return self
        path = folder / "parts" / NAME
        if world.main and (kept := _read(path)) != self and (kept is None or kept.asked != self.asked):
            write_text(path, json.dumps({"asked": self.asked, "groups": self.names}, indent=1) + "\n")
        world.barrier()
        return _read(path) or self


def key_of(layers: Group) -> str:
    """What is filed under a group's name is of no other group."""
    return text_fingerprint("\n".join(layer.name for layer in layers))[:12]


def _read(path: Path) -> LayerGroups | None:
    try:
        page = json.loads(path.read_text(encoding="utf-8"))
        return LayerGroups(tuple(map(tuple, page["groups"])), page["asked"])
    except (OSError, ValueError, KeyError, TypeError):  # not there, or no longer whole: it only saves work
        return None
