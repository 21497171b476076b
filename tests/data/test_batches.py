"""Batches add padding and nothing else; tensors in memory keep the same contract as a store."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whence.data import Piece, TensorData, collate
from whence.errors import DataError, InvalidSetting
from whence.types import Data


@st.composite
def pieces(draw: st.DrawFn) -> Piece:
    tokens = draw(st.lists(st.integers(1, 99), min_size=1, max_size=9))
    scored = [False, *draw(st.lists(st.booleans(), min_size=len(tokens) - 1, max_size=len(tokens) - 1))]
    return Piece(np.array(tokens, np.int32), np.array(scored), draw(st.integers(0, 50)))


@given(st.lists(pieces(), min_size=1, max_size=6))
def test_a_row_is_its_piece_whatever_its_batch_mates(rows):
    batch = collate(rows, ids=[10 + i for i in range(len(rows))], documents=range(len(rows)))
    assert batch.inputs.shape == (len(rows), max(map(len, rows)))
    for row, piece in enumerate(rows):
        t = len(piece)
        assert batch.inputs[row, :t].tolist() == piece.tokens.tolist()
        assert batch.real[row].tolist() == [True] * t + [False] * (batch.inputs.shape[1] - t)
        at = batch.scored[row].nonzero()[:, 0]
        assert (at + 1).tolist() == np.flatnonzero(piece.scored).tolist()
        assert batch.targets[row, at].tolist() == piece.tokens[piece.scored].tolist()
        assert not batch.targets[row][~batch.scored[row]].any()
        assert not batch.inputs[row, t:].any()
        assert batch.offset[row] == piece.offset
        assert batch.ids[row] == 10 + row


@given(st.integers(1, 40), st.integers(1, 9), st.none() | st.integers(1, 20))
def test_tensor_units_are_a_partition(examples, batch_size, units):
    data = TensorData(
        torch.arange(examples * 2.0).view(-1, 2), torch.arange(examples), batch_size=batch_size, units=units
    )
    assert isinstance(data, Data)
    seen = [batch for unit in data.units for batch in data.batches(unit.number)]
    assert sorted(torch.cat([batch.ids for batch in seen]).tolist()) == list(range(examples))
    for batch in seen:
        assert torch.equal(batch.inputs[:, 0], 2.0 * batch.ids)
        assert torch.equal(batch.targets, batch.ids)
        assert batch.real.shape == (len(batch), 1)
    assert sum(unit.sequences for unit in data.units) == examples
    assert sum(unit.tokens for unit in data.units) == examples


def test_token_tensors_have_positions():
    ids = torch.randint(1, 9, (5, 4))
    real = torch.ones(5, 4, dtype=torch.bool)
    real[2, 2:] = False
    data = TensorData(ids, ids.roll(-1, 1), real=real, batch_size=2)
    assert [unit.tokens for unit in data.units] == [8, 6, 4]
    (batch,) = data.gather([3, 1])
    assert batch.ids.tolist() == [3, 1]
    assert torch.equal(batch.inputs, ids[[3, 1]])
    assert TensorData(ids, ids.roll(-1, 1)).real.shape == (5, 4)
    assert TensorData(ids.float(), ids.float()).real.shape == (5, 1)


def test_another_content_or_cut_has_another_fingerprint():
    x, y = torch.randn(6, 2), torch.arange(6)
    data = TensorData(x, y, batch_size=2)
    assert data.fingerprint == TensorData(x.clone(), y.clone(), batch_size=2).fingerprint
    others = [
        TensorData(x, y, batch_size=3),
        TensorData(x, y, batch_size=2, units=2),
        TensorData(x + 1, y, batch_size=2),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_tensors_that_do_not_fit_are_refused():
    x = torch.zeros(3, 2)
    with pytest.raises(DataError, match="3 inputs and 2 targets"):
        TensorData(x, torch.zeros(2))
    with pytest.raises(DataError):
        TensorData(x[:0], x[:0])
    with pytest.raises(DataError, match="do not fit"):
        TensorData(x, x, real=torch.zeros(3, 1, dtype=torch.bool), scored=torch.ones(3, 1, dtype=torch.bool))
    with pytest.raises(InvalidSetting):
        TensorData(x, x, batch_size=0)
