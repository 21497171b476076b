"""A folder of small runs in every state, served on a free port, and two ways to ask it: raw HTTP, and a browser."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.conftest import checkpoint

import whence as wh
from whence.jobs.run import run as job
from whence.jobs.serve import explorer
from whence.jobs.settings import RunSettings

__all__ = ["checkpoint"]

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e</textarea></select>\"'>"
PAIRS = {
    "en": "the capital of France is Paris",
    "de": "die Hauptstadt heißt Straßburg",
    "ja": "フランスの首都はパリです",
    "ar": "عاصمة فرنسا هي باريس",
    "emoji": "it is 👩🏽‍🚀 Paris ✨",
    "long": "Rindfleischetikettierungsüberwachungsaufgaben" * 3,
    "html": HOSTILE,
}
ASKED = ["the capital of France is", "フランスの首都は", "once upon a time there was a kind"]
ANSWERS = [" Paris", "パリ", HOSTILE[:24]]
DOCUMENTS = 126


def rows():
    names = list(PAIRS)
    for number in range(DOCUMENTS):
        lang = names[number % len(names)]
        copy = number < 2 * len(names)  # the first fourteen say only seven things
        yield {
            "text": PAIRS[lang] if copy else f"{PAIRS[lang]}, {number}",
            "lang": lang,
            "rating": number / 8,
            "id": f"row-{number:04d}",
            "tags": ["geo", lang] if number % 2 else None,
            "<b>": HOSTILE if number % 9 == 0 else f"plain {number}",
        }


@pytest.fixture(scope="session")
def folder(checkpoint, tmp_path_factory) -> Path:
    """``geography`` is answered, twice; ``deep/begun`` is prepared; ``torn`` and ``other`` are no runs."""
    folder = tmp_path_factory.mktemp("served") / "runs"
    data = folder.parent / "train.jsonl"
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows()), encoding="utf-8")
    asked = [wh.ask(prompt, answer) for prompt, answer in zip(ASKED, ANSWERS, strict=True)]
    settings = RunSettings(
        model=str(checkpoint), train=str(data), curvature="identity", by=("layer", "token"), top=4, ask="a", answer="b"
    )
    job(folder / "geography", settings, questions=asked[:1], stop_after="score")
    job(folder / "geography", settings, questions=asked)
    job(folder / "deep" / "begun", settings, questions=asked, stop_after="prepare")
    torn = folder / "torn" / "data"
    torn.mkdir(parents=True)
    (torn.parent / "manifest.json").write_text('{"kind": "run", ')
    (torn.parent / "settings.toml").write_text("model = ")
    (folder / "other").mkdir()
    (folder / "other" / "notes.txt").write_text("nothing of ours")
    return folder


@pytest.fixture(scope="session")
def run(folder):
    """The answered run, opened as from Python."""
    return wh.open(folder / "geography")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str


class Served:
    """A server in a thread of this process."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.explorer = explorer(folder, say=self.said.append)
        self.port = self.explorer.server.server_port
        self.url = self.explorer.url
        self.base = self.explorer.server.gate.base
        self.thread = threading.Thread(target=self.explorer.serve, daemon=True)
        self.thread.start()

    def ask(self, path: str = "/", method: str = "GET", *, whole: bool = False, **headers: str) -> Answer:
        """A request below the token, or of a ``whole`` path; ``Sec_Fetch_Site`` is a header, None leaves one out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path if whole else self.base + path, skip_host=True, skip_accept_encoding=True)
        for name, value in ({"Host": f"127.0.0.1:{self.port}"} | headers).items():
            if value is not None:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read().decode("utf-8")
        connection.close()
        return Answer(response.status, dict(response.getheaders()), body)

    def key(self, name: str) -> str:
        """What addresses call a run."""
        from whence.jobs.serve.listing import runs_below

        return next(found.key for found in runs_below(self.explorer.folder) if found.name == name)

    def of(self, path: str, name: str = "geography") -> Answer:
        """A page of a run."""
        return self.ask(f"/run/{self.key(name)}/{path}")

    def end(self) -> None:
        self.explorer.server.shutdown()
        self.thread.join(10)


@pytest.fixture(scope="module")
def served(folder):
    served = Served(folder)
    yield served
    served.end()
    assert served.said == []  # no mistake was made in answering
