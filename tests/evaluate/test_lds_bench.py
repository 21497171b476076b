"""The bench of LDS: what is committed belongs together, and its protocols are what they say."""

import json
from pathlib import Path

import pytest
from bench.lds.__main__ import VARIANTS
from bench.lds.page import page
from bench.lds.protocol import Protocol, model_of, windows

RESULTS = Path(__file__).parents[2] / "bench" / "results"


@pytest.fixture(scope="module")
def found():
    return json.loads((RESULTS / "lds.json").read_text())


def test_the_page_is_made_from_the_figures(found):
    assert page(found) == (RESULTS / "lds.md").read_text()


@pytest.mark.parametrize("name", VARIANTS)
def test_the_figures_of_a_protocol_are_of_its_settings(found, name):
    assert VARIANTS[name].items() <= found["variants"][name]["protocol"].items()


@pytest.mark.parametrize(("init", "embeddings", "queries"), [("llama", 0.02, 0.02), ("torch", 1.0, 1 / 192**0.5)])
def test_initial_weights_have_the_deviations_that_the_page_states(init, embeddings, queries):
    model = model_of(Protocol(init=init)).model

    assert model.embed_tokens.weight.std().item() == pytest.approx(embeddings, rel=0.05)
    assert model.layers[0].self_attn.q_proj.weight.std().item() == pytest.approx(queries, rel=0.05)


def test_seeds_change_the_windows_and_no_window_is_both_trained_on_and_asked_about():
    train, held_out = (data.inputs for data in windows(Protocol()))
    other, _ = windows(Protocol(draw_seed=1))

    assert not (train[:, None] == held_out[None]).all(-1).any()
    assert not train.equal(other.inputs)
