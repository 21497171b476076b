"""What the report will weigh: a page of one made-up question is rendered, and one of none.

Documents are as long as the mean; tokens are random letters, and values cubes of normal numbers: most of them small
beside the largest, as influences are, and spread so that they take the room of real ones. (The demo's page comes out
a fifth too large, those of untrained models a sixth to a quarter too small.)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from string import ascii_lowercase

from whence.jobs.plan.workload import Workload
from whence.jobs.report.question import layer_groups
from whence.report.html import render
from whence.report.model import Doc, Question, ReportData
from whence.report.shape import Tail

LETTERS = 3
"""Of a token, after its space."""


def report_bytes(layers: Sequence[str], train: Workload, queries: Workload, top: int) -> int:
    """Bytes of ``report.html``."""
    draw = random.Random(0)
    documents = min(2 * top, train.documents)
    made = _question(list(layers), train, round(queries.tokens / queries.documents), documents, draw)
    without, with_one = (len(_rendered(questions).encode()) for questions in ([], [made]))
    return without + queries.documents * (with_one - without)


def _rendered(questions: list[Question]) -> str:
    return render(ReportData(title="", created="", questions=questions))


def _question(layers: list[str], train: Workload, tokens: int, documents: int, draw: random.Random) -> Question:
    groups = [name for name, _ in layer_groups(layers)]
    shown = [
        _doc(number, max(2, round(train.tokens / train.documents)), layers, len(groups), draw)
        for number in range(documents)
    ]
    return Question(
        id="0",
        prompt=_text(tokens, draw),
        completion="",
        tokens=_words(tokens, draw),
        scored=[True] * tokens,
        measurement=draw.random(),
        tail=Tail.of(abs(value) for value in _values(train.documents, draw)),
        raises=shown[: (documents + 1) // 2],
        lowers=shown[(documents + 1) // 2 :],
        layers=layers,
        groups=groups,
    )


def _doc(number: int, tokens: int, layers: list[str], groups: int, draw: random.Random) -> Doc:
    return Doc(
        document=number,
        source="x" * 40,
        row=number,
        place="x" * 50,
        tokens=_words(tokens, draw),
        score_per_copy=draw.random(),
        score_raw=draw.random(),
        percentile=100 * draw.random(),
        cosine=draw.random(),
        self_normalised=draw.random(),
        scored=[False] + [True] * (tokens - 1),
        by_token=_values(tokens, draw),
        by_layer=_values(len(layers), draw),
        heat=[_values(tokens, draw) for _ in range(groups)],
        output_tokens=_values(tokens, draw),
        input_tokens=_values(tokens, draw),
    )


def _values(count: int, draw: random.Random) -> list[float]:
    return [float(f"{draw.gauss(0, 1) ** 3:.4g}") for _ in range(count)]


def _words(count: int, draw: random.Random) -> list[str]:
    return [" " + "".join(draw.choices(ascii_lowercase, k=LETTERS)) for _ in range(count)]


def _text(count: int, draw: random.Random) -> str:
    return "".join(_words(count, draw))
