"""What cannot be honoured is refused before the first pass, saying what, which and what next."""

import json

import pytest
from safetensors.torch import load_file, save_file


def refused(done, *words):
    assert done.code == 1, done.out
    assert "hint" in done.err
    for word in words:
        assert word in done.err


def test_flags_of_labelled_examples_need_labels(whence, table, tmp_path):
    refused(whence("self", tmp_path / "out", *table.flags, "--train", table.train), "--weights", "--labels")


def test_units_are_not_for_labels(whence, table, tmp_path):
    done = whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train, "--units", "0:1")

    assert done.code == 1
    assert "--units cannot be given with --labels" in done.err


def test_a_class_the_training_examples_do_not_have(whence, table, tmp_path):
    table.valid.write_text(table.valid.read_text().replace("left", "centre"))

    done = whence("value", tmp_path / "out", *table.flags, "--train", table.train, "--valid", table.valid)

    refused(done, "valid.csv, line 2", "'centre'", "left, right")
    assert not (tmp_path / "out").exists()


def test_more_classes_than_the_model_has_outputs(whence, table, tmp_path):
    table.train.write_text(table.train.read_text().replace("left", "centre", 1))

    refused(
        whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train), "3 classes", "2 outputs"
    )


def test_a_class_that_is_missing_from_the_training_examples(whence, table, tmp_path):
    """Names are numbered by their order: without "left", "right" would be the model's first output."""
    lines = table.train.read_text().splitlines()
    table.train.write_text("\n".join(line for line in lines if not line.endswith("left")) + "\n")

    refused(
        whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train),
        "1 class (right)",
        "2 outputs",
    )
    assert not (tmp_path / "out").exists()


def test_a_label_that_is_missing_is_no_class_of_its_own(whence, table, tmp_path):
    lines = table.train.read_text().splitlines()
    broken = [line.rpartition(",")[0] + "," if number in (4, 9) else line for number, line in enumerate(lines)]
    table.train.write_text("\n".join(broken) + "\n")

    done = whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train)

    refused(done, "train.csv, line 5 has no label: column 'kind' is empty, as in 1 more row", "remove the row")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["nan", "NaN", " "])
def test_what_stands_for_a_missing_label_is_no_class(whence, table, tmp_path, missing):
    table.train.write_text(table.train.read_text().replace("left", missing, 1))

    refused(
        whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train), "has no label", "'kind'"
    )


def test_a_column_without_any_label(whence, table, tmp_path):
    lines = [f"{line.rpartition(',')[0]}," for line in table.train.read_text().splitlines()[1:]]
    table.train.write_text("\n".join(["height,weight,age,kind", *lines]) + "\n")

    done = whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train)

    refused(done, "train.csv: column 'kind' holds no label in any row", "--target")


@pytest.mark.parametrize("cell", ["nan", "inf", ""])
def test_a_cell_that_is_no_number(whence, table, tmp_path, cell):
    head, first, *rest = table.train.read_text().splitlines()
    table.train.write_text("\n".join([head, ",".join([cell, *first.split(",")[1:]]), *rest]) + "\n")

    done = whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train)

    refused(done, "train.csv, line 2: column 'height'", repr(cell))


@pytest.mark.parametrize("flag", ["--damping", "--top"])
def test_a_zero_is_not_taken_for_nothing_given(whence, table, tmp_path, flag):
    done = whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train, flag, "0")

    assert done.code == 1
    assert flag.lstrip("-") in done.err


def test_a_valuation_is_not_taken_for_a_run_over_text(whence, table, tmp_path):
    assert whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train).code == 0

    refused(whence("report", tmp_path / "out"), "is a valuation's", "whence value")


def test_each_of_too_many(whence, table, tmp_path):
    long = "\n".join([*table.valid.read_text().splitlines(), *table.valid.read_text().splitlines()[1:] * 6])
    table.valid.write_text(long + "\n")

    done = whence("value", tmp_path / "out", *table.flags, "--train", table.train, "--valid", table.valid, "--each")

    refused(done, "70 validation examples", "valid.csv#[0:20]")


def test_another_model_in_the_same_folder(whence, table, tmp_path):
    assert whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train).code == 0
    state = load_file(table.flags[3])
    save_file({name: 2 * tensor for name, tensor in state.items()}, tmp_path / "other.safetensors")

    done = whence("self", tmp_path / "out", "--labels", "--weights", tmp_path / "other.safetensors")

    refused(done, "does not belong to this model")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nowhere.py:make", ["no Python file"]),
        ("net.py:absent", ["no function absent"]),
        ("net.py:fails", ["fails failed: ZeroDivisionError"]),
        ("net.py:number", ["returned int"]),
        ("net.py:quantity", ["table.safetensors does not fit", "last."]),
    ],
)
def test_a_model_of_one_s_own_that_does_not_work(whence, table, tmp_path, model, words):
    net = tmp_path / "net.py"
    net.write_text(net.read_text() + "\ndef fails():\n    return 1 / 0\n\ndef number():\n    return 3\n")
    flags = ["--model", f"{tmp_path}/{model}", "--weights", table.flags[3], "--train", table.train]

    done = whence("self", tmp_path / "out", "--labels", *flags, "--target", "kind")

    assert done.code == 1
    for word in words:
        assert word in done.err


def test_weights_belong_to_a_model_made_by_a_function(whence, table, tmp_path):
    done = whence("self", tmp_path / "o", "--labels", "--model", tmp_path, *table.flags[2:], "--train", table.train)

    refused(done, "file.py:function")


def test_rows_that_are_not_there(whence, digits, tmp_path):
    done = whence("self", tmp_path / "out", "--labels", *digits.flags, "--train", f"{digits.train}#[50:60]")

    refused(done, "36 examples", "path#[a:b]")


def test_a_model_that_was_trained_otherwise_is_pointed_out(whence, table, tmp_path):
    """Classes that are numbered the other way round look like this, and so do inputs prepared otherwise."""
    text = table.train.read_text().replace("left", "up").replace("right", "left").replace("up", "right")
    table.train.write_text(text)

    done = whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train)

    assert done.code == 0
    assert "warning: the model says the given label of" in done.err
    assert "was it trained on" in (tmp_path / "out" / "suspects.html").read_text(encoding="utf-8")


def test_a_model_that_fits_is_not_complained_about(whence, table, tmp_path):
    assert "warning" not in whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train).err


def test_asking_about_each_is_not_remembered_for_another_validation_set(whence, table, tmp_path):
    whence("value", tmp_path / "o", *table.flags, "--train", table.train, "--valid", table.valid, "--each")

    again, other = (
        whence("value", tmp_path / "o", "--json"),
        whence("value", tmp_path / "o", "--json", "--valid", table.valid),
    )

    assert [len(json.loads(done.out)["queries"]) for done in (again, other)] == [10, 1]
