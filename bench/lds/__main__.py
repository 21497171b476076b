"""``python -m bench.lds``: the linear datamodeling score of every method on a small language model, with ablations.

Writes ``bench/results/lds.{json,md,svg}``. ``--models FOLDER`` keeps the retrained models, and finds them again.
``--variants`` measures other protocols alone, all or those named, and leaves the rest of the result as it is.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.lds import speed
from bench.lds.methods import Methods
from bench.lds.page import write_page
from bench.lds.protocol import Protocol, Setting, prepare
from bench.timing import timed
from whence.evaluate.lds import Lds, lds
from whence.evaluate.statistics import paired

RESULTS = Path(__file__).parents[1] / "results" / "lds.json"
DAMPINGS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
LAYERS: dict[str, Any] = {"mlp": "mlp", "attention": ["*self_attn*"], "blocks and head": ["blocks", "lm_head"]}
PRODUCTS = {0.1: 8, 10.0: 4}
"""Damping → products of CG."""
FEW = 64
"""Subsets of a variant, where all of `Protocol`'s are not taken."""
OTHER: dict[str, Any] = {"init_seed": 1, "draw_seed": 1, "subsets": FEW}
VARIANTS: dict[str, dict[str, Any]] = {
    "torch's initial weights": {"init": "torch"},
    "other seeds": OTHER,
    "torch's initial weights, other seeds": {"init": "torch", **OTHER},
    "eleven modules": {"source": "many", "subsets": FEW},
    "torch's initial weights, eleven modules": {"init": "torch", "source": "many", "subsets": FEW},
}
"""Protocols beside the first one: how weights are drawn, the seeds of weights and of windows, and the source."""


def scores_of(setting: Setting) -> tuple[dict[str, Tensor], dict[str, float], list[dict[str, Any]]]:
    """Every method's scores and seconds, and the steps of conjugate gradient."""
    methods = Methods(setting)
    scores: dict[str, Tensor] = {"dot": methods.fitted("identity", 0.1, "dot")}
    scores["cosine"] = scores["dot"] / methods.own("identity", 0.1, "cosine")
    for damping in DAMPINGS:
        for name in ("kfac", "ekfac"):
            label = f"{name} {damping:g}"
            scores[label] = methods.fitted(name, damping, label)
    scores["diagonal 0.1"] = methods.fitted("diagonal", 0.1, "diagonal 0.1")
    for damping in (0.1, 10.0):
        label = f"ekfac normalised {damping:g}"
        scores[label] = scores[f"ekfac {damping:g}"] / methods.own("ekfac", damping, label)
        label = f"sampled {damping:g}"
        scores[label], _ = methods.solved("sampled", damping, label)
    for name, layers in LAYERS.items():
        part = Methods(setting, layers)
        scores[f"ekfac 0.1, {name}"] = part.fitted("ekfac", 0.1, "")
        scores[f"dot, {name}"] = part.fitted("identity", 0.1, "")
    steps = []
    for damping, most in PRODUCTS.items():
        for step in methods.conjugate_gradient(damping, most):
            label = f"cg {damping:g}, {step['products']} products"
            scores[label] = step.pop("scores")
            steps.append({"damping": damping, "label": label, **step})
    return scores, methods.seconds, steps


def judged(found: Lds, against: str = "ekfac 0.1") -> dict[str, Any]:
    """LDS of each method, and how far above EK-FAC at its usual damping over the same queries."""
    return {
        name: {**mean.to_dict(), "above_ekfac": paired(found.per_query[name], found.per_query[against]).to_dict()}
        for name, mean in found.means.items()
    }


def variant(changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The plain methods, and CG at damping 10, under another protocol."""
    protocol = Protocol(**changes)
    setting = prepare(protocol, folder, lambda done, of: print(f"{folder.name}: {done} of {of}", flush=True))
    methods, head = Methods(setting), Methods(setting, LAYERS["blocks and head"])
    scores = {"dot": methods.fitted("identity", 0.1, "")}
    scores["cosine"] = scores["dot"] / methods.own("identity", 0.1, "")
    for damping in (0.01, 0.1, 1.0, 10.0):
        scores[f"ekfac {damping:g}"] = methods.fitted("ekfac", damping, "")
    scores["kfac 0.1"] = methods.fitted("kfac", 0.1, "")
    scores["ekfac 0.1, blocks and head"] = head.fitted("ekfac", 0.1, "")
    solved = methods.conjugate_gradient(10.0, PRODUCTS[10.0])[-1]
    scores[f"cg 10, {solved['products']} products"] = solved["scores"]
    found = lds(scores, setting.bank, setting.queries, count=protocol.subsets, fraction=protocol.fraction)
    return {"protocol": protocol.settings, "loss": loss_of(setting), "lds": judged(found)}


def loss_of(setting: Setting) -> float:
    """Nats a byte on the held-out windows."""
    bank, scored = setting.bank, int(setting.queries[0].batch.scored.sum())
    return -float(bank.measure(bank.everything, setting.queries).sum()) / scored


def measure(folder: Path) -> dict[str, Any]:
    """Everything about the first protocol."""
    protocol = Protocol()
    setting = prepare(protocol, folder / "main", lambda done, of: print(f"retrained {done} of {of}", flush=True))
    began = time.process_time()
    scores, seconds, steps = scores_of(setting)
    print(f"scored in {time.process_time() - began:.0f} processor seconds", flush=True)
    found, spent = timed(
        lambda: lds(scores, setting.bank, setting.queries, count=protocol.subsets, fraction=protocol.fraction)
    )
    return {
        "protocol": protocol.settings,
        "machine": f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads",
        "loss": loss_of(setting),
        "retrained": setting.bank.trained,
        "retraining_seconds": spent,
        "lds": judged(found),
        "per_query": {name: [round(float(x), 4) for x in values] for name, values in found.per_query.items()},
        "seconds": seconds,
        "cg": steps,
        "speed": speed.measured(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="LDS of every method on a small language model.")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="where retrained models are kept")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, metavar="NAME", help="these protocols alone")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.models or Path(scratch)
        found = measure(folder) if chosen.variants is None else json.loads(RESULTS.read_text())
        measured = {name: variant(VARIANTS[name], folder / name) for name in chosen.variants or VARIANTS}
    variants = {**found.get("variants", {}), **measured}
    found["variants"] = {name: variants[name] for name in VARIANTS}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    write_page(found, RESULTS.parent)


if __name__ == "__main__":
    main()
