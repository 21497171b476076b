"""The demo as a user runs it: every learned fact's document is found, and the JSON says so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

METHODS = {"ekfac", "gradient_dot", "cosine", "bm25", "random"}


@pytest.mark.slow
def test_the_demo_finds_the_documents_behind_what_the_model_says(tmp_path):
    command = [Path(sys.executable).with_name("whence"), "demo", "--out", tmp_path / "demo", "--json"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["recall_at_1"]) == set(found["recall_at_10"]) == METHODS
    assert found["facts_asked"] == 252
    assert found["facts_learned"] >= 70
    assert found["recall_at_10"]["ekfac"] >= 0.9
    assert found["recall_at_1"]["ekfac"] > found["recall_at_1"]["cosine"] > found["recall_at_1"]["random"]
    assert Path(found["report"]).stat().st_size > 100_000
    assert "fit: squares" in done.stderr  # progress was visible
