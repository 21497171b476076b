"""A mixture of experts, whose experts are no linear layers: the whole job, to the report."""

import shutil

import torch

from whence.jobs.run import run
from whence.jobs.settings import RunSettings


def test_a_mixture_of_experts_gets_its_report(toy, tmp_path):
    from transformers import MixtralConfig, MixtralForCausalLM

    shutil.copytree(toy / "model", tmp_path / "moe")
    torch.manual_seed(0)
    config = MixtralConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=3,
        vocab_size=24,
        max_position_embeddings=16,
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path / "moe")
    settings = RunSettings(
        model=str(tmp_path / "moe"),
        train=str(toy / "train.jsonl"),
        ask="the capital of france is",
        answer=" paris",
        top=2,
        limit=8,
    )
    done = run(tmp_path / "r", settings)
    assert "stacked experts" in done.report.read_text()
    tokens = done.document(done.top(1)[0]["document"]).tokens()
    told, score = sum(row["predicted"] for row in tokens), done.top(1)[0]["per_copy"]
    assert abs(told - score) < 1e-3 * abs(score)
