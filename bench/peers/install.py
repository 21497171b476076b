"""The peers' own environment, ``.venv/peers``: they pin and pull in what must not meet the package's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".venv" / "peers"
PYTHON = HOME / "bin" / "python"


def install() -> None:
    """Make it, torch first and by itself; see the head of ``bench/peers.txt`` for why nothing is resolved."""
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    torch = next(line for line in pins if line.startswith("torch=="))
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(HOME)], check=True)
    subprocess.run([*pip, torch], check=True)
    subprocess.run([*pip, "--no-deps", "-r", str(ROOT / "bench" / "peers.txt")], check=True)


def enter(module: str, arguments: list[str]) -> None:
    """Run ``python -m module`` in the peers' environment in place of this process, if it is there."""
    if PYTHON.exists() and Path(sys.prefix).resolve() != HOME.resolve():
        quiet = {"TQDM_DISABLE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}  # read once, when they are imported
        environment = {**os.environ, **quiet, "PYTHONPATH": str(ROOT / "src")}
        os.execve(PYTHON, [str(PYTHON), "-W", "ignore", "-m", module, *arguments], environment)
