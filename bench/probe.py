"""What a clock does not tell: peak memory and operations of every pass, in a process of their own.

    python -m bench.probe ours bench

Peak memory is told above the process with the model and the data loaded and every code path warm, so it
includes what is resident during the pass (factors, prepared queries), as the machine must hold it.
Operations are those of matrix products, counted as they run at two small sizes of data and drawn
out to the full one: they are a + b·sequences whatever the batch. Ours alone are counted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MODULES = {"whence": "bench.ours", "kronfluence": "bench.peers.kronfluence", "bergson": "bench.peers.bergson"}

RETURNING = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144", "MALLOC_ARENA_MAX": "1"}
"""Makes glibc give back what is freed at once, so that a high-water mark is the pass's own."""


FEW = 4
"""Sequences that operations are counted over, and twice as many."""
MORE = 32
"""The same where a fit is part of it: it reads up to so many sequences once more, to tell its noise."""


def probe(
    suite: str, shape: str, sequences: int, names: list[str], threads: int, *, count: bool
) -> dict[str, dict[str, Any]]:
    """Run this module in a fresh process: pass → ``{"peak_mb", "resident_mb", "operations"}``."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.probe", suite, shape]
    command += ["--sequences", str(sequences), "--threads", str(threads), "--passes", *names]
    command += ["--count"] if count else []
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **RETURNING}, stdout=subprocess.PIPE, check=True)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def main() -> None:
    """The child: one suite, every pass, JSON on stdout."""
    import torch

    from bench.model import SHAPES
    from bench.timing import peak_mb, resident_mb, trim

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", choices=MODULES)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--sequences", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--passes", nargs="*")
    parser.add_argument("--count", action="store_true", help="operations too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    make = importlib.import_module(MODULES[options.suite]).suite
    full = SHAPES[options.shape]
    batch = full.batch
    wanted = ["FBA", "FB", "FBA1", *(options.passes or make(full.with_sequences(1)).passes)]

    warm = make(full.with_sequences(min(batch, 2)))
    runs = {**warm.units, **warm.passes}
    for name in wanted:
        warm.prepare.get(name, _nothing)()
        runs[name]()
    del warm, runs

    found: dict[str, dict[str, Any]] = {name: {} for name in wanted}
    if options.count:
        for name in wanted:
            few = min(full.sequences // 2, MORE if name == "total" else FEW)
            once, twice = (_operations(make(full.with_sequences(size)), name) for size in (few, 2 * few))
            found[name]["operations"] = int(once + (twice - once) / few * (full.sequences - few))

    subject = make(full.with_sequences(options.sequences or full.sequences))
    runs = {**subject.units, **subject.passes}
    trim()
    start = resident_mb()
    for name in wanted:
        subject.prepare.get(name, _nothing)()
        trim()
        held = resident_mb() - start
        found[name] |= {"peak_mb": held + peak_mb(runs[name]), "held_mb": held}
    json.dump(found, sys.stdout)


def _operations(suite: Any, name: str) -> int:
    """Operations of one pass."""
    from bench.operations import Operations

    suite.prepare.get(name, _nothing)()
    with Operations() as counted:
        {**suite.units, **suite.passes}[name]()
    return counted.total


def _nothing() -> None: ...


if __name__ == "__main__":
    main()
