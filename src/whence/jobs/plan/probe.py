r"""What a pass of this model takes on this machine, learned from made-up tokens: no training text is run.

    operations   PyTorch's counter on three tiny batches gives the three coefficients of n(a·t + b·t²) + h·scored
    seconds      a batch of a planned shape, and each layer's sink on made-up traces of that shape
    bytes        every storage that is alive while such a batch runs, at its highest

A batch too long to try at once is tried with fewer sequences and scaled.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from whence.jobs.plan.costs import Shape
from whence.types import Batch

TRIAL = 0.5
"""Seconds that a plain pass over a batch on trial should take."""
LONG = 0.5
"""Seconds after which a call is not repeated to be timed better."""


@dataclass(frozen=True, slots=True)
class Operations:
    """Operations of a pass over a batch: linear layers a position, attention a pair of positions, the head."""

    position: float
    pair: float
    scored: float = 0.0

    def of(self, shape: Shape) -> float:
        return shape.n * (self.position * shape.t + self.pair * shape.t**2) + self.scored * shape.scored


@dataclass(frozen=True, slots=True)
class Seconds:
    """One call: by the clock on the wall, and of the processor (on an accelerator both are the wall's)."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(self.wall * factor, self.cpu * factor)


def made_up(shape: Shape, model: nn.Module) -> Batch:
    """A batch of that shape with random tokens; as many positions scored as it says, from the left.

    Of a padded one the last position of all is padding: one is enough for the masks that any would bring.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(vocabulary(model), (shape.n, shape.t), generator=generator)
    scored = torch.zeros(shape.n, shape.t, dtype=torch.bool)
    left = shape.scored
    for t in range(shape.t - 1):
        rows = min(left, shape.n)
        scored[:rows, t] = True
        left -= rows
    real = torch.ones(shape.n, shape.t, dtype=torch.bool)
    real[-1, -1] = not shape.padded
    batch = Batch(
        ids=torch.arange(shape.n),
        inputs=tokens,
        targets=torch.where(scored, tokens.roll(-1, 1), 0),
        real=real,
        scored=scored,
        document=torch.arange(shape.n),
        offset=torch.zeros(shape.n, dtype=torch.int64),
    )
    return batch.to(device)


@contextmanager
def weights_wanted(model: nn.Module) -> Iterator[None]:
    """Every weight's gradient is formed inside, as in training."""
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in wanted:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


def vocabulary(model: nn.Module) -> int:
    """How many token ids a model knows."""
    size = getattr(getattr(model, "config", None), "vocab_size", None)
    if isinstance(size, int):
        return size
    return next(module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding))


def operations(run: Callable[[Batch], Any], model: nn.Module) -> Operations:
    """Count a pass on three tiny batches."""
    shapes = [Shape(1, 8, 7), Shape(1, 16, 15), Shape(1, 16, 5)]
    run(made_up(shapes[0], model))  # what happens on first use only is not part of a pass
    counted = []
    for shape in shapes:
        batch = made_up(shape, model)
        with CountOperations() as counter:
            run(batch)
        counted.append(float(counter.total))
    per_scored = (counted[1] - counted[2]) / 10
    eight, sixteen = counted[0] - 7 * per_scored, counted[1] - 15 * per_scored
    pair = (sixteen - 2 * eight) / (256 - 128)
    return Operations((eight - 64 * pair) / 8, pair, per_scored)


def tried(shape: Shape, each: float, budget: float) -> Shape:
    """The most sequences of that length that ``budget`` operations allow, at ``each`` a sequence; one at the least.

    One sequence that would take more than ten budgets is tried shorter.
    """
    rows = max(1, min(shape.n, int(budget / max(each, 1.0))))
    cut = min(1.0, 10 * budget / max(each, 1.0))
    if cut == 1.0:
        return shape.rows(rows)
    return Shape(1, max(16, int(shape.t * cut)), max(15, int(shape.scored / shape.n * cut)), shape.padded)


def timed(run: Callable[[], Any], device: torch.device, repeats: int = 2) -> Seconds:
    """The quickest of a few calls."""
    wall, cpu = [], []
    for _ in range(1 + repeats):
        wait(device)
        began, worked = time.perf_counter(), time.process_time()
        run()
        wait(device)
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - worked)
        if sum(wall) > LONG and (len(wall) > 1 or wall[0] > 2 * LONG):
            break
    return Seconds(min(wall), min(wall if device.type == "cuda" else cpu))


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(run: Callable[[], Any], device: torch.device) -> int:
    """Bytes alive at the highest moment of a call, above those alive before it."""
    if device.type == "cuda":
        wait(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        wait(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    with LiveBytes() as live:
        run()
    return live.highest


def counted_operations(func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> int:
    """Of one call; 0 where it is no matrix product."""
    packet = torch.ops.aten.addmm if func._overloadpacket is torch.ops.aten.addmm_ else func._overloadpacket
    return flop_registry[packet](*args, **kwargs, out_val=result) if packet in flop_registry else 0


class CountOperations(TorchDispatchMode):
    """Counts operations of matrix products as ``FlopCounterMode`` does, which cannot look inside a chunked loss."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.total += counted_operations(func, args, kwargs or {}, result)
        return result


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of every storage made inside, until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.now = 0
        self.highest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {leaf.untyped_storage()._cdata for leaf in _tensors((*args, *(kwargs or {}).values()))}
        result = func(*args, **(kwargs or {}))
        for leaf in _tensors((result,)):
            self._meet(leaf.untyped_storage(), given)
        return result

    def _meet(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key = storage._cdata
        if key in given or key in self.alive:
            return
        self.alive[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.highest = max(self.highest, self.now)
        weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        self.now -= self.alive.pop(key, 0)


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    """The tensors among an operation's arguments or results, those in lists too."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def resident(device: torch.device) -> int:
    """Bytes that this process holds now: of main memory, or of the accelerator's."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    except (OSError, StopIteration):  # not Linux: the highest so far is the nearest there is
        import resource
        import sys

        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size * 1024
