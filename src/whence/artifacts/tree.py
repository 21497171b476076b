r"""Sums over work units along one fixed binary tree, so that the same bits come out however the work went.

Float addition is not associative: a sum is the same only if its brackets are. Node (level k, index j) covers
the units [j·2ᵏ, min((j+1)·2ᵏ, U)), and its value is its left half plus its right half, left first:

              [0,6)
             /     \
         [0,4)     [4,6)          a node without a right half is its left half: [4,6) has no sibling, and
         /   \      / \           so rises unchanged to meet [0,4)
     [0,2) [2,4)   4   5
      / \   / \
     0   1 2   3

A process writes only nodes that lie wholly inside its own range of units, a parent before its children are
deleted. So at any moment each finished unit is under exactly one node once leftovers of an interruption are
removed, and the disk holds O(workers · log units) partial sums. Present means done: resuming is going on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from whence.artifacts.atomic import make_folder
from whence.artifacts.tensors import load_tensors, save_tensors
from whence.errors import ArtifactError

Sums = dict[str, Tensor]


@dataclass(frozen=True, order=True, slots=True)
class Node:
    """The units [start, stop) of a tree over ``units`` units."""

    start: int
    stop: int

    def parent(self, units: int) -> tuple[Node, Node]:
        """The node above, and this node's sibling.

        Example:
            >>> Node(4, 6).parent(6)
            (Node(start=0, stop=6), Node(start=0, stop=4))
        """
        size = 1
        while size < self.stop - self.start or self.start % size:
            size *= 2
        while True:  # past the levels at which the right half is empty
            left = self.start - self.start % (2 * size)
            whole = Node(left, min(left + 2 * size, units))
            if whole != self:
                break
            size *= 2
        middle = left + size
        return whole, Node(left, middle) if self.start == middle else Node(middle, whole.stop)

    def halves(self) -> tuple[Node, Node]:
        """The two nodes below; only of a node of more than one unit."""
        size = 1
        while 2 * size < self.stop - self.start:
            size *= 2
        return Node(self.start, self.start + size), Node(self.start + size, self.stop)

    def __contains__(self, other: Node) -> bool:
        return self.start <= other.start and other.stop <= self.stop


class TreeSum:
    """A sum of named tensors over units ``0 .. units - 1``, in a folder or in memory.

    Args:
        folder: Where partial sums lie; None keeps them in memory. It must belong to one run: see `claim`.
        name: What is summed; several sums may share a folder.

    Example:
        >>> import torch
        >>> tree = TreeSum(None, "moments", units=3)
        >>> tree.run(range(3), lambda unit: {"x": torch.tensor(float(unit))})
        >>> tree.total()
        {'x': tensor(3.)}
    """

    def __init__(self, folder: Path | str | None, name: str, units: int) -> None:
        assert units > 0, "a sum over no units"
        self.folder = None if folder is None else Path(folder)
        self.name = name
        self.units = units
        self._memory: dict[Node, Sums] = {}

    def run(self, mine: range, leaf: Callable[[int], Sums], progress: Callable[[int], None] | None = None) -> None:
        """Compute the units of ``mine`` that are not done yet, merging as siblings become complete.

        Args:
            mine: A contiguous range of units that no other process works on now.
            leaf: Unit → its sums, from nothing. Names and shapes are the same for every unit.
            progress: Called with a unit's number once its sum is safe.

        Raises:
            StorageError: If the disk refuses; units done so far are kept.
        """
        assert mine.step == 1, "a contiguous range"
        assert not mine or 0 <= mine.start < mine.stop <= self.units, "units outside the plan"
        within = Node(mine.start, mine.stop)
        present = self._settle(within)
        done = set(_covered(present))
        for unit in mine:
            if unit in done:
                continue
            self._rise(Node(unit, unit + 1), dict(leaf(unit)), within, present)
            if progress is not None:
                progress(unit)

    def missing(self) -> list[range]:
        """The units not done yet, as ranges."""
        gaps: list[range] = []
        at = 0
        for node in [*_outermost(self._nodes()), Node(self.units, self.units)]:
            if node.start > at:
                gaps.append(range(at, node.start))
            at = node.stop
        return gaps

    def total(self) -> Sums:
        """The sum over all units; changes nothing on disk. From a folder, tensors come back on the CPU.

        Raises:
            ArtifactError: If units are missing, naming them.
        """
        gaps = self.missing()
        if gaps:
            listed = ", ".join(f"{gap.start}:{gap.stop}" for gap in gaps[:5]) + (", …" if len(gaps) > 5 else "")
            raise ArtifactError(
                f"{self.name}: {sum(map(len, gaps))} of {self.units} units are missing ({listed})",
                hint="run the same command again, with these --units or none",
            )
        return self._value(Node(0, self.units), set(self._nodes()))

    def settle(self) -> None:
        """Merge whatever siblings lie side by side, so that a total is read and not computed by each who asks.

        For one process, while no other works on any unit.

        Raises:
            StorageError: If the disk refuses; nothing is lost.
        """
        self._settle(Node(0, self.units))

    def clear(self) -> None:
        """Remove every partial sum, once the total is kept elsewhere."""
        for node in self._nodes():
            self._delete(node)
        self._tidy(Node(0, self.units))

    def _settle(self, within: Node) -> set[Node]:
        """Remove leftovers, merge what other ranges left side by side, and tell what is there."""
        self._tidy(within)
        present = set(self._nodes())
        for node in sorted(present):
            if node in present and node in within:
                self._rise(node, None, within, present)
        return present

    def _rise(self, node: Node, value: Sums | None, within: Node, present: set[Node]) -> None:
        """Merge a node with its sibling, and that with its own, as far as they are there; keep the last."""
        first, below = node, []
        while node != Node(0, self.units):
            parent, sibling = node.parent(self.units)
            if sibling not in present or parent not in within:
                break
            below += [node, sibling]
            value = self._take(node) if value is None else value
            left, right = (value, self._take(sibling)) if node < sibling else (self._take(sibling), value)
            node, value = parent, _add(left, right)
        if value is not None and (node != first or first not in present):
            self._keep(node, value)
            present.add(node)
            for child in below:
                if child in present:
                    self._delete(child)
                    present.discard(child)

    def _value(self, node: Node, present: set[Node]) -> Sums:
        if node in present:
            return self._read(node)
        left, right = node.halves()
        return _add(self._value(left, present), self._value(right, present))

    def _tidy(self, within: Node) -> None:
        """Remove what an interruption left: children of a node that is there, and half-written files."""
        kept = set(_outermost(self._nodes()))
        for node in self._nodes():
            if node not in kept and node in within:
                self._delete(node)
        if self.folder is not None:
            make_folder(self.folder)
            for path in self.folder.glob(f".{self.name}-*.tmp"):
                half = _parse(path.name.removeprefix("."), self.name)
                if half is not None and half in within:
                    path.unlink(missing_ok=True)

    def _nodes(self) -> list[Node]:
        """The partial sums that are there."""
        if self.folder is None:
            return sorted(self._memory)
        found = [_parse(path.name, self.name) for path in self.folder.glob(f"{self.name}-*.safetensors")]
        nodes = sorted(node for node in found if node is not None)
        for node in nodes:
            if not _belongs(node, self.units):
                raise ArtifactError(
                    f"{self._path(node)} is a partial sum of another plan, not of one with {self.units} units",
                    hint="remove the folder, or give another one",
                )
        return nodes

    def _path(self, node: Node) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.name}-{node.start:06d}-{node.stop:06d}.safetensors"

    def _keep(self, node: Node, value: Sums) -> None:
        if self.folder is None:
            self._memory[node] = value
        else:
            save_tensors(self._path(node), value, {"units": str(self.units)})

    def _read(self, node: Node) -> Sums:
        return dict(self._memory[node]) if self.folder is None else load_tensors(self._path(node))

    def _take(self, node: Node) -> Sums:
        """Read a node that is about to be merged away; memory lets go of it at once."""
        return self._memory.pop(node) if self.folder is None else self._read(node)

    def _delete(self, node: Node) -> None:
        if self.folder is None:
            self._memory.pop(node, None)
        else:
            self._path(node).unlink(missing_ok=True)


def _add(left: Sums, right: Sums) -> Sums:
    """Left plus right. Both are emptied on the way, so that memory holds two sums and a tensor, not three sums."""
    assert left.keys() == right.keys(), "units must give the same names"
    merged: Sums = {}
    for name in list(left):
        a, b = left.pop(name), right.pop(name)
        merged[name] = a.to(b.device) + b if b.device.type != "cpu" else a + b.to(a.device)
    return merged


def _outermost(nodes: list[Node]) -> Iterator[Node]:
    """The nodes that no other covers, from left to right."""
    stop = 0
    for node in sorted(nodes, key=lambda n: (n.start, -n.stop)):
        if node.start >= stop:
            yield node
            stop = node.stop


def _covered(nodes: set[Node]) -> Iterator[int]:
    for node in nodes:
        yield from range(node.start, node.stop)


def _belongs(node: Node, units: int) -> bool:
    """Whether the tree over ``units`` units has this node."""
    if node.stop > units or node.start >= node.stop:
        return False
    if node == Node(0, units) or node.stop - node.start == 1:
        return True
    size = 1
    while size < node.stop - node.start:
        size *= 2
    return node.start % size == 0 and node.stop == min(node.start + size, units)


def _parse(name: str, prefix: str) -> Node | None:
    match = re.match(re.escape(prefix) + r"-(\d+)-(\d+)\.safetensors", name)
    return Node(int(match[1]), int(match[2])) if match else None
