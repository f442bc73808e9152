"""Intervals hold what they promise on data whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.bench.statistics import Array, mean_interval, percentile, ratio_interval, summarise

pytestmark = pytest.mark.unit

TRIALS = 1000
SIZES = (3, 4, 5, 6, 7, 8, 10, 12, 15, 19, 20, 30, 40)

Draw = Callable[[np.random.Generator, tuple[int, int]], Array]
DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(100, 5, shape), 100.0),
    "lognormal": (lambda rng, shape: 100 * rng.lognormal(0, 0.1, shape), 100 * math.exp(0.005)),
    "gamma": (lambda rng, shape: 50 + rng.gamma(25, 2, shape), 100.0),  # skewness 0.4
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("n", SIZES)
def test_the_interval_covers_the_mean_19_times_out_of_20(name: str, n: int) -> None:
    draw, truth = DISTRIBUTIONS[name]
    intervals = [mean_interval(row) for row in draw(np.random.default_rng(n), (TRIALS, n))]
    covered = sum(each is not None and each.low <= truth <= each.high for each in intervals)
    assert 0.93 <= covered / TRIALS <= 0.97


@pytest.mark.parametrize("n", [6, 10, 16, 24])
def test_looking_for_differences_between_launches_costs_no_coverage_where_there_are_none(n: int) -> None:
    blocks = [index * 2 // n for index in range(n)]
    rows = np.random.default_rng(n).normal(100, 5, (TRIALS, n))
    intervals = [mean_interval(row, blocks) for row in rows]
    covered = sum(each is not None and each.low <= 100 <= each.high for each in intervals)
    assert 0.93 <= covered / TRIALS <= 0.97


def test_the_interval_allows_for_launches_that_differ() -> None:
    rng = np.random.default_rng(1)
    rows = [np.concatenate([rng.normal(rng.normal(100, 10), 1, 6) for _ in range(4)]) for _ in range(300)]
    intervals = [mean_interval(row, np.repeat(range(4), 6).tolist()) for row in rows]
    covered = sum(each is not None and each.low <= 100 <= each.high for each in intervals)
    assert covered / 300 > 0.92
    assert intervals[0] is not None and intervals[0].method == "launches"


@pytest.mark.parametrize("n", [5, 10, 24])
def test_the_interval_of_a_ratio_covers_it(n: int) -> None:
    rng = np.random.default_rng(n)
    pairs = zip(rng.normal(180, 9, (TRIALS, n)), rng.normal(100, 5, (TRIALS, n)), strict=True)
    intervals = [ratio_interval(above, below, (), ()) for above, below in pairs]
    covered = sum(each is not None and each.low <= 1.8 <= each.high for each in intervals)
    assert 0.93 <= covered / TRIALS <= 0.97


def test_below_20_values_the_interval_is_students() -> None:
    summary = summarise([1.0, 2.0, 3.0])
    assert summary.interval is not None
    assert summary.interval.method == "t"
    assert summary.interval.high == pytest.approx(2 + 4.30265 / math.sqrt(3))


def test_from_20_values_on_the_interval_is_a_bootstrap() -> None:
    interval = mean_interval(np.random.default_rng(0).normal(1, 0.1, 20))
    assert interval is not None and interval.method == "bootstrap-t"


def test_the_same_values_have_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(1, 0.1, 30)
    assert mean_interval(values) == mean_interval(values.copy())


def test_two_values_have_no_interval() -> None:
    assert summarise([1.0, 2.0]).interval is None


def test_one_value_has_no_spread() -> None:
    assert summarise([1.0]).sd is None


def test_equal_values_have_an_interval_without_width() -> None:
    summary = summarise([2.0] * 25)
    assert summary.interval is not None
    assert (summary.interval.low, summary.interval.high) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("n", "share", "there"), [(49, 0.9, False), (50, 0.9, True), (499, 0.99, False), (500, 0.99, True)]
)
def test_a_percentile_is_given_only_where_values_lie_beyond_it(n: int, share: float, there: bool) -> None:
    assert (percentile(np.arange(n, dtype=np.float64), share) is not None) is there


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=60))
def test_a_summary_is_in_order(values: list[float]) -> None:
    summary = summarise(values)
    assert summary.least <= summary.lower_quartile <= summary.median <= summary.upper_quartile <= summary.most
    assert summary.interval is None or summary.interval.low <= summary.mean * (1 + 1e-9)
