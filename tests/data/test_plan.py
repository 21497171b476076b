"""The plan cuts sequences into units once and for all: each sequence in one batch, each batch in one unit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.data.plan import Plan, make_plan
from whence.errors import ArtifactError, InvalidSetting

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=80)
budgets = st.integers(1, 400)


@given(lengths, budgets, st.none() | st.integers(1, 30))
def test_units_are_a_partition(lengths, budget, units):
    plan = make_plan(lengths, budget, units)
    dealt = [np.concatenate(plan.batches(unit.number)) for unit in plan.units]
    assert sorted(np.concatenate(dealt).tolist()) == list(range(len(lengths)))
    for unit, rows in zip(plan.units, dealt, strict=True):
        assert unit.sequences == len(rows) > 0
        assert unit.tokens == sum(lengths[row] for row in rows)
    assert len(plan.units) == min(units or 16, len(lengths))


@given(lengths, budgets)
def test_a_batch_keeps_to_its_budget_unless_one_sequence_exceeds_it(lengths, budget):
    plan = make_plan(lengths, budget)
    for unit in plan.units:
        for batch in plan.batches(unit.number):
            padded = len(batch) * max(lengths[row] for row in batch)
            assert padded <= budget or len(batch) == 1


@given(lengths, budgets)
def test_batches_are_no_smaller_than_they_must_be(lengths, budget):
    """Of two neighbours, one could not have taken the other's first sequence too: unless batches were cut for units."""
    plan = make_plan(lengths, budget, units=1)
    batches = plan.batches(0)
    for batch, following in pairwise(batches):
        assert (len(batch) + 1) * lengths[following[0]] > budget


@given(lengths, budgets)
def test_units_are_alike(lengths, budget):
    plan = make_plan(lengths, budget)
    counts = [len(plan.batches(unit.number)) for unit in plan.units]
    assert max(counts) - min(counts) <= 1


def test_the_budget_is_not_capped_by_any_length():
    plan = make_plan([8] * 4096, batch_tokens=2048, units=1)
    assert {len(batch) for batch in plan.batches(0)} == {256}


def test_a_million_tokens_make_a_unit():
    assert len(make_plan([1000] * 40_000, 4096).units) == 40


def test_a_plan_comes_back_from_disk(tmp_path):
    plan = make_plan([3, 1, 4, 1, 5, 9, 2, 6], 8, units=3)
    plan.write(tmp_path)
    back = Plan.read(tmp_path)
    assert back.fingerprint == plan.fingerprint
    assert back.units == plan.units
    assert back.batch_tokens == 8
    assert back.fingerprint != make_plan([3, 1, 4, 1, 5, 9, 2, 6], 8, units=2).fingerprint
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"plan\.json"):
        Plan.read(tmp_path)


@pytest.mark.parametrize("arguments", [{"batch_tokens": 0}, {"batch_tokens": 8, "units": 0}])
def test_budgets_are_positive(arguments):
    with pytest.raises(InvalidSetting, match="at least 1"):
        make_plan([1], **arguments)
