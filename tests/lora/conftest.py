"""A tiny checkpoint with training text and questions, and adapters of it in every state."""

from __future__ import annotations

import pytest
from tests.jobs.conftest import toy  # noqa: F401 (a fixture)

from whence.models.hf import load_model
from whence.testing.lora import save_lora

TARGETS = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture(scope="session")
def adapters(toy, tmp_path_factory):  # noqa: F811
    """``adapters(name, **settings)`` → its folder, made once. The name is the key; "adapter" is a plain one."""
    made = {}
    folder = tmp_path_factory.mktemp("adapters")

    def make(name="adapter", targets=TARGETS, **settings):
        if name not in made:
            made[name] = save_lora(load_model(toy / "model"), folder / name, targets, **settings)
        return made[name]

    return make
