"""Models and data of both corpora: the demo's as it is shipped, and one trained here on the corpus of paraphrases.

Training is the demo's recipe (`recipes/train.py`) with nothing changed but its length, which is chosen by a rule that
was written down before anything was trained and that looks at no method's scores: the shortest of `EPOCHS` after which
the model says at least half of the facts of the half chosen on. Short, because a document that is recited word for word
has no gradient left (docs/demo.md).
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bench.planted.corpus import Asked, build, demo_rows
from whence.api.data import token_data
from whence.data.memory import TokenData
from whence.data.queries import QueryBatch, ask, encode_queries
from whence.demo import paths, read_questions
from whence.evaluate.models import measure, parameters_of
from whence.jobs.demo import says
from whence.models.hf import context_length, load_model, load_tokenizer
from whence.tasks import CausalLM

EPOCHS = (8, 12, 16, 20)
TASK = CausalLM()


@dataclass(frozen=True)
class Setting:
    """A model, what it was trained on, and the facts that it has learned."""

    name: str
    model: nn.Module
    tokenizer: Any
    texts: list[str]
    kinds: list[str]
    """Of each document."""
    data: TokenData
    asked: list[Asked]
    """The facts learned: the model, asked, says the right object."""
    about: dict[str, Any]
    """What was trained, and what was learned, for the result."""

    @property
    def queries(self) -> list[QueryBatch]:
        return encoded(self.asked, self.tokenizer, self.model)

    @property
    def relevant(self) -> list[tuple[int, ...]]:
        return [fact.relevant for fact in self.asked]


def encoded(asked: Sequence[Asked], tokenizer: Any, model: nn.Module) -> list[QueryBatch]:
    """Facts as questions, numbered in their order."""
    queries = [ask(fact.prompt, fact.completion, id=str(number)) for number, fact in enumerate(asked)]
    return encode_queries(queries, tokenizer, context_length(model))


def demo_setting() -> Setting:
    """The demo's corpus and its shipped checkpoint: each fact stated once, nothing trained."""
    files, rows = paths(), demo_rows()
    model, tokenizer = load_model(files.model), load_tokenizer(files.model)
    asked = [
        Asked(str(one.relation), str(one.subject), one.prompt, one.completion, (one.fact,))
        for one in read_questions(files.evaluation)
    ]
    kinds = ["story" if row["kind"] == "story" else "statement" for row in rows]
    return _setting("demo", model, tokenizer, [row["text"] for row in rows], kinds, asked, {"trained": "as shipped"})


def paraphrased_setting(folder: Path, note: Callable[[str], None] = print) -> Setting:
    """The corpus of paraphrases and distractors; its model is kept in ``folder``, and found there again."""
    documents, asked = build(demo_rows())
    texts, kinds = [row["text"] for row in documents], [row["kind"] for row in documents]
    chosen_on = [fact for fact in asked if not fact.held_out]
    tried: list[dict[str, Any]] = []
    for epochs in EPOCHS:
        model, tokenizer, about = _trained(texts, epochs, folder / f"epochs-{epochs}")
        said = int(says(model, encoded(chosen_on, tokenizer, model)).sum())
        tried.append({"epochs": epochs, "said": said, "of": len(chosen_on)})
        note(f"{epochs} epochs: {said} of {len(chosen_on)} facts of the half chosen on are said")
        if 2 * said >= len(chosen_on):
            break
    return _setting("paraphrases", model, tokenizer, texts, kinds, asked, {**about, "tried": tried})


def _setting(
    name: str, model: nn.Module, tokenizer: Any, texts: list[str], kinds: list[str], asked: list[Asked], about: Any
) -> Setting:
    data = token_data(texts, tokenizer, context_length(model))
    assert data.sequences == data.documents == len(texts)  # no document is longer than the context
    learned = says(model, encoded(asked, tokenizer, model))
    known = [fact for fact, said in zip(asked, learned, strict=True) if said]
    about = {
        **about,
        "documents": len(texts),
        "kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "facts": len(asked),
        "learned": len(known),
        "learned_held_out": sum(fact.held_out for fact in known),
        "probability_in_own_document": float(np.median(_own(model, tokenizer, texts, known))),
    }
    return Setting(name, model, tokenizer, texts, kinds, data, known, about)


def _own(model: nn.Module, tokenizer: Any, texts: Sequence[str], known: Sequence[Asked]) -> NDArray[np.float64]:
    """Probability of each object in a document that states it, after that document's own words."""
    stated = [
        replace(fact, prompt=texts[number].removesuffix(".").removesuffix(fact.completion))
        for fact in known
        for number in fact.relevant
    ]
    state = {name: tensor[None] for name, tensor in parameters_of(model).items()}
    found: NDArray[np.float64] = measure(TASK, model, state, encoded(stated, tokenizer, model))[0].exp().numpy()
    return found


def _trained(texts: list[str], epochs: int, folder: Path) -> tuple[nn.Module, Any, dict[str, Any]]:
    """The demo's recipe on other texts."""
    recipes = _recipes()
    recipe = recipes.Recipe(epochs=epochs)
    if not folder.exists():
        began = time.process_time()
        torch.use_deterministic_algorithms(True)
        tokenizer = recipes.train_tokenizer(texts, recipe.vocabulary)
        model = recipes.new_model(recipe)
        recipes.train(model, tokenizer(texts)["input_ids"], recipe)
        model.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        about = {"recipe": asdict(recipe), "training_seconds": round(time.process_time() - began, 1)}
        (folder / "trained.json").write_text(json.dumps(about))
    return load_model(folder), load_tokenizer(folder), json.loads((folder / "trained.json").read_text())


def _recipes() -> Any:
    """`recipes/train.py`, which is no part of a package and imports its neighbour by name."""
    folder = str(Path(__file__).parents[2] / "recipes")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("train")
    finally:
        sys.path.remove(folder)
