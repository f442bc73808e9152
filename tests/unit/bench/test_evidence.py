"""Comparisons cry wolf as rarely, and see as much, as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.bench.evidence import detectable_effect, holm, least_p, p_value, permutation_p

pytestmark = pytest.mark.unit

TRIALS = 1000
TOLERANCE = 3 * math.sqrt(0.05 * 0.95 / TRIALS)


@pytest.mark.parametrize("n", [5, 6, 10, 16])
def test_equal_things_are_found_different_1_time_out_of_20(n: int) -> None:
    rng = np.random.default_rng(n)
    pairs = zip(rng.normal(100, 5, (TRIALS, n)), rng.normal(100, 5, (TRIALS, n)), strict=True)
    found = sum(permutation_p(first, second) <= 0.05 for first, second in pairs)
    assert abs(found / TRIALS - 0.05) <= TOLERANCE


@pytest.mark.parametrize("n", [6, 10, 16])
def test_the_detectable_effect_is_detected_4_times_out_of_5(n: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(100, 5, (TRIALS, n)), rng.normal(100, 5, (TRIALS, n))
    effects = [detectable_effect(a, b) or 0.0 for a, b in zip(first, second, strict=True)]
    effect = math.sqrt(float(np.mean(np.square(effects))))  # that of the true spread
    found = sum(permutation_p(a, b + effect) <= 0.05 for a, b in zip(first, second, strict=True))
    assert 0.76 <= found / TRIALS <= 0.86


def test_launches_that_differ_are_no_evidence_of_a_change() -> None:
    rng = np.random.default_rng(3)
    blocks = np.repeat(range(4), 5).tolist()

    def session() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.concatenate([rng.normal(rng.normal(100, 5), 0.5, 5) for _ in range(4)])

    found = sum(p_value(session(), session(), blocks, blocks) <= 0.05 for _ in range(400))
    assert found / 400 <= 0.08


def test_a_permutation_of_few_values_is_exact() -> None:
    assert permutation_p(np.array([1.0, 2.0, 3.0]), np.array([7.0, 8.0, 9.0])) == pytest.approx(2 / 20)


def test_few_runs_can_never_be_significant() -> None:
    assert least_p(3, 3) == pytest.approx(0.1)


def test_equal_constant_values_differ_by_nothing() -> None:
    assert permutation_p(np.ones(5), np.ones(5)) == 1.0


def test_holm_multiplies_the_smallest_most() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_correcting_keeps_the_order_and_never_lowers(values: list[float]) -> None:
    corrected = holm(values)
    assert all(after >= before for before, after in zip(values, corrected, strict=True))
    assert all(value <= 1 for value in corrected)
