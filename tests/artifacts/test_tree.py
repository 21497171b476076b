"""A sum over units has the same bits whoever computed what, in which order, and however often it was cut short."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from whence.artifacts import TreeSum
from whence.artifacts.tree import Node
from whence.errors import ArtifactError


def leaf(unit: int) -> dict[str, Tensor]:
    """Numbers of very different sizes, so that another order of addition gives other bits."""
    generator = torch.Generator().manual_seed(unit)
    scale = 10.0 ** torch.randint(-6, 7, (), generator=generator)
    return {"a": torch.randn(3, 2, generator=generator) * scale, "count": torch.tensor(unit + 1)}


def straight(units: int) -> dict[str, Tensor]:
    """The tree by its definition: halves of the smallest power of two that covers the units."""

    def value(start: int, size: int) -> dict[str, Tensor]:
        if size == 1:
            return leaf(start)
        left = value(start, size // 2)
        if start + size // 2 >= units:
            return left
        right = value(start + size // 2, size // 2)
        return {name: left[name] + right[name] for name in left}

    size = 1
    while size < units:
        size *= 2
    return value(0, size)


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Cut(BaseException):
    """A kill: no handler of ours may turn it into anything else."""


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[tuple[range, int | None]]]:
    """A number of units and a list of (range of units, after how many file operations the process dies)."""
    units = draw(st.integers(1, 20))
    runs = []
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, units - 1))
        stop = draw(st.integers(start + 1, units))
        runs.append((range(start, stop), draw(st.none() | st.integers(0, 25))))
    return units, runs


@given(histories())
@settings(deadline=None, max_examples=60)
def test_any_interruption_order_and_number_of_workers_give_the_same_bits(history):
    units, runs = history
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for mine, dies_after in runs:
            operations = iter(range(10**6) if dies_after is None else range(dies_after))
            with patch.context() as dying:
                for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "fsync")):
                    real = getattr(owner, name)

                    def step(*args, real=real, operations=operations, **kwargs):
                        if next(operations, None) is None:
                            raise Cut
                        return real(*args, **kwargs)

                    dying.setattr(owner, name, step)
                with suppress(Cut):
                    TreeSum(folder, "sum", units).run(mine, leaf)
        tree = TreeSum(folder, "sum", units)
        for gap in tree.missing():
            tree.run(gap, leaf)
        assert same_bits(tree.total(), straight(units))


@given(units=st.integers(1, 40), cuts=st.sets(st.integers(1, 39)))
@settings(deadline=None, max_examples=40)
def test_memory_gives_the_bits_of_the_folder(units, cuts):
    ends = [0, *sorted(cut for cut in cuts if cut < units), units]
    tree = TreeSum(None, "sum", units)
    for start, stop in reversed(list(pairwise(ends))):
        tree.run(range(start, stop), leaf)
    assert same_bits(tree.total(), straight(units))


def test_a_finished_unit_is_never_computed_again(tmp_path):
    done: list[int] = []

    def fails_at_five(unit: int) -> dict[str, Tensor]:
        if unit == 5:
            raise KeyboardInterrupt
        return leaf(unit)

    with pytest.raises(KeyboardInterrupt):
        TreeSum(tmp_path, "sum", 8).run(range(8), fails_at_five, done.append)
    assert TreeSum(tmp_path, "sum", 8).missing() == [range(5, 8)]
    TreeSum(tmp_path, "sum", 8).run(range(8), leaf, done.append)
    assert done == list(range(8))


@pytest.mark.parametrize("units", [7, 16, 33])
def test_the_disk_holds_a_logarithm_of_the_units(tmp_path, units):
    most = 0

    def counting(unit: int) -> dict[str, Tensor]:
        nonlocal most
        most = max(most, len(list(tmp_path.iterdir())))
        return leaf(unit)

    tree = TreeSum(tmp_path, "sum", units)
    tree.run(range(units), counting)
    assert most <= units.bit_length()
    assert [p.name for p in tmp_path.iterdir()] == [f"sum-000000-{units:06d}.safetensors"]
    tree.clear()
    assert list(tmp_path.iterdir()) == []


def test_sums_in_one_folder_do_not_mix(tmp_path):
    TreeSum(tmp_path, "moments", 2).run(range(2), leaf)
    TreeSum(tmp_path, "moments-1", 2).run(range(1), leaf)
    assert TreeSum(tmp_path, "moments", 2).missing() == []
    assert TreeSum(tmp_path, "moments-1", 2).missing() == [range(1, 2)]


def test_settling_leaves_one_sum_of_the_same_bits(tmp_path):
    for mine in (range(7, 11), range(0, 3), range(3, 7)):
        TreeSum(tmp_path, "sum", 11).run(mine, leaf)
    before = TreeSum(tmp_path, "sum", 11).total()
    TreeSum(tmp_path, "sum", 11).settle()
    assert [p.name for p in tmp_path.iterdir()] == ["sum-000000-000011.safetensors"]
    assert same_bits(TreeSum(tmp_path, "sum", 11).total(), before)


def test_a_total_names_the_units_that_are_missing(tmp_path):
    tree = TreeSum(tmp_path, "eigenvalues", 8)
    tree.run(range(2, 4), leaf)
    with pytest.raises(ArtifactError, match=r"eigenvalues: 6 of 8 units are missing \(0:2, 4:8\)"):
        tree.total()


def test_parts_of_another_plan_are_refused(tmp_path):
    TreeSum(tmp_path, "sum", 6).run(range(6), leaf)
    with pytest.raises(ArtifactError, match="another plan"):
        TreeSum(tmp_path, "sum", 9).total()


@pytest.mark.parametrize("units", range(1, 36))
def test_halves_and_parents_agree(units):
    waiting = [Node(0, units)]
    while waiting:
        node = waiting.pop()
        if node.stop - node.start == 1:
            continue
        left, right = node.halves()
        assert left.parent(units) == (node, right)
        assert right.parent(units) == (node, left)
        waiting += [left, right]
