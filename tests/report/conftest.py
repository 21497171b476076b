"""The sample report, rendered once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.sample import sample

from whence.report import render


@pytest.fixture(scope="session")
def html() -> str:
    """The whole sample, rendered once."""
    return render(sample())


@pytest.fixture(scope="session")
def file(html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path
