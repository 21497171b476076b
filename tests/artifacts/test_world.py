"""Processes share out units without gap or overlap, and alone nothing is started."""

from __future__ import annotations

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from whence.errors import InvalidSetting
from whence.world import World


@given(st.integers(0, 60), st.integers(1, 20))
def test_shards_are_a_partition_into_runs(units, size):
    shards = [World(rank, size).shard(units) for rank in range(size)]
    assert [unit for shard in shards for unit in shard] == list(range(units))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_the_launcher_numbers_processes(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert World.current() == World(0, 1)
    World.current().barrier()
    assert not dist.is_initialized()
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert World.current() == World(2, 4)
    assert not World.current().main
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidSetting, match="torchrun"):
        World.current()
