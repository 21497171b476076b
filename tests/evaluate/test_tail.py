"""The fit of a tail: unbiased where the law is true, honest where it is not, and the same whatever the scale."""

import numpy as np
import pytest

from whence.errors import DataError
from whence.evaluate.tail import FEWEST, power_law


@pytest.mark.parametrize("exponent", [1.7, 2.5, 3.5])
def test_the_exponent_of_a_pareto_sample_is_found_as_often_as_the_interval_says(exponent):
    random = np.random.default_rng(0)
    fits = [power_law(random.pareto(exponent - 1, 3000) + 1, 300) for _ in range(200)]

    inside = np.mean([low < exponent < high for low, high in (fit.interval for fit in fits)])
    assert 0.90 <= inside <= 0.99
    assert np.mean([fit.exponent for fit in fits]) == pytest.approx(exponent, rel=0.02)


def test_the_ks_distance_refuses_a_true_law_one_time_in_twenty_and_another_law_nearly_always():
    random = np.random.default_rng(1)

    def refused(draw):
        return np.mean([fit.ks > fit.ks_critical for fit in (power_law(draw(), 200) for _ in range(400))])

    assert 0.02 <= refused(lambda: random.pareto(1.3, 2000) + 1) <= 0.08
    assert refused(lambda: random.uniform(1, 2, 400)) > 0.9


def test_the_maximum_likelihood_is_a_maximum():
    values = np.random.default_rng(2).pareto(1.4, 500) + 1
    fit = power_law(values, 100)
    top = np.sort(values)[::-1][:100]

    def likelihood(exponent):
        return np.log((exponent - 1) / fit.threshold) * 100 - exponent * np.log(top / fit.threshold).sum()

    assert likelihood(fit.exponent) > max(likelihood(fit.exponent - 0.01), likelihood(fit.exponent + 0.01))


def test_scale_and_what_is_not_positive_change_nothing_but_the_threshold():
    values = np.random.default_rng(3).pareto(1.4, 500) + 1
    one, other = power_law(values, 100), power_law(np.concatenate([-values, [0.0], 1e-6 * values]), 100)

    assert other.exponent == pytest.approx(one.exponent)
    assert other.ks == pytest.approx(one.ks)
    assert (other.of, other.count) == (1001, 100)
    assert other.threshold == pytest.approx(1e-6 * one.threshold)


def test_the_law_meets_the_empirical_share_at_its_threshold():
    values = np.random.default_rng(4).pareto(1.4, 5000) + 1
    fit = power_law(values)

    assert fit.share_above(fit.threshold) == pytest.approx((values > fit.threshold).mean())
    ten = fit.share_above(10 * fit.threshold) / fit.share_above(fit.threshold)
    assert np.log10(ten) == pytest.approx(fit.ccdf_slope)


@pytest.mark.parametrize("values", [[], [1.0], [-1.0] * 50, [2.0] * 50, list(range(1, FEWEST + 1))])
def test_too_little_to_fit_is_no_fit(values):
    assert power_law(values) is None


def test_nan_is_refused():
    with pytest.raises(DataError, match="NaN"):
        power_law([1.0, float("nan")])
