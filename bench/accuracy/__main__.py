"""Judge every estimator of the deck against PBRF.

    python -m bench.accuracy DATA                    all tasks; writes bench/results/accuracy.json and the figures
    python -m bench.accuracy DATA --tasks concrete   some of them; the others keep what was measured before
    python -m bench.accuracy --report                only draw the figures again

DATA is the folder that holds ``regression/``, ``mnist/`` and ``text/`` (file names and hashes: docs/accuracy.md).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "accuracy.json"


def main() -> None:
    """Measure what is asked for; each task is kept as soon as it is done."""
    from bench.accuracy.judge import judge
    from bench.accuracy.report import write_report
    from bench.accuracy.tasks import PROBLEMS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--tasks", nargs="*", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if not options.report:
        if options.data is None:
            parser.error("name the folder that holds the data")
        import torch

        from bench.timing import machine

        torch.set_num_threads(options.threads)
        for name in options.tasks:
            entry = judge(PROBLEMS[name](options.data), _say) | {"machine": machine(options.threads)}
            _keep(entry)
    write_report(json.loads(RESULTS.read_text()), RESULTS.parent)


def _keep(entry: dict[str, Any]) -> None:
    known = json.loads(RESULTS.read_text())["tasks"] if RESULTS.exists() else []
    tasks = [one for one in known if one["task"] != entry["task"]] + [entry]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"tasks": tasks}, indent=1, default=float) + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
