"""``facts.md`` from facts.json's content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.planted.methods import NAMES

TITLES = {
    "demo": "The demo's corpus: each fact stated once, nothing that looks like it",
    "paraphrases": "Each fact stated three times in other words, among documents that only look so",
}
METRICS = {"demo": ("recall@1", "recall@5", "recall@10"), "paraphrases": ("hit@1", "hit@5", "recall@5", "recall@10")}
"""Hit and recall are one where one document is relevant; recall@1 is at most a third where three are."""


def page(found: Mapping[str, Any]) -> str:
    """The whole page."""
    lines = [
        "# Facts: who finds the documents that state them?",
        "",
        "Made by `python -m bench.planted`; not edited by hand, but for the account at the end"
        " (`bench/planted/account.md`).",
        "",
        "Questions are facts that the model has learned: asked in words that none of its documents states them in, it",
        "says the right object (greedy decoding). Every method is given question and answer. MRR: one over the place",
        "of the first stating document; hit@k: any of them among the first k; recall@k: which share of them is. Ties",
        "count as random order does. In brackets 95 % bootstraps over facts; differences are paired. Damping "
        f"{found['settings']['damping']} ×",
        "each layer's mean eigenvalue; the linear layers of the blocks are tracked. Processor seconds, one thread, for",
        "all questions: fit, queries and scores; in epochs of a forward and backward pass over the corpus beside them.",
        "",
    ]
    for one in found["corpora"]:
        lines += [f"## {TITLES[one['corpus']]}", "", *_about(one), "", *_methods(one), ""]
        lines += [*_top(one), *_patched(one, found["settings"]["tail_patch"])]
    lines += ["## Settings", "", *_settings(found), "", (Path(__file__).parent / "account.md").read_text().strip()]
    return "\n".join(lines) + "\n"


def _about(one: Mapping[str, Any]) -> list[str]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in one["kinds"].items())
    return [
        f"{one['documents']:,} documents ({kinds}).",
        f"{one['learned']} of {one['facts']} facts are learned, of the half held out {one['learned_held_out']};",
        f"an object's median probability in a document that states it is {one['probability_in_own_document']:.2f}.",
    ]


def _methods(one: Mapping[str, Any]) -> list[str]:
    metrics = METRICS[one["corpus"]]
    rows = []
    for name, title in NAMES.items():
        row = one["methods"][name]
        above = "" if name == "ekfac" else _difference(row["above_ekfac"]["mrr"])
        cost = "" if name == "chance" else f"{row['seconds']:.1f} ({row['epochs']:.1f})"
        rows.append([title, _mean(row["mrr"]), above, *(f"{row[m]['value']:.2f}" for m in metrics), cost])
    return _table(["method", "MRR", "above EK-FAC", *metrics, "seconds (epochs)"], rows)


def _top(one: Mapping[str, Any]) -> list[str]:
    """Which documents stand among the first ten; told only where there are several kinds."""
    tops = {name: row["top_10"] for name, row in one["methods"].items() if row["top_10"]}
    kinds = sorted({kind for top in tops.values() for kind in top})
    if "both names" not in kinds:
        return []
    kinds.sort(key=lambda kind: kind != "statement")
    rows = [[NAMES[name], *(f"{100 * top.get(kind, 0):.0f}" for kind in kinds)] for name, top in tops.items()]
    return ["What the first ten are, in per cent:", "", *_table(["method", *kinds], rows), "", *_first(one), ""]


def _first(one: Mapping[str, Any]) -> list[str]:
    """What stands first where no statement does, for the methods that see gradients."""
    lines = ["What stands first, in per cent of the questions, where it is no statement:"]
    for name in ("ekfac", "ekfac_normalised", "gradient_dot", "cosine"):
        rest = {kind: share for kind, share in one["methods"][name]["top_1"].items() if kind != "statement"}
        shown = ", ".join(
            f"{kind} {100 * share:.0f}" for kind, share in sorted(rest.items(), key=lambda each: -each[1])
        )
        lines.append(f"{NAMES[name]}: {shown};")
    return [*lines[:-1], lines[-1].rstrip(";") + "."]


def _patched(one: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    patch = one["tail_patch"]
    lines = [
        f"**Tail-patch**: one step on a method's first {settings['documents']} documents together; change of the",
        f"answer's log-probability in nats and of its probability, which was {patch['before']:.3f} on average, over",
        f"{patch['questions']} of the facts learned, drawn at random.",
        "",
    ]
    head = ["step on the first ten of"]
    for step in settings["steps"]:
        head += [f"{step}: log p", "above EK-FAC", "p"]
    for which, title in (
        ("all", None),
        ("without statements", "With the stating documents left out of every ranking:"),
    ):
        rows = [[NAMES.get(name, name), *_change(row, name)] for name, row in patch[which].items()]
        lines += [*([title, ""] if title else []), *_table(head, rows), ""]
    return lines


def _change(row: Mapping[str, Any], name: str) -> list[str]:
    cells = []
    for change in row.values():
        above = "" if name == "ekfac" else _difference(change["log_p_above_ekfac"])
        cells += [_mean(change["log_p"], "+.2f"), above, f"{change['p']['value']:+.3f}"]
    return cells


def _settings(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for one in found["corpora"]:
        shown = ("parameters", "trained", "recipe", "tried", "training_seconds", "epoch_seconds")
        lines.append(f"- {one['corpus']}: " + "; ".join(f"{name} {one[name]}" for name in shown if name in one))
    return [*lines, f"- machine: {found['machine']}"]


def _mean(row: Mapping[str, Any], form: str = ".2f") -> str:
    interval = row["interval"]
    return f"{row['value']:{form}} [{interval['low']:{form}}, {interval['high']:{form}}]"


def _difference(row: Mapping[str, Any]) -> str:
    return _mean(row, "+.2f")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown; the first column is words, the others numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
