"""Figures of a check: scales that hold what they show, places on them, and text that stays text."""

import re

import pytest
from tests.report.sample import HOSTILE

from whence.report import Agreement, Estimate, Gap, Scatter, Validation
from whence.report.check_page import render_check
from whence.report.checked import MARGIN, SIDE, Axis


@pytest.mark.parametrize(
    "values", [[-0.13, 0.4, 1.0], [0.0, 1.0], [0.0, 0.0], [-3e-9, 0.0], [0.02, 931.0, 0.0], [-0.049, 0.04]]
)
def test_an_axis_holds_its_values_and_has_few_round_marks(values):
    axis = Axis.over(values)

    assert axis.low <= min(values) + 1e-15
    assert axis.high >= max(values) - 1e-15
    assert 2 <= len(axis.ticks) <= 7
    places = [float(place.rstrip("%")) for place, _ in axis.ticks]
    assert (places[0], places[-1]) == (2.0, 98.0)
    assert places == sorted(places)
    assert all(2 <= float(axis.place(value).rstrip("%")) <= 98 for value in values)


def test_figures_too_small_for_two_decimals_are_not_nought():
    assert str(Agreement("EK-FAC", Estimate(0.0042, -0.0007, 0.01))) == "EK-FAC 0.004 [−0.0007, 0.01]"
    assert str(Agreement("cosine", Estimate(0.5, 0.5, 0.5))) == "cosine 0.50"  # one question: nothing varied


def test_a_dot_of_equal_numbers_lies_on_the_line_of_equality():
    plot = Scatter(1, ((-1.0, -1.0), (0.5, 0.5), (2.0, 3.0)))

    x1, y1, x2, y2 = plot.equality
    for x, y in plot.places[:2]:
        assert (x - x1) * (y2 - y1) == pytest.approx((y - y1) * (x2 - x1), abs=20)
    assert all(MARGIN <= x <= SIDE - MARGIN and MARGIN <= y <= SIDE - MARGIN for x, y in plot.places)
    assert plot.corners == ("−1", "+2", "−1", "+3")


def test_scales_that_do_not_meet_have_no_line_of_equality_and_equal_dots_are_drawn():
    assert Scatter(1, ((0.0, 10.0), (1.0, 11.0))).equality is None
    assert Scatter(1, ((0.0, 0.0), (0.0, 0.0))).places[0] == (SIDE / 2, SIDE / 2)


def test_the_page_says_every_figure_and_keeps_hostile_text_inert():
    rows = (
        Agreement("EK-FAC", Estimate(0.51, 0.4, 0.62), Estimate(0.47, 0.3, 0.6), each=(0.4, 0.62), seconds=1.25),
        Agreement("gradient dot", Estimate(None), Estimate(None), each=(None, None), seconds=0.5),
    )
    one = Validation(
        name="retrain",
        text=HOSTILE[0],
        measure="Pearson correlation",
        second="Spearman",
        rows=rows,
        scatters=(Scatter(1, ((0.0, 0.1), (1.0, 0.9))),),
        gaps=(Gap("proximity", "warm start", "proximal", 0.02, None, Estimate(0.9), Estimate(-0.8, -0.9, -0.7)),),
        rungs=(Agreement("pbrf", Estimate(0.7, 0.6, 0.8)),),
        asked=(HOSTILE[0], "valid.csv, line 3"),
        settings=((HOSTILE[0], HOSTILE[0]), ("weight decay", "0.001")),
        notes=(HOSTILE[0],),
    )
    page = render_check(one, title=HOSTILE[0])

    assert HOSTILE[0] not in page
    assert "<script" not in page
    assert "style=" not in page.replace("<style>", "")  # the policy would not apply it
    for text in ("0.51 [0.40, 0.62]", "0.47 [0.30, 0.60]", "none", "−0.80 [−0.90, −0.70]", "warm start → proximal"):
        assert text in page.replace("\u00a0", " ")  # an interval stays on one line
    assert '<td dir="auto">valid.csv, line 3</td>' in page
    assert "<dt>weight decay</dt><dd>0.001</dd>" in page
    assert len(re.findall(r'<circle class="one"', page)) == 2
    assert len(re.findall(r'<circle class="mean"', page)) == 2  # EK-FAC and pbrf: the others have no figure
