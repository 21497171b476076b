"""``python -m bench.mislabelled DATA [SET …]``: flip 10 % of labels, find them again; remove and add points.

Writes ``bench/results/mislabelled.json``. cleanlab is the extra ``whence[cleanlab]``; ``--cleanlab PYTHON`` names
another Python that has it. Its column is empty where there is none.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from bench.mislabelled import detect
from bench.mislabelled.curves import curves, worth
from bench.mislabelled.detect import DAMPING, accuracy, as_json, judged, suspicions, trained
from bench.mislabelled.sets import SETS
from bench.mislabelled.tables import page
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
    held_out = as_json(judged(detect.out_of_fold(problem, data), labels, flipped, python))
    in_sample = as_json(judged(inside, labels, flipped, python))
    in_sample["self_influence_auc_by_damping"] = detect.by_damping(net, data, flipped)
    in_sample["influence_on_validation_auc_by_damping"] = {
        f"{lam:g}": round(found(-values, flipped.numpy()).auc, 4) for lam, values in helpful.items()
    }
    result = {
        "set": name,
        "net": problem.net,
        "examples": data.sequences,
        "classes": problem.classes,
        "flipped": int(flipped.sum()),
        "damping": DAMPING,
        "test_accuracy": round(accuracy(net, problem.test), 4),
        "protocol": f"out of fold: {detect.FOLDS} nets, each asked about the fifth that it was not trained on",
        **held_out,
        "in_sample": in_sample,
    }
    if name in CURVES:
        influence = {"influence": helpful[DAMPING], "influence_damping_10": helpful[10.0]}
        rankings = {**influence, "loss": -inside["loss"], "self_influence": -inside["self_influence"]}
        result["curves"] = curves(problem, data, rankings, result["test_accuracy"])
    return result | {"cpu_seconds": round(time.process_time() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Find flipped labels; remove and add points.")
    parser.add_argument("data", type=Path, help="folder with mnist/ and classification/")
    parser.add_argument("sets", nargs="*", default=list(SETS))
    parser.add_argument("--cleanlab", default=detect.DEFAULT_PYTHON, metavar="PYTHON")
    chosen = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"sets": []}
    for name in chosen.sets:
        made = measure(chosen.data, name, chosen.cleanlab)
        print(json.dumps(made, indent=1), flush=True)
        kept["sets"] = sorted([one for one in kept["sets"] if one["set"] != name] + [made], key=lambda one: one["set"])
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
        RESULTS.with_suffix(".md").write_text(page(kept["sets"]))


if __name__ == "__main__":
    main()
