"""``whence self``."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from whence.cli import examples, flags
from whence.cli.output import progress, show

Labels = Annotated[
    bool,
    Parameter(
        help="Of labelled examples, told as in `whence value`: rank their labels, and say what the model would",
        show_default=False,
        negative=(),
    ),
]
Model = Annotated[
    str | None,
    Parameter(
        help="The model: a Hugging Face checkpoint with its tokenizer; with --labels a sequence classifier, or a "
        "function that makes the model, FILE.py:FUNCTION (the file is run)",
        metavar="MODEL",
        show_default=False,
    ),
]
Train = Annotated[
    str | None,
    Parameter(
        help="The training text, as in `whence run`; with --labels examples, as in `whence value`: class folders of "
        "pictures, IDX, a table, or labelled texts",
        metavar="DATA",
        show_default=False,
    ),
]
Layers = Annotated[
    list[str] | None,
    Parameter(
        help="Layers to track: blocks, mlp, all, or globs on layer names; repeatable [default: blocks; with --labels "
        "all, a classifier's head included]",
        metavar="GLOB",
        show_default=False,
        negative=(),
    ),
]


def self_influence(
    run: flags.Run,
    /,
    *,
    labels: Labels = False,
    model: Model = None,
    weights: examples.Weights = None,
    train: Train = None,
    target: examples.Target = None,
    text: examples.Text = None,
    size: examples.Size = None,
    as_is: examples.AsIs = False,
    layers: Layers = None,
    damping: flags.Damping = None,
    top: flags.Top = None,
    units: flags.Units = None,
    settings: flags.Settings = None,
    json: flags.Json = False,
) -> None:
    r"""Rank training documents, or labelled examples, by their influence on themselves.

    How much the model's loss on a document would fall if it were trained on once
    more. What ranks high is what the model could not learn from the rest:
    mislabelled rows, noise, the unusual. Fits the curvature first where RUN has none.

    With --labels, of pictures, table rows or texts with a label each: prints the
    most suspect labels beside the most probable other one, and writes
    RUN/suspects.csv with all of them and RUN/suspects.html.

    Examples:
      whence self runs/toy --top 50
      whence self runs/digits --labels --model net.py:make --weights net.safetensors \
          --train digits/train-images-idx3-ubyte.gz
    """
    own: dict[str, Any] = {"weights": weights, "target": target, "text": text, "size": size, "as_is": as_is or None}
    shared: dict[str, Any] = {"model": model, "train": train, "layers": layers, "damping": damping, "top": top}
    if labels:
        flags.refuse("cannot be given with --labels", "leave it out", units=units, settings=settings)
        chosen = examples.chosen(run, **shared, **own)
        from whence.jobs.valuation.job import label_suspects

        with progress() as log:
            found = label_suspects(run, chosen, log=log)
        show(found, as_json=json)
        return
    flags.refuse("is for labelled examples", "add --labels, or leave it out", **own)
    folder, wanted = flags.gather(run, settings, **shared)
    from whence.jobs.run import run as job

    with progress() as log:
        result = job(folder, wanted, log=log, stop_after="self", units=units)
    show(result, as_json=json)
