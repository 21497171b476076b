"""``whence validate`` of a valuation: all four checks, their laws where there are laws, refusals, and the report."""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.value.conftest import NET
from tests.value.test_refusals import refused

import whence.jobs.validation.points as jobs
from whence.errors import InvalidSetting
from whence.jobs.log import Log
from whence.jobs.validation.job import validate
from whence.jobs.valuation.settings import ValueSettings

RECIPE = """
start = "{start}"
{more}
[recipe]
optimiser = "adam"
learning_rate = 0.03
epochs = 3
batch_size = 16
"""
RIDGE = 0.1


@pytest.fixture
def few_steps(monkeypatch):
    """Solves cut short, where it is not their figures that are looked at."""
    monkeypatch.setattr(jobs, "pbrf", partial(jobs.pbrf, most=4))


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe file; its start is other weights of the table's net."""
    scope = {}
    exec(NET, scope)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_file(scope["table"]().state_dict(), tmp_path / "start.safetensors")

    def write(start=tmp_path / "start.safetensors", more="", text=RECIPE):
        (tmp_path / "recipe.toml").write_text(text.format(start=start, more=more))
        return tmp_path / "recipe.toml"

    return write


@pytest.fixture
def asked(whence, table, tmp_path):
    """A table's valuation that has answered: three validation rows, each by itself."""
    out = tmp_path / "out"
    done = whence("value", out, *table.flags, "--train", table.train, "--valid", f"{table.valid}#[0:3]", "--each")
    assert done.code == 0, done.err
    return out


@pytest.fixture
def ridge(tmp_path):
    """A linear regression at the minimum of its ridge loss, 150 rows: what a recipe with that weight decay makes."""
    draw = torch.Generator().manual_seed(5)
    x = torch.randn(170, 3, generator=draw) * torch.tensor([1.5, 1.0, 0.4])
    y = x @ torch.tensor([1.0, -0.5, 2.0]) + torch.randn(170, generator=draw)
    for name, rows in (("train", range(150)), ("valid", range(150, 158))):
        lines = ["a,b,c,y"] + [",".join(f"{v:.9g}" for v in [*x[r].tolist(), float(y[r])]) for r in rows]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "line.py").write_text(
        "import torch\n\ndef line():\n    made = torch.nn.Sequential(torch.nn.Linear(3, 1))\n"
        "    torch.nn.init.zeros_(made[0].weight)\n    torch.nn.init.zeros_(made[0].bias)\n    return made\n"
    )
    a, b = ((z - z.mean(0)) / z.std(0, correction=0) for z in (x[:150], y[:150]))
    weight = torch.linalg.solve(a.T @ a / 150 + RIDGE * torch.eye(3), a.T @ b / 150)
    save_file({"0.weight": weight[None], "0.bias": torch.zeros(1)}, tmp_path / "line.safetensors")
    (tmp_path / "recipe.toml").write_text(
        f'start = "{tmp_path}/line.py:line"\nfraction = 0.98\n[recipe]\noptimiser = "sgd"\nlearning_rate = 0.3\n'
        f"weight_decay = {RIDGE}\nepochs = 120\nbatch_size = 150\n"
    )
    named = {"model": f"{tmp_path}/line.py:line", "weights": f"{tmp_path}/line.safetensors", "damping": f"abs:{RIDGE}"}
    settings = ValueSettings(**named, train=f"{tmp_path}/train.csv", valid=f"{tmp_path}/valid.csv", each=True)
    return SimpleNamespace(settings=settings, out=tmp_path / "out", recipe=tmp_path / "recipe.toml")


def test_a_linear_regression_s_scores_are_its_proximal_bregman_response(ridge):
    """The objective is a parabola whose curvature EK-FAC has but for the noise of its sampled labels."""
    found = validate(ridge.out, ridge.settings, "pbrf", count=24).to_dict()

    assert found["pbrf"]["gradient_norm"]["converged"]
    assert found["agreement"]["ekfac"]["pearson"]["value"] > 0.99
    assert found["agreement"]["ekfac"]["pearson"]["queries"] == 8


def test_lds_of_a_ridge_regression_is_near_one_where_little_is_removed(ridge):
    """Weight decay is its damping: what is left out moves the minimum as the scores say."""
    found = validate(ridge.out, ridge.settings, "lds", count=34, recipe=ridge.recipe)

    lds = {name: mean["value"] for name, mean in found.to_dict()["lds"].items()}
    assert lds["ekfac"] > 0.97
    assert lds["ekfac"] > lds["cosine"]
    assert found.to_dict()["distance_from_model"] < 0.01
    assert "not the one that made it" not in found.text()


def test_a_set_s_response_is_the_mean_of_its_examples_responses(ridge, tmp_path):
    each = validate(ridge.out, ridge.settings, "pbrf", count=6).to_dict()
    together = ValueSettings(**{**vars(ridge.settings), "each": False})
    mean = validate(ridge.out, together, "pbrf", count=6)

    response = np.array(each["pbrf"]["response"])
    assert response.shape == (8, 6)
    assert each["questions"] != mean.to_dict()["questions"]
    np.testing.assert_allclose(np.array(mean.to_dict()["pbrf"]["response"])[0], response.mean(0), rtol=1e-2, atol=1e-5)
    assert "6 examples, 1 question\n" in mean.text()
    assert "[" not in mean.text().split("\n")[2]  # of one question there is no interval


def test_retraining_by_one_small_step_is_what_gradient_dot_products_say(whence, table, asked, recipe):
    start = str(table.flags[3])
    text = RECIPE.replace("adam", "sgd").replace("0.03", "0.01").replace("= 3", "= 1").replace("= 16", "= 30")

    done = whence("validate", "lds", asked, "--count", 12, "--recipe", recipe(start, text=text), "--json")

    assert done.code == 0, done.err
    assert json.loads(done.out)["lds"]["gradient dot"]["value"] > 0.97
    assert json.loads(done.out)["distance_from_model"] is None  # training began at the model itself


def test_several_left_out_together_are_the_sum_of_their_scores_after_one_small_step(whence, table, asked, recipe):
    start = str(table.flags[3])
    text = RECIPE.replace("adam", "sgd").replace("0.03", "0.01").replace("= 3", "= 1").replace("= 16", "= 30")

    done = whence(
        *("validate", "retrain", asked, "--count", 8, "--recipe", recipe(start, "together = 3", text=text), "--json")
    )

    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [len(group) for group in found["points"]] == [3] * 8
    assert len({member for group in found["points"] for member in group}) == 24  # in no two of them
    assert found["agreement"]["gradient dot"]["pearson"]["value"] > 0.97
    rungs = found["decomposition"]["rungs"]
    assert rungs["retrained"] == rungs["warm start"]  # training began at the model itself
    assert found["agreement_with_warm_start"] == found["agreement"]
    page = (asked / "checks" / "retrain.html").read_text()
    assert "each of 8 groups of 3 training examples" in page
    assert "five gaps" not in page

    many = whence("validate", "retrain", asked, "--count", 11, "--recipe", recipe(start, "together = 3", text=text))
    assert many.code == 1
    assert "11 examples, 3 together, were asked for, and there are 30" in many.err


def test_every_check_reads_a_table_and_they_share_their_models(whence, asked, recipe, few_steps):
    runs = {
        check: whence("validate", check, asked, "--count", 3, *more, "--json")
        for check, more in {
            "pbrf": [],
            "lds": ["--recipe", recipe()],
            "removal": ["--recipe", recipe()],
            "retrain": ["--recipe", recipe()],
        }.items()
    }
    assert [done.code for done in runs.values()] == [0] * 4, [done.err for done in runs.values()]
    found = {check: json.loads(done.out) for check, done in runs.items()}

    for check, result in found.items():
        assert json.loads((asked / "checks" / f"{check}.json").read_text()) == result
        assert result["method"] == "ekfac"
    assert found["lds"]["retrained_here"] == 4  # three subsets, and everything
    assert found["removal"]["retrained_here"] <= 3 * 3 + 3  # everything was there
    assert found["retrain"]["retrained_here"] <= 3
    assert set(found["removal"]["above_random"]) == {"ekfac", "gradient dot", "cosine"}
    assert np.array(found["retrain"]["decomposition"]["rungs"]["retrained"]).shape == (3, 3)
    assert len(list((asked / "checks").glob("models-*"))) == 2  # from the start, and from the model
    again = whence("validate", "lds", asked, "--count", 3, "--recipe", recipe(), "--json")
    assert json.loads(again.out)["retrained_here"] == 0


def test_pictures_and_texts_are_solved_for_too(whence, digits, classifier, few_steps, tmp_path):
    text = tmp_path / "mail.csv"
    rows = (f"{'win cash' if n % 2 else 'see you you'} {n},{'spam' if n % 2 else 'ham'}\n" for n in range(8))
    text.write_text("text,label\nsee,ham\n" + "".join(rows))
    flags = {
        "pictures": [*digits.flags, "--train", digits.train, "--valid", digits.valid],
        "texts": ["--model", classifier, "--train", text, "--valid", text],
    }
    for name, named in flags.items():
        assert whence("value", tmp_path / name, *named).code == 0

        done = whence("validate", "pbrf", tmp_path / name, "--count", 3, "--json")

        assert done.code == 0, done.err
        assert np.array(json.loads(done.out)["pbrf"]["response"]).shape == (1, 3)


def test_the_report_says_what_the_checks_found(whence, asked, recipe, few_steps):
    assert "not validated" in (asked / "report.html").read_text()
    whence("validate", "pbrf", asked, "--count", 3)
    whence("validate", "lds", asked, "--count", 4, "--recipe", recipe())

    whence("value", asked)
    whence("self", asked, "--labels")

    page = (asked / "report.html").read_text()
    own = json.loads((asked / "checks" / "lds.json").read_text())["lds"]["ekfac"]
    assert "not validated" not in page
    assert "validated: pbrf, lds" in page
    assert "The proximal Bregman response of 3 training examples, 3 questions." in page
    assert "Retraining on 4 random subsets of 50% of the training examples" in page
    assert f"EK-FAC {own['value']:.2f} [" in page
    assert "the recipe is not the one that made it" in page
    assert "Checked" not in page
    assert "not validated" in (asked / "suspects.html").read_text()  # no check is of self-influence

    whence("value", asked, "--damping", "1", "--valid", str(asked.parent / "valid.csv"))
    page = (asked / "report.html").read_text()
    assert "Checked at damping 0.1, not at 1 as here." in page
    assert "Checked with other questions than those here." in page


def test_what_a_check_s_file_says_is_text(whence, asked):
    mean = {"value": 0.5, "interval": None}
    result = {
        "method": "ekfac",
        "asked": ["<b>who</b>", "<b>what</b>"],
        "solved": [],
        "damping": "<img src=x>",
        "questions": "",
        "settings": {"subsets": 2, "fraction": 0.5, "seeds": 1},
        "lds": {"<script>alert(1)</script>": mean},
        "per_query": {"<script>alert(1)</script>": [0.5]},
        "distance_from_model": 0.0,
    }
    (asked / "checks").mkdir()
    (asked / "checks" / "lds.json").write_text(json.dumps(result))

    whence("value", asked)

    page = (asked / "report.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>who" not in page
    assert "<script" not in page
    assert "<img src=x>" not in page


@pytest.mark.parametrize(
    "flag",
    [["--query", "q.jsonl"], ["--ask", "Who?", "--answer", "Ada."], ["--settings", "s.toml"]],
    ids=lambda flag: flag[0],
)
def test_flags_of_runs_over_text_are_refused_by_name(whence, asked, flag):
    refused(whence("validate", "pbrf", asked, *flag), f"{flag[0]} is for runs over text", "whence value")


def test_the_solver_that_made_the_values_is_the_one_that_is_judged(whence, asked):
    """A solve on the matrix itself agrees with the proximal response as EK-FAC does not."""
    fitted = whence("validate", "pbrf", asked, "--count", 6, "--json")
    assert whence("value", asked, "--solver", "exact").code == 0
    assert "Checked scores by EK-FAC, not by exact as here." in (asked / "report.html").read_text()

    solved = whence("validate", "pbrf", asked, "--count", 6, "--json")
    whence("value", asked)

    first, second = (json.loads(done.out)["agreement"] for done in (fitted, solved))
    assert (next(iter(first)), next(iter(second))) == ("ekfac", "exact")
    assert second["exact"]["pearson"]["value"] > first["ekfac"]["pearson"]["value"]
    assert json.loads(solved.out)["solved"][0]["residual"] < 1e-4
    report = (asked / "report.html").read_text()
    assert "validated" in report
    assert "not by exact as here" not in report


def test_a_folder_that_was_asked_nothing(whence, table, tmp_path):
    assert whence("self", tmp_path / "out", "--labels", *table.flags, "--train", table.train).code == 0

    refused(
        whence("validate", "pbrf", tmp_path / "out"), "which validation examples", "`whence value RUN --valid DATA`"
    )


def test_a_valuation_that_was_interrupted(whence, asked):
    (asked / "settings.toml").unlink()

    refused(whence("validate", "pbrf", asked), "has not finished", "`whence value`")


def test_another_damping_is_judged_without_another_fit(whence, asked, few_steps):
    done = whence("validate", "pbrf", asked, "--count", 3, "--damping", "2", "--json")

    assert json.loads(done.out)["damping"] == "2"
    assert "already fitted" in done.err


def test_more_examples_than_there_are(whence, asked):
    refused(whence("validate", "pbrf", asked, "--count", 31), "31 examples", "there are 30")


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("{0}/net.py:table", ["gives other weights each time", "seed the function"]),
        ("{0}/net.py:quantity", ["other weights each time"]),
        ("{0}/net.py:seeded_quantity", ["other parameters than the run's model"]),
        ("{0}", ["neither weights nor a function", "start.safetensors"]),
        ("{0}/nowhere.safetensors", ["nowhere.safetensors"]),
    ],
)
def test_a_start_that_no_training_began_from(whence, asked, recipe, tmp_path, start, words):
    net = tmp_path / "net.py"
    net.write_text(net.read_text() + "\ndef seeded_quantity():\n    torch.manual_seed(0)\n    return Net(3, 1)\n")

    done = whence("validate", "lds", asked, "--count", 3, "--recipe", recipe(start.format(tmp_path)))

    refused(done, *words)
    assert not (asked / "checks").exists()


def test_a_function_that_is_seeded_gives_the_start(whence, asked, recipe, tmp_path):
    net = tmp_path / "net.py"
    net.write_text(net.read_text() + "\ndef start():\n    torch.manual_seed(3)\n    return table()\n")

    by_function = whence("validate", "lds", asked, "--count", 3, "--recipe", recipe(f"{net}:start"), "--json")
    by_file = whence("validate", "lds", asked, "--count", 3, "--recipe", recipe(), "--json")

    assert by_function.code == 0, by_function.err
    assert json.loads(by_file.out)["retrained_here"] == 0  # the same weights, so the same models


def test_a_classifier_of_text_starts_from_a_checkpoint(classifier, tmp_path):
    (tmp_path / "mail.csv").write_text("text,label\nwin cash,spam\nsee you,ham\n")
    settings = ValueSettings(model=str(classifier), train=str(tmp_path / "mail.csv"), valid=str(tmp_path / "mail.csv"))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(start="net.py:make", more=""))

    with pytest.raises(InvalidSetting, match="transformers classifier"):
        validate(tmp_path / "out", settings, "lds", count=3, recipe=tmp_path / "recipe.toml", log=Log.silent())
