"""``whence value`` and ``whence self --labels``, from files to tables and a page."""

import csv
import json
import re

import pytest


def read(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_wrong_label_in_a_table_is_the_most_suspect(whence, table, tmp_path):
    out = tmp_path / "out"

    done = whence("self", out, "--labels", *table.flags, "--train", table.train)

    assert done.code == 0, done.err
    first = read(out / "suspects.csv")[0]
    assert int(first["row"]) == table.flipped
    assert first["place"] == f"train.csv, line {table.flipped + 2}"
    assert {first["given"], first["suggested"]} == {"left", "right"}
    assert float(first["p_given"]) < 0.5 < float(first["p_suggested"])
    assert float(first["relative"]) > 0  # the given label pulls harder than the suggested one would
    assert "relative" in done.out
    assert len(read(out / "suspects.csv")) == 30
    assert f"line {table.flipped + 2}" in done.out
    page = (out / "suspects.html").read_text(encoding="utf-8")
    assert "Labels to look at" in page
    assert ">weight</th>" in page
    assert f"whence self {out} --labels --model" in page
    assert "--text text" not in page  # a default


def test_a_wrong_quantity_stands_beside_its_prediction_in_the_file_s_units(whence, quantity, tmp_path):
    done = whence("self", tmp_path / "out", "--labels", *quantity.flags, "--train", quantity.train, "--json")

    assert done.code == 0, done.err
    found = json.loads(done.out)
    first = found["suspects"][0]
    assert first["row"] == quantity.flipped
    assert first["p_given"] is None
    given, suggested = float(first["given"]), float(first["suggested"])
    assert given - suggested > 30
    assert 0 < found["agreement"] < 1


def test_value_ranks_pictures_and_shows_them(whence, digits, tmp_path):
    out = tmp_path / "out"

    done = whence("value", out, *digits.flags, "--train", digits.train, "--valid", digits.valid, "--top", 4)

    assert done.code == 0, done.err
    rows = read(out / "values.csv")
    assert len(rows) == 36
    worst = min(rows, key=lambda row: float(row["raw"]))
    assert int(worst["row"]) == digits.flipped
    assert float(worst["per_copy"]) == pytest.approx(float(worst["raw"]) / 36)
    page = (out / "report.html").read_text(encoding="utf-8")
    signs = [float(row["raw"]) > 0 for row in rows]
    assert page.count('src="data:image/png;base64,') == min(4, sum(signs)) + min(4, 36 - sum(signs))
    assert "<script" not in page
    assert "Which training examples help and harm on 9 validation examples?" in page


def test_each_validation_picture_can_be_asked_about_by_itself(whence, digits, tmp_path):
    out = tmp_path / "out"
    whence("value", out, *digits.flags, "--train", digits.train, "--valid", digits.valid)

    done = whence("value", out, "--valid", f"{digits.valid}#[1:3]", "--each", "--json")  # the rest is remembered

    assert done.code == 0, done.err
    queries = json.loads(done.out)["queries"]
    assert [query["question"].rpartition(", ")[2] for query in queries] == ["image 2", "image 3"]
    assert queries[0]["helpful"][0]["given"] == "1"
    assert "already fitted" in done.err


def test_one_picture_asked_about_is_shown(whence, digits, tmp_path):
    whence("value", tmp_path / "out", *digits.flags, "--train", digits.train, "--valid", f"{digits.valid}#[1:2]")

    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert re.search(r'<div class="asked-about">\s*<img class="picture small"', page)


def test_suspects_and_values_share_a_folder(whence, digits, tmp_path):
    whence("value", tmp_path / "out", *digits.flags, "--train", digits.train, "--valid", digits.valid)

    done = whence("self", tmp_path / "out", "--labels")

    assert done.code == 0, done.err
    first = [int(row["row"]) for row in read(tmp_path / "out" / "suspects.csv")[:3]]
    assert digits.flipped in first


@pytest.mark.parametrize("top", [3, 15])
def test_as_many_lines_are_printed_as_top_asks_for(whence, table, tmp_path, top):
    values = whence("value", tmp_path / "o", *table.flags, "--train", table.train, "--valid", table.valid, "--top", top)
    rows = [float(row["raw"]) for row in read(tmp_path / "o" / "values.csv")]
    helpful, harmful = sum(raw > 0 for raw in rows), sum(raw < 0 for raw in rows)
    labels = whence("self", tmp_path / "o", "--labels", "--top", top)

    assert values.out.count(", line ") == min(top, helpful) + min(top, harmful)
    assert labels.out.count(", line ") == top
    assert "loss -0" not in values.out


def test_a_column_that_is_not_known_to_everybody_is_explained(whence, digits, quantity, tmp_path):
    one = whence("self", tmp_path / "one", "--labels", *digits.flags, "--train", digits.train)
    other = whence("self", tmp_path / "other", "--labels", *quantity.flags, "--train", quantity.train)

    assert "relative: log of self-influence at the given label over that at the suggested one" in one.out
    assert "log of self-influence at the given label" in (tmp_path / "one" / "suspects.html").read_text("utf-8")
    assert "relative" not in other.out
    assert "log of self-influence" not in (tmp_path / "other" / "suspects.html").read_text("utf-8")


def test_sizes_out_of_range_are_said_to_be_a_ranking(whence, table, tmp_path):
    """A flat direction and next to no damping: one more copy would lower the loss by more than there is of it."""
    flags = [*table.flags, "--train", table.train, "--valid", table.valid]

    far, near = (whence("value", tmp_path / name, *flags, "--damping", name) for name in ("1e-9", "1000"))

    assert "read these as a ranking, their size is out of range: the loss is" in far.out
    for name in ("helpful", "harmful"):  # an end that is empty has no heading either
        rows = json.loads((tmp_path / "1e-9" / "values.json").read_text())["queries"][0][name]
        assert (f"  {name}\n" in far.out) == bool(rows)
    assert "ranking" not in near.out
    told = [json.loads((tmp_path / name / "values.json").read_text())["queries"][0] for name in ("1e-9", "1000")]
    assert [one["out_of_range"] > 0 for one in told] == [True, False]
    assert told[0]["helpful"][0]["per_copy"] > told[0]["loss"]
    assert "Read these as a ranking" in (tmp_path / "1e-9" / "report.html").read_text("utf-8")


def test_the_head_of_a_classifier_takes_part_unless_layers_say_otherwise(whence, classifier, mail, tmp_path):
    flags = ["--labels", "--model", classifier, "--train", mail]

    whole = whence("self", tmp_path / "whole", *flags)
    blocks = whence("self", tmp_path / "blocks", *flags, "--layers", "blocks")
    again = whence("self", tmp_path / "again", *flags, "--layers", "all")

    assert (whole.code, blocks.code, again.code) == (0, 0, 0), blocks.err
    assert "other linear layers" not in whole.err
    assert "other linear layers" in blocks.err
    assert "not chosen; --layers all takes them too" in blocks.err  # and that works
    assert "--layers blocks" in (tmp_path / "blocks" / "suspects.html").read_text("utf-8")
    tables = [read(tmp_path / name / "suspects.csv") for name in ("whole", "blocks", "again")]
    assert tables[0] == tables[2] != tables[1]


def test_layers_of_a_text_run_are_chosen_by_self_as_by_run(whence, basics, tmp_path):
    given = basics(ask=None, answer=None)

    done = whence("self", tmp_path / "r", *given, "--layers", "model.layers.0.mlp.down_proj", "--top", 3)

    assert done.code == 0, done.err
    assert 'layers = ["model.layers.0.mlp.down_proj"]' in (tmp_path / "r" / "settings.toml").read_text()
    assert done.out.count("train.jsonl, line ") == 3


def test_a_folder_of_pictures_is_the_same_as_idx(whence, digits, tmp_path):
    """Told apart by what lies there; classes are the folders' names."""
    Image = pytest.importorskip("PIL.Image")
    from whence.data import idx_images

    whole = idx_images(digits.train, str(digits.train).replace("images", "labels").replace("idx3", "idx1"))
    for row in range(36):
        folder = tmp_path / "pictures" / str(int(whole.targets[row]))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(whole.inputs[row, 0].numpy()).convert("RGB").save(folder / f"{row:03}.png")
    net = tmp_path / "net.py"
    net.write_text(
        net.read_text() + "\ndef colour():\n    net = digits()\n    forward = net.forward\n"
        "    net.forward = lambda x: forward(x[:, :1])\n    return net\n"
    )
    flags = ["--model", f"{net}:colour", "--weights", digits.flags[3]]

    done = whence("self", tmp_path / "out", "--labels", *flags, "--train", tmp_path / "pictures")

    assert done.code == 0, done.err
    assert read(tmp_path / "out" / "suspects.csv")[0]["place"] == "0/005.png"


def test_texts_meet_a_sequence_classifier(whence, classifier, mail, tmp_path):
    done = whence("value", tmp_path / "out", "--model", classifier, "--train", mail, "--valid", f"{mail}#[0:4]")

    assert done.code == 0, done.err
    assert len(read(tmp_path / "out" / "values.csv")) == 13
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page


@pytest.mark.parametrize(
    ("name", "broken", "says"),
    [
        ("mail.csv", "   ,spam", "line 3 has no text: column 'text' is empty"),
        ("mail.csv", "win,", "line 3 has no label: column 'label' is empty"),
        ("mail.jsonl", '{"text": "", "label": "spam"}', "line 2 has no text: column 'text' is empty"),
        ("mail.jsonl", '{"text": "win", "label": null}', "line 2 has no label: column 'label' is empty"),
        ("mail.jsonl", '{"text": "win"}', "line 2 has no label: column 'label' is empty"),
    ],
)
def test_a_text_or_label_that_is_missing_is_refused_by_its_place(whence, classifier, tmp_path, name, broken, says):
    rows = ["see you,ham", broken] if name.endswith("csv") else ['{"text": "see you", "label": "ham"}', broken]
    (tmp_path / name).write_text("\n".join(["text,label", *rows] if name.endswith("csv") else rows) + "\n")

    done = whence("self", tmp_path / "out", "--labels", "--model", classifier, "--train", tmp_path / name)

    assert done.code == 1, done.out
    assert f"{name}, {says}" in done.err
    assert "remove the row" in done.err


@pytest.fixture
def mail(tmp_path):
    """Twelve texts of two classes, and one that is hostile."""
    rows = [f"{'win cash' if n % 2 else 'see you'} {n},{'spam' if n % 2 else 'ham'}" for n in range(12)]
    path = tmp_path / "mail.csv"
    path.write_text("\n".join(["text,label", *rows, "<script>alert(1)</script>,spam"]) + "\n")
    return path
