"""``python -m bench.mislabelled DATA [SET …]``: flip 10 % of labels, find them again; remove and add points.

Writes ``bench/results/mislabelled.json``. ``--cleanlab PYTHON`` names a Python that has cleanlab (it wants pandas and
scikit-learn, which whence does not); left out, this one is asked, and its column is empty where it has none.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from bench.mislabelled.curves import curves, worth
from bench.mislabelled.detect import DAMPING, DEFAULT_PYTHON, FOLDS, accuracy, as_json, judged, out_of_fold
from bench.mislabelled.detect import suspicions, trained
from bench.mislabelled.sets import SETS
from whence.evaluate.mislabelled import flip_labels, found

RESULTS = Path(__file__).parents[1] / "results" / "mislabelled.json"
CURVES = ("mnist_10k", "sms_spam")
"""Sets small enough that dozens of retrainings take minutes."""


def measure(shared: Path, name: str, python: str, seed: int = 0) -> dict[str, Any]:
    """Everything about one set."""
    began = time.process_time()
    problem = SETS[name](shared)
    labels, flipped = flip_labels(problem.labels, problem.classes, seed=seed)
    data = problem.data(labels)
    everything = torch.ones(1, data.sequences, dtype=torch.float64)
    (net,) = trained(problem, data, everything)
    inside = suspicions(net, data, data)
    helpful = worth(problem, net, data)
    held_out = as_json(judged(out_of_fold(problem, data), labels, flipped, python))
    in_sample = as_json(judged(inside, labels, flipped, python))
    in_sample["auc"]["influence_on_validation"] = round(found(-helpful, flipped.numpy()).auc, 4)
    result = {
        "set": name,
        "net": problem.net,
        "examples": data.sequences,
        "classes": problem.classes,
        "flipped": int(flipped.sum()),
        "damping": DAMPING,
        "test_accuracy": round(accuracy(net, problem.test), 4),
        "protocol": f"out of fold: {FOLDS} nets, each asked about the fifth that it was not trained on",
        **held_out,
        "in_sample": in_sample,
    }
    if name in CURVES:
        rankings = {"influence": helpful, "loss": -inside["loss"], "self_influence": -inside["self_influence"]}
        result["curves"] = curves(problem, data, rankings, result["test_accuracy"])
    return result | {"cpu_seconds": round(time.process_time() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Find flipped labels; remove and add points.")
    parser.add_argument("data", type=Path, help="folder with mnist/ and classification/")
    parser.add_argument("sets", nargs="*", default=list(SETS))
    parser.add_argument("--cleanlab", default=DEFAULT_PYTHON, metavar="PYTHON")
    chosen = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"sets": []}
    for name in chosen.sets:
        made = measure(chosen.data, name, chosen.cleanlab)
        print(json.dumps(made, indent=1), flush=True)
        kept["sets"] = sorted([one for one in kept["sets"] if one["set"] != name] + [made], key=lambda one: one["set"])
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
