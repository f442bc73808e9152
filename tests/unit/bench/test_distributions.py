"""Quantiles and tails against tables of the t and F distributions."""

from __future__ import annotations

import pytest

from mlxctl.bench.distributions import f_tail, t_quantile, t_two_sided

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("probability", "freedom", "expected"),
    [(0.975, 1, 12.7062), (0.975, 2, 4.30265), (0.975, 9, 2.26216), (0.975, 120, 1.97993), (0.8, 8, 0.88889)],
)
def test_t_quantiles_are_those_of_the_tables(probability: float, freedom: float, expected: float) -> None:
    assert t_quantile(probability, freedom) == pytest.approx(expected, abs=2e-5)


def test_a_quantile_has_its_tail() -> None:
    assert t_two_sided(t_quantile(0.975, 4.7), 4.7) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("f", "above", "below", "expected"), [(4.9646, 1, 10, 0.05), (3.4928, 2, 20, 0.05), (6.9266, 2, 12, 0.01)]
)
def test_f_tails_are_those_of_the_tables(f: float, above: float, below: float, expected: float) -> None:
    assert f_tail(f, above, below) == pytest.approx(expected, abs=1e-5)
