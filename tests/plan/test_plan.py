"""A plan says what a run then takes: operations, memory and disk within a quarter."""

from __future__ import annotations

import json

import pytest
import torch

from whence.jobs import filter_setting
from whence.jobs import fit as fitting
from whence.jobs.filter_setting import FilterSetting
from whence.jobs.fit import fit
from whence.jobs.plan import plan_for
from whence.jobs.plan.costs import Shape
from whence.jobs.plan.disk import rescored_bytes
from whence.jobs.plan.probe import CountOperations, LiveBytes, made_up, operations, peak, tried
from whence.jobs.plan.view import Plan
from whence.jobs.plan.workload import Workload
from whence.jobs.query import QueryBatch, query_gradients, save_queries
from whence.jobs.score import score
from whence.jobs.stream import likelihood_pass
from whence.layers.select import track
from whence.tasks import CausalLM
from whence.testing import tiny, toys

QUARTER = 0.25
TASK = CausalLM()


@pytest.fixture(scope="module")
def model():
    import transformers

    config = transformers.LlamaConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        vocab_size=200,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def data():
    draw = torch.Generator().manual_seed(3)
    lengths = [20 + (n * 7) % 30 for n in range(96)]
    rows = [torch.randint(200, (length,), generator=draw).tolist() for length in lengths]
    order = sorted(range(96), key=lambda n: lengths[n])
    return toys.TinyData([toys.sequence(row, number=n) for n, row in enumerate(rows)], batch_size=6, order=order)


@pytest.fixture(scope="module")
def parts():
    batch = toys.collate([toys.sequence([5, 9, 14, 77, 8, 31], 5, number=n) for n in range(5)])
    return [QueryBatch(batch, torch.arange(5), torch.ones(5))]


@pytest.fixture(scope="module", params=[None, 4], ids=["full rank", "rank 4"])
def planned(request, model, data, parts) -> Plan:
    asked = Workload.of_queries(parts, 5)
    return plan_for(model, Workload.of(data), TASK, queries=asked, rank=request.param)


@pytest.fixture(scope="module")
def verified_once(model, data):
    """The layers as a fit finds them; its check before the first pass is no part of any pass."""
    from whence.jobs.stream import checked_layers

    return checked_layers(model, track(model), TASK, data)


def row(plan: Plan, name: str):
    return next(one for one in plan.passes if one.name == name)


def test_operations_of_a_run(planned, model, data, parts, verified_once, monkeypatch):
    monkeypatch.setattr(fitting, "checked_layers", lambda *_, **__: verified_once)
    monkeypatch.setattr(fitting, "note_on_batch_mates", lambda *_, **__: None, raising=False)
    with CountOperations() as fitted:
        curvature = fit(model, data, task=TASK)
    with CountOperations() as asked:
        queries = query_gradients(curvature, model, parts, task=TASK, rank=planned.rank or "full")
    with CountOperations() as scored:
        score(curvature, queries, data, model=model, task=TASK)
    names = ("fit: moments", "fit: eigenvalues", "fit: sampling noise")
    assert sum(row(planned, name).operations for name in names) == pytest.approx(fitted.total, rel=0.05)
    assert row(planned, "query").operations == pytest.approx(asked.total, rel=0.05)
    assert row(planned, "score").operations == pytest.approx(scored.total, rel=0.05)


def test_memory_of_a_run(planned, model, data, parts, verified_once, monkeypatch, tmp_path):
    monkeypatch.setattr(fitting, "checked_layers", lambda *_, **__: verified_once)
    fitted, queries = [], []
    with LiveBytes() as whole:
        fitted.append(fit(model, data, task=TASK, folder=tmp_path / "curvature"))
    expected = max(one.memory for one in planned.passes if one.name.startswith("fit"))
    assert expected == pytest.approx(whole.highest, rel=QUARTER)
    with LiveBytes() as asked:
        queries.append(query_gradients(fitted[0], model, parts, task=TASK, rank=planned.rank or "full"))
    held = planned_bytes(fitted[0])
    assert row(planned, "query").memory == pytest.approx(held + asked.highest, rel=QUARTER)
    with LiveBytes() as scored:
        score(fitted[0], queries[0], data, model=model, task=TASK)
    held += sum(_numbers(entry) * 4 for entry in queries[0].prepared.values())
    assert row(planned, "score").memory == pytest.approx(held + scored.highest, rel=QUARTER)


def test_disk_of_a_run(planned, model, data, parts, tmp_path):
    curvature = fit(model, data, task=TASK, folder=tmp_path / "curvature")
    queries = query_gradients(curvature, model, parts, task=TASK, rank=planned.rank or "full")
    (tmp_path / "queries").mkdir()
    save_queries(queries, tmp_path / "queries" / "gradients.safetensors")
    score(curvature, queries, data, model=model, task=TASK, folder=tmp_path / "scores")
    for name in ("curvature", "queries", "scores"):
        size = sum(path.stat().st_size for path in (tmp_path / name).rglob("*") if path.is_file())
        if name == "scores" and planned.rank is not None:  # all documents are scored again, by a job not run here
            size += rescored_bytes(5, planned.documents)
        assert planned.disk[name] == pytest.approx(size, rel=QUARTER), name


def test_partial_sums_stay_within_what_was_planned(planned, model, data, tmp_path, monkeypatch):
    from whence.artifacts import tree

    most, save = [0], tree.save_tensors

    def watch(path, *args, **kwargs):
        save(path, *args, **kwargs)
        most[0] = max(most[0], sum(p.stat().st_size for p in (tmp_path / "c").rglob("*.safetensors")))

    monkeypatch.setattr(tree, "save_tensors", watch)
    fit(model, data, task=TASK, folder=tmp_path / "c")
    assert planned.disk_while_fitting == pytest.approx(most[0], rel=QUARTER)


def test_a_plan_runs_no_training_text(model, data, monkeypatch):
    work = Workload.of(data)
    real = {tuple(row.tolist()) for one in data.examples for row in one.inputs}
    seen = []
    handle = model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(args or kwargs), with_kwargs=True)
    base = model.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs.get("input_ids", args[0] if args else None)), with_kwargs=True
    )
    try:
        plan_for(model, work, TASK, curvature="diagonal")
    finally:
        handle.remove()
        base.remove()
    ids = [one for one in seen if isinstance(one, torch.Tensor)]
    assert ids
    assert not any(tuple(line.tolist()) in real for one in ids for line in one)


def test_the_model_is_left_as_it_was(model, data):
    flags = [parameter.requires_grad for parameter in model.parameters()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan_for(model, Workload.of(data), TASK, curvature="identity")
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("curvature", "names"),
    [
        ("identity", []),
        ("diagonal", ["fit: squares", "fit: sampling noise"]),
        ("kfac", ["fit: moments", "fit: eigenbases", "fit: sampling noise"]),
        ("ekfac", ["fit: moments", "fit: eigenbases", "fit: eigenvalues", "fit: sampling noise"]),
    ],
)
def test_each_curvature_has_its_passes(model, data, curvature, names):
    plan = plan_for(model, Workload.of(data), TASK, curvature=curvature)
    assert [one.name for one in plan.passes] == ["check", *names]


def test_more_samples_cost_more_passes(model, data):
    once, thrice = (plan_for(model, Workload.of(data), TASK, samples=samples) for samples in (1, 3))
    assert row(thrice, "fit: eigenvalues").passes == 3
    assert row(thrice, "fit: eigenvalues").operations == pytest.approx(3 * row(once, "fit: eigenvalues").operations)
    assert row(thrice, "fit: moments").operations < 3 * row(once, "fit: moments").operations


def test_a_filter_leaves_the_rest_out_of_the_scoring_pass(planned, model, data, parts, monkeypatch):
    asked, work = Workload.of_queries(parts, 5), Workload.of(data)
    monkeypatch.setattr(filter_setting, "CONTROL", 6)
    some = plan_for(model, work, TASK, queries=asked, rank=planned.rank or "full", filter=FilterSetting("bm25", 6))
    every = plan_for(model, work, TASK, queries=asked, rank=planned.rank or "full", filter=FilterSetting("tfidf", 96))
    assert some.scored == 6 * 5 + 6
    assert row(some, "score").sequences == 36
    assert row(some, "score").passes == 0
    assert 0.3 < row(some, "score").operations / row(planned, "score").operations < 0.6
    assert some.disk["scores"] < planned.disk["scores"]
    assert row(some, "fit: moments").operations == row(planned, "fit: moments").operations
    assert "at most 36 of 96 documents, BM25's first 6 for each question" in some.text()
    assert "repeat the question's words" in some.text()
    assert some.to_dict()["filter"] == "bm25:6"
    assert row(every, "score").operations == row(planned, "score").operations
    assert (every.scored, planned.scored) == (96, 96)
    assert "scored: all 96 of 96" in every.text()
    assert "filter" not in planned.text()


def test_a_plan_says_it_in_words_and_in_json(planned):
    page = planned.text()
    for word in ("documents", "tracked", "fit: eigenvalues", "training epoch", "memory", "disk", "work units"):
        assert word in page
    assert "nan" not in page
    assert all(len(line) < 260 for line in page.splitlines())
    machine = json.loads(json.dumps(planned.to_dict(), allow_nan=False))
    assert machine["memory"]["peak"] == planned.peak_memory > machine["memory"]["baseline"] > 0
    assert machine["disk"]["total"] == sum(planned.disk.values())
    assert [one["pass"] for one in machine["passes"]][:2] == ["check", "fit: moments"]
    assert machine["epochs"] > 1


def test_operations_of_any_batch_follow_from_three_small_ones(model):
    def bare(batch):
        likelihood_pass(model, track(model).layers, TASK, batch, lambda _: None)

    fitted = operations(bare, model)
    for shape in (Shape(3, 20, 40), Shape(7, 5, 28), Shape(2, 33, 1)):
        with CountOperations() as counter:
            bare(made_up(shape, model))
        assert fitted.of(shape) == pytest.approx(counter.total, rel=1e-9)


def test_live_bytes_are_those_of_tensors_alive_at_once():
    def run():
        first = torch.zeros(1000)
        second = first[:10].clone()
        del first
        third = torch.zeros(500)
        return second, third

    assert peak(run, torch.device("cpu")) == 4 * 1010


def test_made_up_batches_have_the_asked_shape():
    model = tiny.language_model()
    for shape in (Shape(3, 5, 12), Shape(3, 5, 7), Shape(2, 9, 1)):
        batch = made_up(shape, model)
        assert tuple(batch.inputs.shape) == (shape.n, shape.t)
        assert int(batch.scored.sum()) == shape.scored
        assert int(batch.inputs.max()) < 7
        assert not batch.scored[:, -1].any()


def test_a_trial_is_never_larger_than_what_it_stands_for():
    assert tried(Shape(8, 4, 24), each=1.0, budget=100.0) == Shape(8, 4, 24)
    assert tried(Shape(8, 4, 24), each=50.0, budget=100.0) == Shape(2, 4, 6)
    assert tried(Shape(8, 64, 504), each=50.0, budget=1.0).n == 1
    assert tried(Shape(8, 64, 504), each=50.0, budget=2.5).t == 32


def planned_bytes(curvature) -> int:
    tensors = {id(t): t for b in curvature.blocks.values() for t in (b.eigenvalues, b.output_basis, b.input_basis)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _numbers(entry) -> int:
    return entry.numel() if isinstance(entry, torch.Tensor) else entry.left.numel() + entry.right.numel()
