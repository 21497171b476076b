"""``whence plan``."""

from __future__ import annotations

from whence.cli import flags
from whence.cli.output import progress, show


def plan(
    run: flags.AnyRun = None,
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
    samples: flags.Samples = None,
    rank: flags.Rank = None,
    dtype: flags.Dtype = None,
    limit: flags.Limit = None,
    filter: flags.Filter = None,  # noqa: A002
    memory: flags.Memory = None,
    top: flags.Top = None,
    settings: flags.Settings = None,
    json: flags.Json = False,
) -> None:
    """Say what a run would take; change nothing.

    Of each pass: tokens, operations, time and memory. Of the whole: bytes on disk, the
    layers that would be tracked and those left out, and the work units. The training
    text is read for its lengths alone, and the model is tried on made-up tokens.
    With --memory, of the batches and groups of layers that fit, or what does not.

    Examples:
      whence plan --model models/toy --train train.jsonl --query questions.jsonl
      whence plan toy.toml --samples 8
      whence plan toy.toml --memory 16GB
    """
    _, chosen = flags.gather(
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
        samples=samples,
        rank=rank,
        dtype=dtype,
        limit=limit,
        filter=filter,
        memory=memory,
        top=top,
    )
    from whence.jobs.plan import plan as job

    with progress() as log:
        result = job(chosen, log=log)
    show(result, as_json=json)
