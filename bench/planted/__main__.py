"""``python -m bench.planted``: do methods find the documents that state a fact, and do these teach it?

Writes ``bench/results/facts.json`` and ``facts.md``. ``--models FOLDER`` keeps what is trained, and finds it
again.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.planted.corpus import Asked
from bench.planted.methods import DAMPING, Methods, Scores
from bench.planted.page import page
from bench.planted.patched import STEPS, TOP, Patcher, at_random, drawn, ranked
from bench.planted.ranking import Relevant, hits, recalls, reciprocal_ranks
from bench.planted.training import TASK, Setting, demo_setting, paraphrased_setting
from whence.evaluate.statistics import mean_over_queries, paired
from whence.jobs.training import epoch_seconds

RESULTS = Path(__file__).parents[1] / "results" / "facts.json"
AGAINST = "ekfac"


def measured(setting: Setting) -> dict[str, Any]:
    """Everything about one corpus."""
    methods = Methods(setting)
    scores = methods.scores()
    epoch = epoch_seconds(setting.model, setting.data, TASK)
    values = {name: rankings(found, setting.relevant) for name, found in scores.items()}
    held_out = np.array([fact.held_out for fact in setting.asked])
    rows = {}
    for name, row in values.items():
        seconds = methods.seconds.get(name, 0.0)
        rows[name] = {
            **{metric: mean_over_queries(each).to_dict() for metric, each in row.items()},
            "above_ekfac": {m: paired(each, values[AGAINST][m]).to_dict() for m, each in row.items()},
            "mrr_chosen_on": mean_over_queries(row["mrr"][~held_out]).to_dict(),
            "mrr_held_out": mean_over_queries(row["mrr"][held_out]).to_dict(),
            "seconds": round(seconds, 2),
            "epochs": round(seconds / epoch, 2),
            "top_1": kinds_of_top(setting, scores[name], 1) if name != "chance" else None,
            "top_10": kinds_of_top(setting, scores[name], 10) if name != "chance" else None,
        }
    return {
        "corpus": setting.name,
        **setting.about,
        "parameters": sum(parameter.numel() for parameter in setting.model.parameters()),
        "epoch_seconds": round(epoch, 2),
        "methods": rows,
        "tail_patch": tail_patches(setting, scores),
    }


def rankings(scores: Scores, relevant: Relevant) -> dict[str, NDArray[np.float64]]:
    """Metric → its value for each question."""
    found = {"mrr": reciprocal_ranks(scores, relevant)}
    for k in (1, 5, 10):
        found[f"hit@{k}"], found[f"recall@{k}"] = hits(k, scores, relevant), recalls(k, scores, relevant)
    return found


def kinds_of_top(setting: Setting, found: Scores, k: int) -> dict[str, float]:
    """What the first k documents are, a share each: those that state the fact asked about, and the rest by kind."""
    count: Counter[str] = Counter()
    for fact, row in zip(setting.asked, ranked(found, k=k), strict=True):
        count.update(_kind(setting, document, fact) for document in row)
    return {kind: round(times / count.total(), 4) for kind, times in sorted(count.items())}


def _kind(setting: Setting, document: int, fact: Asked) -> str:
    if document in fact.relevant:
        return "statement"
    kind = setting.kinds[document]
    if kind == "statement":
        return "another fact's statement"
    says_it = setting.texts[document].endswith(f"{fact.completion}.")
    return "hearsay with this answer" if kind == "hearsay" and says_it else kind


def tail_patches(setting: Setting, scores: dict[str, Scores]) -> dict[str, Any]:
    """What a step on each method's first documents does to the answer, with the stating documents and without."""
    setting, chosen = drawn(setting)
    scores = {name: each[chosen] for name, each in scores.items()}
    patcher = Patcher(setting)
    none: list[tuple[int, ...]] = [()] * len(setting.asked)
    found: dict[str, Any] = {"questions": len(chosen), "before": float(np.exp(patcher.before).mean())}
    for which, without in (("all", none), ("without statements", setting.relevant)):
        tops = {name: ranked(each, without) for name, each in scores.items() if name != "chance"}
        tops["chance"] = at_random(len(setting.texts), without)
        if which == "all":
            tops["the statements alone"] = [list(own) for own in setting.relevant]
        after = {name: patcher.after(top) for name, top in tops.items()}
        found[which] = {name: _changes(patcher.before, after[name], after[AGAINST]) for name in tops}
        print(f"{setting.name}: tail-patch, {which}: done", flush=True)
    return found


def _changes(before: NDArray[np.float64], after: dict[str, Any], against: dict[str, Any]) -> dict[str, Any]:
    """Step → change of log p and of p, and how far above EK-FAC's that is."""
    return {
        name: {
            "log_p": mean_over_queries(after[name] - before).to_dict(),
            "p": mean_over_queries(np.exp(after[name]) - np.exp(before)).to_dict(),
            "log_p_above_ekfac": paired(after[name], against[name]).to_dict(),
        }
        for name in STEPS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Rank the documents that state a fact; take a step on them.")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="where the trained model is kept")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        paraphrased = paraphrased_setting(chosen.models or Path(scratch))
    found = {
        "machine": f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} thread",
        "settings": {"damping": DAMPING, "tail_patch": {"documents": TOP, "steps": STEPS}},
        "corpora": [measured(setting) for setting in (demo_setting(), paraphrased)],
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
