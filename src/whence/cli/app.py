"""The command ``whence``: its table of commands, and what becomes of their errors.

    exit code 0    done
              1    a `WhenceError`: what went wrong, which thing, and a hint, on stderr; never a traceback
              2    the command line cannot be understood
            130    interrupted; what was finished is kept

Anything else that is raised is a mistake of ours and keeps its traceback. Data goes to stdout, and all else to
stderr. A reader that closes the pipe early (``whence … | head``) has what it wanted: that is no error.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError

from whence.cli.check import check
from whence.cli.compare import compare
from whence.cli.demo import demo
from whence.cli.export import export
from whence.cli.fit import fit
from whence.cli.help import PlainHelp, help_of
from whence.cli.plan import plan
from whence.cli.prepare import prepare
from whence.cli.report import report
from whence.cli.run import run
from whence.cli.score import score
from whence.cli.self import self_influence
from whence.cli.serve import serve
from whence.cli.show import show
from whence.cli.validate import validate
from whence.cli.value import value
from whence.errors import WhenceError

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
"""What a disk says when it refuses."""

COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo,
    "run": run,
    "plan": plan,
    "show": show,
    "check": check,
    "prepare": prepare,
    "fit": fit,
    "score": score,
    "self": self_influence,
    "validate": validate,
    "value": value,
    "report": report,
    "serve": serve,
    "compare": compare,
    "export": export,
}
"""In the order in which a person meets them, which is the order of the help."""

OVERVIEW = """\
Which training data made this model do this, and where in the data and in the network?

Start with `whence demo`, which explains itself in minutes; then
`whence run runs/mine --model … --train … --ask … --answer …`.

Settings beyond the flags, with an explanation of each, are in the settings.toml
of every run; `whence run RUN --settings FILE` starts from such a file.\
"""


def build() -> App:
    """The command line, assembled. `docs/commands.py` makes the reference page from it."""
    app = App(
        name="whence",
        help=OVERVIEW,
        version=lambda: f"whence {version('whence')}",
        help_format="plaintext",
        help_formatter=PlainHelp(OVERVIEW),
        group_commands="Commands",
        group_parameters="Options",
        group_arguments="Arguments",
        suppress_keyboard_interrupt=False,
    )
    for position, (name, function) in enumerate(COMMANDS.items()):
        text = help_of(function)
        summary = text.partition("\n")[0]
        formatter = PlainHelp(text)
        app.command(function, name=name, help=summary, help_formatter=formatter, version_flags=[], sort_key=position)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; the entry point of ``whence``."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(tokens)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or flushing at exit would complain again
        code = 0
    sys.exit(code)


def _run(tokens: list[str]) -> int:
    try:
        build()(tokens, exit_on_error=False, print_error=False, result_action="return_none")
    except CycloptsError as error:
        error.verbose = False
        command = " ".join(["whence", *(error.command_chain or ())])
        return _complain(f"{command}: {error}", f"see `{command} --help`", code=2)
    except WhenceError as error:
        return _complain(error.message, error.hint)
    except KeyboardInterrupt:
        return _complain("\ninterrupted; what was finished is kept, run the same command to continue", code=130)
    except BrokenPipeError:
        raise
    except OSError as error:
        from whence.artifacts.atomic import refusal

        if error.filename is None or error.errno not in DISK:
            raise
        refused = refusal(Path(error.filename), error)  # what was written without `artifacts`, which says it itself
        return _complain(refused.message, refused.hint)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        hint = "lower batch_tokens, or set rank = 32, in a settings file; `whence plan --memory 16GB` chooses what fits"
        return _complain("out of memory; what was finished is kept", hint)
    return 0


def _out_of_memory(error: BaseException) -> bool:
    """Python's, an accelerator's or torch's on a processor, which is told by its text alone."""
    name = type(error).__name__
    return isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _complain(message: str, hint: str | None = None, *, code: int = 1) -> int:
    print(message, file=sys.stderr)
    if hint is not None:
        print(f"hint: {hint}", file=sys.stderr)
    return code
