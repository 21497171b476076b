"""``whence show``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from whence.cli import flags
from whence.cli.output import show as print_json
from whence.errors import InvalidSetting


def _part(text: str, name: str) -> Parameter:
    return Parameter(help=text, name=name, show_default=False, negative=())


def show(
    run: flags.AnyRun = None,
    /,
    *,
    data: Annotated[bool, _part("The first documents, token by token, what is scored marked", "--data")] = False,
    layers: Annotated[bool, _part("What is tracked and what is left out, with reasons", "--layers")] = False,
    state: Annotated[bool, _part("What of a run is done", "--run")] = False,
    count: Annotated[int, Parameter(help="Documents to show", name="-n", metavar="INT")] = 5,
    model: flags.Model = None,
    adapter: flags.Adapter = None,
    params: flags.Params = None,
    train: flags.Train = None,
    column: flags.Column = None,
    pack: flags.Pack = None,
    settings: flags.Settings = None,
    json: flags.Json = False,
) -> None:
    """Look at a run, or at a model and data before there is one; change nothing.

    --data prints documents as the model reads them: scored tokens in colour (in
    brackets where there is none, as in a log), all else dim, special tokens and the
    end of a turn spelled out. A mask that is wrong is seen here before it costs a fit.
    With --pack windows a document begins with the token before it, which predicts its
    first, and ┆ stands where its next window begins; --pack segments changes no
    document, only which of them share the model's rows.
    --layers says which layers take part, by the names that --layers of other commands
    matches. --run says what is done. Without any of them, all that there is.

    Examples:
      whence show --model models/toy --train chats.jsonl --data -n 3
      whence show --model models/toy --layers
      whence show runs/toy
    """
    is_run = run is not None and run.suffix != ".toml" and (run / "manifest.json").exists()
    if not (data or layers or state):
        data, layers, state = bool(train or run or settings), True, is_run
    if count < 1:
        raise InvalidSetting(f"-n must be at least 1, not {count}")
    folder, chosen = run or Path(), None
    if data or layers:  # what is done, the folder alone says
        needless = not data and run is None and settings is None and train is None
        folder, chosen = flags.gather(
            run,
            settings,
            model=model,
            adapter=adapter,
            params=params,
            train="" if needless else train,
            column=column,
            pack=pack,
        )
    from rich.console import Console

    from whence.jobs.show import show as job

    shown = job(folder, chosen, data=data, layers=layers, run=state, count=count)
    if json:
        print_json(shown, as_json=True)
    else:
        shown.print(Console(file=sys.stdout, highlight=False, markup=False, emoji=False))
