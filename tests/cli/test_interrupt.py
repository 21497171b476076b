"""Ctrl-C ends with code 130 and keeps what was finished; the same command goes on to the same bits."""

import signal
import subprocess
import time
from functools import partial

import pytest
from tests.cli.conftest import INSTALLED, write_corpus


@pytest.fixture
def command(checkpoint, tmp_path):
    """A run long enough to be interrupted: a few seconds of small batches."""
    corpus = write_corpus(tmp_path / "train.jsonl", 150)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'model = "{checkpoint}"\ntrain = "{corpus}"\nbatch_tokens = 64\n')

    def arguments(folder):
        question = ["--ask", "the cat sat on", "--answer", " a mat"]
        return [str(INSTALLED), "run", str(tmp_path / folder), "--settings", str(settings), *question]

    return arguments


def scores(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("scores/*/part-*.safetensors"))}


@pytest.mark.slow
def test_an_interrupted_run_keeps_its_work_and_goes_on_to_the_same_bits(command, tmp_path):
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs are started deaf to it
    process = subprocess.Popen(command("a"), stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    events, limit = tmp_path / "a" / "events.jsonl", time.monotonic() + 240
    while not (events.exists() and "moments" in events.read_text()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert err.rstrip().endswith("interrupted; what was finished is kept, run the same command to continue")
    assert "Traceback" not in err
    assert not scores(tmp_path / "a")

    for folder in ("a", "b"):  # the interrupted one continued, and one that never was
        subprocess.run(command(folder), stderr=subprocess.DEVNULL, check=True)

    assert scores(tmp_path / "a") == scores(tmp_path / "b") != {}
