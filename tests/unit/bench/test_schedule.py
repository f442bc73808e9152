"""In which order things run, and when there is enough of them."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from mlxctl.bench.schedule import Standing, shuffled, visit_plan, wants_more, warm_enough
from mlxctl.bench.statistics import mean_interval
from mlxctl.bench.suites import FULL, QUICK, STANDARD

pytestmark = pytest.mark.unit


def test_counts_are_visited_there_and_back() -> None:
    assert visit_plan((4, 1, 2), 2) == (1, 2, 4, 4, 2, 1)


def test_a_count_asked_for_twice_is_visited_once_a_turn() -> None:
    assert visit_plan((2, 2), 2) == (2, 2)


def test_every_turn_has_an_order_of_its_own_that_the_seed_repeats() -> None:
    names = list("abcdefgh")
    orders = [shuffled(names, 0, 0, turn) for turn in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert orders[1] == shuffled(names, 0, 0, 1)
    assert all(sorted(order) == names for order in orders)


def standing(values: list[float], visit: int = 2) -> Standing:
    return Standing(tuple(values), (0,) * len(values), visit, 2)


def test_the_first_visit_takes_half_of_the_least_runs() -> None:
    assert wants_more(standing([1.0, 1.0], visit=1), replace(STANDARD, least_runs=6))
    assert not wants_more(standing([1.0, 1.0, 1.0], visit=1), replace(STANDARD, least_runs=6))


def test_a_narrow_interval_is_enough() -> None:
    assert not wants_more(standing([1.0, 1.001] * 4), STANDARD)


def test_a_wide_interval_wants_more_up_to_the_cap() -> None:
    noisy = [1.0, 2.0] * 5
    assert wants_more(standing(noisy), STANDARD)
    assert not wants_more(standing(noisy * 2), STANDARD)


def test_stopping_when_the_interval_is_narrow_costs_little_coverage() -> None:
    draw, covered = np.random.default_rng(5), 0
    suite = replace(STANDARD, target_half_width=0.03)
    for _ in range(1000):
        values = list(draw.normal(100, 4, suite.least_runs))
        while wants_more(standing(values), suite):
            values.append(float(draw.normal(100, 4)))
        interval = mean_interval(np.array(values))
        covered += interval is not None and interval.low <= 100 <= interval.high
    assert 0.91 <= covered / 1000 <= 0.97


def test_two_close_warm_up_runs_are_enough() -> None:
    assert warm_enough([1.0, 1.05], FULL)
    assert not warm_enough([1.0, 2.0], FULL)
    assert not warm_enough([1.0], FULL)


def test_warming_up_ends() -> None:
    assert warm_enough([random.Random(0).random() * 9 for _ in range(FULL.most_warm_ups)], FULL)


def test_a_quick_bench_warms_up_once() -> None:
    assert warm_enough([None], QUICK)
