"""``whence validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from whence.cli import examples, flags
from whence.cli.output import progress, show
from whence.errors import ArtifactError

Check = Annotated[
    Literal["pbrf", "retrain", "lds", "removal"], Parameter(help="What to compare the scores with", name="CHECK")
]
Count = Annotated[
    int | None,
    Parameter(
        help="Training sequences or examples (pbrf, retrain), subsets (lds), random draws (removal)", metavar="INT"
    ),
]
RecipeFile = Annotated[
    Path | None,
    Parameter(help="How the model was trained, in TOML: start = where from, and a table [recipe]", metavar="FILE"),
]


def validate(
    check: Check,
    run: flags.Run,
    /,
    *,
    count: Count = None,
    recipe: RecipeFile = None,
    query: flags.Query = None,
    ask: flags.Ask = None,
    answer: flags.Answer = None,
    solver: flags.Solver = None,
    damping: flags.Damping = None,
    settings: flags.Settings = None,
    json: flags.Json = False,
) -> None:
    """Check a run's scores against what they approximate.

    RUN is of a language model (`whence run`), and its questions are judged, or of
    `whence value`, and it is the validation examples that were asked about.

    pbrf solves the proximal Bregman objective of some training sequences, near the
    model as it is. The others retrain: each sequence left out (retrain), random
    subsets (lds), each question's top share left out (removal); they need the recipe
    that trained the model. Retrained models are kept in RUN/checks and used again;
    the figures are there too, as CHECK.html, and in the next report.
    docs/validate.md has the recipe's keys, and what each check costs.

    Examples:
      whence validate pbrf runs/toy --count 25
      whence validate lds runs/toy --recipe recipe.toml
    """
    asked = {"query": query, "ask": ask, "answer": answer}
    folder: Path = run
    chosen: Any
    if examples.is_valuation(run):
        hint = "its questions are its validation examples: `whence value RUN --valid DATA` asks about others"
        flags.refuse(f"is for runs over text, and {run} is a valuation", hint, **asked, settings=settings)
        if not (run / "settings.toml").exists():
            raise ArtifactError(f"{run} is a valuation that has not finished", hint="`whence value` goes on with it")
        chosen = examples.chosen(run, damping=damping, solver=solver)
    else:
        folder, chosen = flags.gather(run, settings, damping=damping, solver=solver, **asked)
    from whence.jobs.validation.job import validate as job

    with progress() as log:
        result = job(folder, chosen, check, count=count, recipe=recipe, log=log)
    show(result, as_json=json)
