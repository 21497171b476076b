"""``whence run``."""

from __future__ import annotations

from whence.cli import flags
from whence.cli.output import progress, show


def run(
    run: flags.Run,
    /,
    *,
    model: flags.Model = None,
    adapter: flags.Adapter = None,
    params: flags.Params = None,
    train: flags.Train = None,
    column: flags.Column = None,
    pack: flags.Pack = None,
    query: flags.Query = None,
    ask: flags.Ask = None,
    answer: flags.Answer = None,
    rather_than: flags.RatherThan = None,
    layers: flags.Layers = None,
    curvature: flags.Curvature = None,
    solver: flags.Solver = None,
    damping: flags.Damping = None,
    dtype: flags.Dtype = None,
    by: flags.By = None,
    limit: flags.Limit = None,
    filter: flags.Filter = None,  # noqa: A002
    memory: flags.Memory = None,
    top: flags.Top = None,
    settings: flags.Settings = None,
    json: flags.Json = False,
) -> None:
    r"""Find the documents, tokens and layers behind a model's answer.

    Reads the training text, fits the curvature of the loss, asks the questions,
    scores every training sequence and writes RUN/report.html. A positive score
    means that training more on the document would make the answer more likely.

    An interrupted run continues when given the same command; a RUN made with
    other weights, data or settings is refused. RUN may be a settings file:
    toy.toml runs in the folder toy beside it.

    Examples:
      whence run runs/toy --model models/toy --train train.jsonl \
          --ask "The capital of France is" --answer " Paris"
      whence run runs/toy --query questions.jsonl
      whence run toy.toml --damping 0.01
    """
    folder, chosen = flags.gather(
        run,
        settings,
        model=model,
        adapter=adapter,
        params=params,
        train=train,
        column=column,
        pack=pack,
        query=query,
        ask=ask,
        answer=answer,
        rather_than=rather_than,
        layers=layers,
        curvature=curvature,
        solver=solver,
        damping=damping,
        dtype=dtype,
        by=by,
        limit=limit,
        filter=filter,
        memory=memory,
        top=top,
    )
    from whence.jobs.run import run as job

    with progress() as log:
        result = job(folder, chosen, log=log)
    show(result, as_json=json)
