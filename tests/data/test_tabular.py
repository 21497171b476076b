"""Tables of numbers and labelled texts: what is read, to what standards, and what is refused where."""

from __future__ import annotations

import gzip

import pytest
import torch
from torch.testing import assert_close

from whence.data import Standards, read_labelled, read_table, split
from whence.errors import DataError, InvalidSetting, NumericalError
from whence.types import Data

HEADED = "cement,water,strength\n1,10,5\n2,20,7\n\n4,60,6\n"


def write(folder, name, text):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def whole(data):
    batches = [batch for unit in data.units for batch in data.batches(unit.number)]
    return {name: torch.cat([getattr(batch, name) for batch in batches]) for name in ("ids", "inputs", "targets")}


def test_a_table_with_a_header_is_read_and_its_rows_know_their_lines(tmp_path):
    path = write(tmp_path, "mix.csv", HEADED)
    table = read_table(path, target="strength")
    assert table.columns == ("cement", "water")
    assert table.inputs.tolist() == [[1, 10], [2, 20], [4, 60]]
    assert table.targets.tolist() == [[5], [7], [6]]
    data = table.data(batch_size=2)
    assert isinstance(data, Data)
    assert [data.name(n) for n in range(3)] == [f"{path}, line {line}" for line in (2, 3, 5)]
    found = whole(data)
    assert found["inputs"].tolist() == table.inputs.tolist()
    assert found["ids"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["mix.csv", "mix.csv.gz", "mix.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_without_a_header_columns_go_by_number_and_the_last_is_the_target(tmp_path, name, delimiter):
    if name.endswith("tsv") and delimiter != "\t":
        return
    text = "\n".join(delimiter.join(row) for row in (["1", "10", "5"], ["2", "20", "7"]))
    table = read_table(write(tmp_path, name, text))
    assert (table.columns, table.inputs.tolist(), table.targets.tolist()) == (
        ("0", "1"),
        [[1, 10], [2, 20]],
        [[5], [7]],
    )
    assert read_table(tmp_path / name, target=0, drop=[1]).columns == ("2",)


def test_inputs_and_a_quantity_are_brought_to_the_training_rows_standards(tmp_path):
    table = read_table(write(tmp_path, "mix.csv", HEADED), target="strength")
    train, valid = table.take([0, 2]), table.take([1])
    standards = train.standards()
    assert standards.settings == {"mean": [2.5, 35.0, 5.5], "std": [1.5, 25.0, 0.5]}
    found = whole(valid.data(standards, dtype=torch.float64))
    assert_close(found["inputs"], torch.tensor([[-1 / 3, -0.6]], dtype=torch.float64))
    assert found["targets"].tolist() == [[3.0]]
    assert whole(valid.data(standards, standard_target=False))["targets"].tolist() == [[7.0]]
    back = standards.undo(standards.apply(torch.tensor([[2.0, 20.0, 7.0]])))
    assert_close(back, torch.tensor([[2.0, 20.0, 7.0]]))


def test_a_constant_column_is_centred_and_not_blown_up():
    standards = Standards.of(torch.tensor([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]]))
    assert standards.std[0] == 1
    assert_close(standards.apply(torch.tensor([[0.1, 2.0]])), torch.zeros(1, 2))


def test_classes_are_numbered_in_order_of_value_where_they_are_numbers(tmp_path):
    path = write(tmp_path, "grades.csv", "x,grade\n1,10\n2,9\n3,10\n")
    table = read_table(path, target="grade", classes=True)
    assert (table.classes, table.targets.tolist()) == (("9", "10"), [1, 0, 1])
    data = table.data(table.standards())
    assert whole(data)["targets"].dtype == torch.int64
    flowers = write(tmp_path, "flowers.csv", "x,kind\n1,iris\n2,aster\n")
    assert read_table(flowers, target="kind", classes=True).classes == ("aster", "iris")


def test_a_split_is_a_function_of_the_seed_and_covers_every_row():
    parts = split(103, (0.7, 0.2, 0.1), seed=3)
    assert [len(part) for part in parts] == [72, 21, 10]
    assert torch.cat(parts).sort().values.tolist() == list(range(103))
    assert all(torch.equal(a, b) for a, b in zip(parts, split(103, (0.7, 0.2, 0.1), seed=3), strict=True))
    assert not torch.equal(parts[0], split(103, (0.7, 0.2, 0.1), seed=4)[0])
    assert [len(part) for part in split(3, (0.98, 0.01, 0.01), seed=0)] == [1, 1, 1]


@pytest.mark.parametrize(("shares", "count"), [((0.5, 0.4), 9), ((), 9), ((1.5, -0.5), 9), ((0.5, 0.5), 1)])
def test_shares_that_are_no_parts_of_a_whole_are_refused(shares, count):
    with pytest.raises(InvalidSetting):
        split(count, shares, seed=0)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("a,b\n1,2\n1,x\n", {}, "line 3: column 'b' holds 'x'"),
        ("a,b\n1,2\n,3\n", {}, "line 3: column 'a' holds ''"),
        ("a,b\n1,nan\n", {}, "line 2: column 'b' holds 'nan'"),
        ("a,b\n1,2\n1\n", {}, "line 3 has 1 cells"),
        ("a,b\n1,2\n", {"target": "strenght"}, "no column 'strenght'"),
        ("a,b\n1,2\n", {"target": 5}, "no column 5"),
        ("a,b\n1,2\n", {"drop": ["a"]}, "no column left"),
        ("a,b\n", {}, "header and no rows"),
        ("", {}, "no rows"),
    ],
)
def test_what_is_no_table_is_refused_by_line_and_column(tmp_path, text, settings, message):
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, "mix.csv", text), **settings)


def test_standards_of_another_table_are_refused(tmp_path):
    table = read_table(write(tmp_path, "mix.csv", HEADED))
    with pytest.raises(InvalidSetting, match="2 columns"):
        table.data(Standards.of(torch.zeros(2, 2)))


def test_messages_name_the_file_and_the_line(tmp_path):
    """From a table all the way to the error of a pass."""
    from whence.jobs.fit import fit
    from whence.tasks import Regression
    from whence.testing import tiny

    path = write(tmp_path, "mix.csv", "a,b\n1,1\n2,2\n3,1e200\n4,4\n")
    data = read_table(path).data(dtype=torch.float64)
    with pytest.raises(NumericalError, match=r"mix\.csv, line 4"):
        fit(tiny.mlp(1, 1), data, task=Regression(), layers="*", labels="true")


SPAM = 'ham\tGo until jurong, "crazy\nspam\tFree entry\nham\tOk lar\n'


def test_labelled_texts_are_read_from_cells_and_from_rows(tmp_path):
    cells = read_labelled(write(tmp_path, "spam.tsv.gz", SPAM), text=1, label=0)
    assert cells.classes == ("ham", "spam")
    assert cells.labels.tolist() == [0, 1, 0]
    assert cells.texts[0] == 'Go until jurong, "crazy'
    assert cells.names[2].endswith("spam.tsv.gz, line 3")
    headed = read_labelled(write(tmp_path, "b.csv", 'text,category\n"Hi, there",a\nbye,b\n'), label="category")
    assert (headed.texts, headed.classes) == (("Hi, there", "bye"), ("a", "b"))
    rows = read_labelled(write(tmp_path, "b.jsonl", '{"text": "x", "label": 3}\n{"text": "y", "label": 20}\n'))
    assert (rows.texts, rows.classes, rows.labels.tolist()) == (("x", "y"), ("3", "20"), [0, 1])


def test_labelled_texts_become_padded_ids(tmp_path):
    texts = read_labelled(write(tmp_path, "spam.tsv", SPAM), text=1, label=0)
    data = texts.data(lambda text: [len(word) for word in text.split()], longest=3, padding=9)
    (batch,) = data.batches(0)
    assert batch.inputs.tolist() == [[2, 5, 7], [4, 5, 9], [2, 3, 9]]
    assert batch.real.tolist() == [[True] * 3, [True, True, False], [True, True, False]]
    assert batch.targets.tolist() == [0, 1, 0]
    assert data.name(1).endswith("spam.tsv, line 2")
    train, rest = texts.split((0.6, 0.4), seed=0)
    assert sorted(train.texts + rest.texts) == sorted(texts.texts)
    assert train.classes == rest.classes == texts.classes


@pytest.mark.parametrize(
    ("name", "text", "settings", "message"),
    [
        ("a.csv", "text,label\nhi,\n", {}, r"line 2 has no label: column 'label' is empty"),
        ("a.csv", "txt,label\nhi,a\n", {}, "no column 'text'"),
        ("a.jsonl", '{"text": "hi"}\n', {}, "line 1 has no label"),
        ("a.jsonl", '{"words": "hi", "label": 1}\n', {}, 'lacks the column "text"'),
        ("a.csv", "text,label\nhi,a\n", {"label": 1}, "both by name"),
    ],
)
def test_texts_without_text_or_label_are_refused(tmp_path, name, text, settings, message):
    with pytest.raises((DataError, InvalidSetting), match=message):
        read_labelled(write(tmp_path, name, text), **settings)
