"""Small things every job over work units does: count aloud, and keep processes in step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from whence.errors import InvalidSetting
from whence.jobs.log import Log
from whence.world import World

T = TypeVar("T")


class Unfinished(Exception):  # noqa: N818 (not an error: the others' units are not there yet)
    """A stage whose own units are done while others, computed elsewhere, are missing."""


def count_units(log: Log, name: str, total: int, *, done: int = 0) -> Callable[[int], None]:
    """A callback for a unit's number that advances a step; ``done`` units were there already."""
    finished = done
    log.step(name, finished, total)

    def advance(_: int) -> None:
        nonlocal finished
        finished += 1
        log.step(name, finished, total)

    return advance


def check_units(units: range | None, count: int) -> None:
    """Refuse work units that are not there.

    Raises:
        InvalidSetting: Naming how many there are.
    """
    if units is not None and not 0 <= units.start < units.stop <= count:
        raise InvalidSetting(
            f"units {units.start}:{units.stop} are not all there: there are {count} units, 0:{count}",
            hint=f"give a range within 0:{count}, or leave --units out",
        )


def together(world: World, action: Callable[[], T]) -> T:
    """Do something to a shared folder in the first process, then in the others, which find it done."""
    if world.main:
        result = action()
        world.barrier()
        return result
    world.barrier()
    return action()
