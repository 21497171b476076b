"""Flags that several commands share, and how they become one `RunSettings`.

A flag left out is None here and falls through to the settings file, then to the defaults of `RunSettings`;
help shows those same defaults, read from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from whence.errors import ArtifactError, InvalidSetting
from whence.jobs.settings import RunSettings, SolverName, read_toml


def flag(name: str, shape: str | None = None, text: str = "", **more: Any) -> Parameter:
    """A flag for the setting ``name``, showing the default that `RunSettings` gives it."""
    return Parameter(help=text, metavar=shape, show_default=_default(name), negative=(), **more)


def _default(name: str) -> Callable[[Any], str] | bool:
    default = next((field.default for field in fields(RunSettings) if field.name == name), None)
    if default is None or default is MISSING or default == ():
        return False
    shown = " ".join(default) if isinstance(default, tuple) else str(default)
    return lambda _: shown


def units(_: type, tokens: Any) -> range:
    """``A:B`` as the units A to B − 1."""
    first, _, last = tokens[0].value.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise ValueError(f'"{tokens[0].value}" is not a range of units; write A:B with A < B, as in 0:40')
    return range(int(first), int(last))


Run = Annotated[Path, Parameter(help="Folder of the run; made when it is not there", name="RUN")]
Finished = Annotated[Path, Parameter(help="Folder of a run with scores, or of one of its answers", name="RUN")]
AnyRun = Annotated[Path | None, Parameter(help="Folder of a run, or a settings file", name="RUN")]
Settings = Annotated[Path | None, Parameter(help="Settings to start from; flags win over them", metavar="FILE")]
Json = Annotated[bool, Parameter(help="Print one JSON object on stdout", show_default=False, negative=())]

Model = Annotated[str | None, flag("model", "FOLDER", "The model: a Hugging Face checkpoint with its tokenizer")]
Adapter = Annotated[str | None, flag("adapter", "FOLDER", "A LoRA adapter on the model, as PEFT saves it")]
Params = Annotated[
    Literal["adapter", "base", "all"] | None,
    flag("params", None, "Whose parameters influence is over; the adapter's where there is one"),
]
Train = Annotated[
    str | None,
    flag("train", "SPEC", "The training data: a file, glob, folder, saved dataset or cached hub name; SPEC#split[a:b]"),
]
Column = Annotated[
    list[str] | None,
    flag("columns", "ROLE=NAME", "A column that has another name: text=content, prompt=question, …; repeatable"),
]
Pack = Annotated[
    Literal["none", "windows", "segments"] | None,
    flag("pack", None, "Documents to a sequence: one, run together as in pretraining, or several kept apart"),
]
Query = Annotated[
    str | None, flag("query", "SPEC", "Questions, one a row: prompt and completion, messages, or chosen and rejected")
]
Ask = Annotated[str | None, flag("ask", "TEXT", "One question: its prompt", allow_leading_hyphen=True)]
Answer = Annotated[str | None, flag("answer", "TEXT", "… and the completion asked about", allow_leading_hyphen=True)]
RatherThan = Annotated[
    str | None,
    flag("rather_than", "TEXT", "… and another one: why the answer rather than this?", allow_leading_hyphen=True),
]
Layers = Annotated[
    list[str] | None, flag("layers", "GLOB", "Layers to track: blocks, mlp, all, or globs on layer names; repeatable")
]
Curvature = Annotated[
    Literal["identity", "diagonal", "kfac", "ekfac"] | None, flag("curvature", None, "How the loss curves")
]
Solver = Annotated[
    SolverName | None,
    flag(
        "solver",
        "NAME",
        "Solve questions by the fitted curvature, or on the exact Gauss-Newton matrix: ekfac_refined, cg, exact, "
        "sampled, sampled_refined, astra, lissa",
        show_choices=False,
    ),
]
Damping = Annotated[
    str | None,
    flag("damping", "FLOAT", "Added to every eigenvalue, relative to their mean; abs:FLOAT for an absolute value"),
]
Labels = Annotated[
    Literal["sampled", "expected", "true"] | None,
    flag("labels", None, "Labels that curvature is fitted at: drawn from the model, each in turn, or the data's"),
]
Samples = Annotated[int | None, flag("samples", "INT", "Labels drawn from the model at each scored position")]
Rank = Annotated[
    int | Literal["auto", "full"] | None,
    flag(
        "rank", "INT|full", "Rank kept of query gradients; auto is full while they fit into memory", show_choices=False
    ),
]
Dtype = Annotated[Literal["float32", "bfloat16", "float64"] | None, flag("dtype", None, "What the model computes in")]
Limit = Annotated[int | None, flag("limit", "INT", "Read only so many training documents")]
Filter = Annotated[
    str | None,
    flag("filter", "NAME[:N]", "Score each question on its first N documents alone, by words: tfidf:10000, bm25:1000"),
]
Memory = Annotated[
    str | None,
    flag("memory", "SIZE", "Stay within so much memory, 16GB: batches and groups of layers are chosen to fit"),
]
Top = Annotated[int | None, flag("top", "INT", "Documents shown at either end of the ranking")]
By = Annotated[
    list[Literal["layer", "token", "answer"]] | None,
    flag("by", None, "Also split every score this way; repeatable: by layer, token, or token of the answer"),
]
Seed = Annotated[int | None, flag("seed", "INT", "Seed of the sampled labels")]
Units = Annotated[
    range | None,
    Parameter(
        help="Only these work units (`whence plan` says how many there are)",
        metavar="A:B",
        converter=units,
        n_tokens=1,
        accepts_keys=False,
        negative=(),
    ),
]


def gather(run: Path | None, file: Path | None, **flags: Any) -> tuple[Path, RunSettings]:
    """The run's folder and its settings: the flags, over the file, over the defaults.

    The file is the one given; else the settings.toml that the run was made with. A RUN that is itself a settings
    file, ``toy.toml``, runs in the folder ``toy`` beside it.

    Raises:
        InvalidSetting: As `RunSettings` does.
        ArtifactError: If the command goes on with a run and RUN is none.
    """
    starts = "model" in flags  # whether this command can begin a run, and not only go on with one
    if run is None:
        run = Path("runs/unnamed")
    if run.suffix == ".toml" and file is None:
        file, run = run, run.with_suffix("")
        if file.name == "settings.toml" and (file.parent / "manifest.json").exists():
            run = file.parent
    saved = run / "settings.toml"
    if file is None and saved.exists():
        file = saved
    if file is None and not starts:
        raise ArtifactError(
            f"{run} is not a run: it has no settings.toml", hint="`whence run` and `whence fit` begin one"
        )
    given = {name: value for name, value in flags.items() if value is not None}
    if "damping" in given:
        given["damping"] = number(given["damping"])
    if "column" in given:
        given["columns"] = dict(_pair(text) for text in given.pop("column"))
    base = read_toml(file) if file is not None else {}
    if "query" in given or "ask" in given:  # a new question replaces the old one whole
        base = {name: value for name, value in base.items() if name not in ("query", "ask", "answer", "rather_than")}
    return run, RunSettings.build(base, given, source=str(file) if file is not None else "the command line")


def refuse(why: str, hint: str, **given: Any) -> None:
    """Refuse flags that mean nothing here, by name.

    Raises:
        InvalidSetting: If one of them was given.
    """
    for name, value in given.items():
        if value is not None:
            raise InvalidSetting(f"--{name.replace('_', '-')} {why}", hint=hint)


def _pair(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not (role and equals and name):
        raise InvalidSetting(f"--column {text}: this points out no column", hint="write --column text=content")
    return role.strip(), name


def number(text: str) -> float | str:
    """A damping as it is typed; what is no number is for its reader to judge."""
    try:
        return float(text)
    except ValueError:
        return text
