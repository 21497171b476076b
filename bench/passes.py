"""Every pass, ours and the peers', in one process: the table that the bounds are held against.

    python -m bench                  everything that is installed; three quarters of an hour of one core
    python -m bench --quick          64 sequences, once: does it run, and roughly what comes out
    python -m bench --whole          the peers over all 512 sequences too, rather than drawn out from fewer
    python -m bench --passes NAME …  only these passes, with --suites of these suites; the rest stays as it was measured
    python -m bench --report         only write RESULTS.md again, from bench/results
    python -m bench --install-peers  an environment with Kronfluence and Bergson in it, which the rest then uses

A peer that is not installed keeps the numbers of ``bench/results/peers.json``, which were taken where it was
(see ``bench/peers.txt``), and is marked so.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench.model import SHAPES, Shape
from bench.probe import MODULES, ROOT, probe
from bench.report import write_report
from bench.targets import PEAK, ROWS, SAME, WITHIN
from bench.timing import Suite, Timed, machine, measure, warm_up

RESULTS = ROOT / "bench" / "results"
QUICK = 64
FEW, MANY = 32, 160
"""Sequences that the peers' passes are timed over, and drawn out from to the bench model's 512."""
PEER_REPEATS = 2
PEER_PEAKS = ("moments", "eigenvalues", "scores_16", "per_token_16", "self_influence")
"""The peers' passes whose memory is looked at."""


def main() -> None:
    """Measure what is asked for, then write results and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--suites", nargs="*", default=list(MODULES), choices=MODULES)
    parser.add_argument("--passes", nargs="*")
    parser.add_argument("--no-probe", action="store_true", help="leave peak memory and operations as they were")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.repeats = 1
    if not options.report:
        _measure_all(options)
    write_report(RESULTS, ROOT / "bench" / "RESULTS.md")


def _measure_all(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    known = _read(RESULTS / "peers.json") | {"whence": _read(RESULTS / "ours.json").get("whence", {})}
    installed = [name for name in options.suites if _importable(MODULES[name])]
    makers = {name: _maker(name, options.passes) for name in installed}
    for kind, shape in SHAPES.items():
        for make in makers.values():
            warm_up(_wanted(make(shape.with_sequences(min(4, shape.batch))), kind))
        subjects = [_subject(name, make, shape, options) for name, make in makers.items()]
        timed = measure(subjects, _say)
        for subject in subjects:
            suite = subject.many
            entry = known.setdefault(suite.name, {}) or {}
            entry |= {"version": suite.version, "notes": suite.notes}
            entry |= {"machine": machine(options.threads), "taken": datetime.now(UTC).date().isoformat()}
            rows = entry.setdefault(kind, {})
            for name, row in timed[suite.name].items():
                rows[name] = rows.get(name, {}) | row | {"timed_over": list(subject.sequences)}
            known[suite.name] = entry
        del subjects
        _keep(known, installed, machine(options.threads))
    if not options.no_probe:
        for name, make in makers.items():
            _probe_all(known[name], name, make, options.threads, facts=options.passes is None)
            _keep(known, installed, machine(options.threads))


def _subject(name: str, make: Callable[[Shape], Suite], shape: Shape, options: argparse.Namespace) -> Timed:
    """A suite at the sizes that it is timed over. Ours is timed whole, and so is all of the wide layer."""
    repeats = options.repeats if name == "whence" else min(options.repeats, PEER_REPEATS)
    if shape.name == "wide":
        suite = _wanted(make(shape), shape.name)
        return Timed.whole(suite, shape.sequences, 2 * repeats + 1 if name == "whence" else 1)
    if name == "whence" or options.whole or options.quick:
        size = QUICK if options.quick else shape.sequences
        return Timed.whole(make(shape.with_sequences(size)), size, repeats)
    sizes = FEW, MANY, shape.sequences
    return Timed(make(shape.with_sequences(FEW)), make(shape.with_sequences(MANY)), sizes, repeats)


def _maker(name: str, passes: list[str] | None) -> Callable[[Shape], Suite]:
    """What makes a suite of a shape, with all its passes or some."""

    def make(shape: Shape) -> Suite:
        suite: Suite = importlib.import_module(MODULES[name]).suite(shape)
        if passes is not None:
            suite.passes = {one: run for one, run in suite.passes.items() if one in passes}
        return suite

    return make


def _probe_all(entry: dict[str, Any], name: str, make: Callable[[Shape], Suite], threads: int, *, facts: bool) -> None:
    """Memory and operations of one suite, on both shapes."""
    ours = name == "whence"
    for kind, shape in SHAPES.items():
        if not ours and kind == "wide":
            continue
        suite, rows = _wanted(make(shape.with_sequences(1)), kind), entry[kind]
        # Partial sums of units are part of a fit's memory, and there are more of them the more data there is;
        # what else a pass takes, it takes a batch.
        long = [one for one in suite.passes if ours and one in ("moments", "eigenvalues", "total")]
        short = [one for one in suite.passes if one not in long and (ours or one in PEER_PEAKS)]
        for names, sequences in ((short, min(shape.sequences, 2 * shape.batch)), (long, shape.sequences)):
            if names:
                _say(f"{name}: memory{' and operations' if ours else ''}, {kind}: {', '.join(names)}")
                for one, seen in probe(name, kind, sequences, names, threads, count=ours).items():
                    rows.setdefault(one, {}).update(seen)
        for one, needed in suite.facts.get("must_hold_mb", {}).items():
            rows.get(one, {})["must_hold_mb"] = needed
        if kind == "bench":
            if not ours:
                entry["facts"] = suite.facts
            elif facts:
                _say("disk and half precision")
                entry["facts"] = importlib.import_module("bench.facts").facts(shape)


def _keep(known: dict[str, Any], installed: list[str], machine: dict[str, Any]) -> None:
    """Write what there is so far: an interrupted run leaves what it measured."""
    RESULTS.mkdir(exist_ok=True)
    _write(RESULTS / "ours.json", {"whence": known["whence"]})
    _write(RESULTS / "peers.json", {name: entry for name, entry in known.items() if name != "whence" and entry})
    _write(RESULTS / "passes.json", table(known, installed) | {"machine": machine})


def table(known: dict[str, Any], installed: list[str]) -> dict[str, Any]:
    """The rows, joined: ours, the peers', bounds, memory, counted operations."""
    rows = []
    for row in ROWS:
        name = row.source or row.name
        seen = {suite: known.get(suite, {}).get(row.shape, {}) for suite in MODULES}
        mine = seen["whence"].get(name, {})
        bound = row.bound
        if row.name in SAME and "ratio" in (other := seen["whence"].get(SAME[row.name], {})):
            bound = other["ratio"] * WITHIN
        unit = mine.get("unit", "FB")
        rows.append(
            {
                "pass": row.name,
                "what": row.what,
                "unit": unit,
                "ratio": mine.get("ratio"),
                "spread": mine.get("spread"),
                "counted": _counted(seen["whence"], name, unit),
                "bound": bound,
                **{peer: seen[peer].get(name, {}).get("ratio") for peer in ("kronfluence", "bergson")},
                "peak_mb": mine.get("peak_mb"),
                "peak_bound_mb": _peak_bound(seen["whence"], mine),
                "activation_pass_mb": seen["whence"].get("FBA", {}).get("peak_mb"),
                **{f"{peer}_peak_mb": seen[peer].get(name, {}).get("peak_mb") for peer in ("kronfluence", "bergson")},
                # The units are nobody's own: there is no being ahead in them.
                "ahead": None
                if name == "FBA"
                else _ahead(
                    mine.get("ratio"), [seen[peer].get(name, {}).get("ratio") for peer in MODULES if peer != "whence"]
                ),
            }
        )
    elsewhere = [peer for peer in MODULES if peer != "whence" and peer not in installed and known.get(peer)]
    versions = {name: entry.get("version") for name, entry in known.items()}
    facts = {name: entry.get("facts", {}) for name, entry in known.items()}
    return {
        "rows": rows,
        "versions": versions,
        "peers_measured_elsewhere": elsewhere,
        "facts": facts.pop("whence"),
        "notes": known.get("whence", {}).get("notes", {}),
        "peer_facts": facts,
    }


def _counted(rows: dict[str, Any], name: str, unit: str) -> float | None:
    """The ratio of operations: what a pass would cost if a matrix product were all there is."""
    mine, base = rows.get(name, {}).get("operations"), rows.get(unit, {}).get("operations")
    return None if not mine or not base else mine / base


def _peak_bound(rows: dict[str, Any], mine: dict[str, Any]) -> float | None:
    """1.2 × (activation pass + what the pass must hold): see `bench.targets`."""
    base = rows.get("FBA", {}).get("peak_mb")
    return None if base is None or "must_hold_mb" not in mine else PEAK * (base + mine["must_hold_mb"])


def _ahead(mine: float | None, peers: list[float | None]) -> bool | None:
    found = [ratio for ratio in peers if ratio is not None]
    return None if mine is None or not found else mine < min(found)


def _wanted(suite: Suite, kind: str) -> Suite:
    """All of a suite, or the two rows that the wide layer is for, in units of the activation pass."""
    if kind == "wide":
        names = ("eigenvalues", "self_influence")
        suite.passes = {name: run for name, run in suite.passes.items() if name in names}
        suite.unit_of = dict.fromkeys(names, "FBA")
        suite.units = {name: run for name, run in suite.units.items() if name in ("FB", "FBA")}
    return suite


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError as error:
        _say(f"{module} left out: {error}")
        return False
    return True


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, default=float, ensure_ascii=False) + "\n")
