"""The processes of a run. Alone, `World` does nothing; under ``torchrun`` it shares out the work units.

What processes compute travels through the run's folder (see `artifacts.tree`), so a barrier is the only
collective here, and a SLURM array with ``--units a:b`` needs not even that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from whence.errors import InvalidSetting


@dataclass(frozen=True, slots=True)
class World:
    """One process among ``size``.

    Example:
        >>> [list(World(rank, 3).shard(8)) for rank in range(3)]
        [[0, 1], [2, 3, 4], [5, 6, 7]]
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> World:
        """This process as ``torchrun`` numbered it, or one alone.

        Raises:
            InvalidSetting: If RANK and WORLD_SIZE do not fit together.
        """
        rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not (rank.isdigit() and size.isdigit() and int(rank) < int(size)):
            raise InvalidSetting(f"RANK={rank} and WORLD_SIZE={size} do not fit together", hint="start with torchrun")
        return cls(int(rank), int(size))

    @property
    def main(self) -> bool:
        """Whether this is the process that writes what is written once."""
        return self.rank == 0

    def shard(self, units: int) -> range:
        """This process's units: contiguous, and as many as another's or one more."""
        return range(self.rank * units // self.size, (self.rank + 1) * units // self.size)

    def barrier(self) -> None:
        """Wait until every process is here. The first call joins the processes."""
        if self.size == 1:
            return
        if not dist.is_initialized():
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        dist.barrier()
