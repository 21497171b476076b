"""Judge every estimator of the deck against PBRF.

    python -m bench.accuracy DATA                    all of it; writes bench/results/accuracy.json and the figures
    python -m bench.accuracy DATA --tasks concrete   some tasks; all else keeps what was measured before
    python -m bench.accuracy DATA --retrain wine     LDS over damping, of some tasks
    python -m bench.accuracy DATA --studies lissa    a study
    python -m bench.accuracy --report                only draw the figures again

DATA is the folder that holds ``regression/``, ``mnist/`` and ``text/``; `bench.accuracy.tasks` names the files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "accuracy.json"
RETRAINED = ["concrete", "energy", "parkinsons", "wine", "mnist_mlp", "tinystories_lm"]
"""Not the ResNet: retraining here keeps batch norm's statistics, and its recipe does not."""


def main() -> None:
    """Measure what is asked for; each result is kept as soon as it is there."""
    from bench.accuracy import studies
    from bench.accuracy.report import write_report
    from bench.accuracy.tasks import PROBLEMS

    kinds = {"recipes": studies.recipes, "lissa": studies.lissa}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--tasks", nargs="*", choices=PROBLEMS)
    parser.add_argument("--retrain", nargs="*", choices=PROBLEMS)
    parser.add_argument("--studies", nargs="*", choices=kinds)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    chosen = (options.tasks, options.retrain, options.studies)
    if not options.report:
        if options.data is None:
            parser.error("name the folder that holds the data")
        everything = all(one is None for one in chosen)
        tasks, again, asked = (list(PROBLEMS), RETRAINED, list(kinds)) if everything else [one or [] for one in chosen]
        _measure(options.data, options.threads, tasks, again, {name: kinds[name] for name in asked})
    write_report(json.loads(RESULTS.read_text()), RESULTS.parent)


def _measure(data: Path, threads: int, tasks: list[str], again: list[str], studies: dict[str, Any]) -> None:
    import torch

    from bench.accuracy.judge import judge
    from bench.accuracy.retrained import lds_over_damping
    from bench.accuracy.tasks import PROBLEMS
    from bench.timing import machine

    torch.set_num_threads(threads)
    for name in tasks:
        _keep("tasks", judge(PROBLEMS[name](data), _say) | {"machine": machine(threads)})
    for name in again:
        _keep("retrained", lds_over_damping(PROBLEMS[name](data), _say))
    for name, study in studies.items():
        found = study(data, _say)
        known = _known()
        known["studies"][name] = found
        _write(known)


def _keep(kind: str, entry: dict[str, Any]) -> None:
    """In the place of an earlier one of the same task, the tasks in their order."""
    from bench.accuracy.tasks import PROBLEMS

    known = _known()
    found = [one for one in known[kind] if one["task"] != entry["task"]] + [entry]
    known[kind] = sorted(found, key=lambda one: list(PROBLEMS).index(one["task"]))
    _write(known)


def _known() -> dict[str, Any]:
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {"tasks": [], "retrained": [], "studies": {}} | known


def _write(results: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1, default=float) + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
