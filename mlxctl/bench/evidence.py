"""Whether two sets of measurements differ: permutation test, Holm's correction, what could have been seen. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mlxctl.bench.distributions import t_quantile, t_two_sided
from mlxctl.bench.statistics import Array, mean_error, welch

EXACT_UP_TO = 20_000
DRAWS = 9_999
POWER = 0.80
SIGNIFICANCE = 0.05


def p_value(first: Array, second: Array, first_blocks: Sequence[int] = (), second_blocks: Sequence[int] = ()) -> float:
    """The two-sided p-value of equal means: a permutation of runs; of launches (Welch's t) where launches differ."""
    errors = [mean_error(first, first_blocks), mean_error(second, second_blocks)]
    if any(error.launches_differ for error in errors):
        variance, freedom = welch(*errors)
        return t_two_sided(float(first.mean() - second.mean()) / math.sqrt(variance), freedom)
    return permutation_p(first, second)


def permutation_p(first: Array, second: Array) -> float:
    """How often a random relabelling of the values gives means at least as far apart. Exact where it can be."""
    pool = np.concatenate([first, second])
    seen = abs(first.mean() - second.mean())
    slack = 1e-12 * max(1.0, float(np.abs(pool).max()))
    ways = math.comb(len(pool), len(first))
    sums = _choices(len(pool), len(first)) @ pool
    apart = np.abs(sums / len(first) - (pool.sum() - sums) / len(second))
    extreme = int((apart >= seen - slack).sum())
    return extreme / ways if ways <= EXACT_UP_TO else (extreme + 1) / (DRAWS + 1)


def least_p(first: int, second: int) -> float:
    """The smallest p-value that so many runs can give."""
    return max(2 / math.comb(first + second, first), 1 / (DRAWS + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for all of them being looked at."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, running = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = running
    return corrected


def detectable_effect(
    first: Array, second: Array, first_blocks: Sequence[int] = (), second_blocks: Sequence[int] = ()
) -> float | None:
    """The difference of means that runs as many and as noisy would find four times out of five; None below 2 runs."""
    if min(len(first), len(second)) < 2:
        return None
    variance, freedom = welch(mean_error(first, first_blocks), mean_error(second, second_blocks))
    return (t_quantile(1 - SIGNIFICANCE / 2, freedom) + t_quantile(POWER, freedom)) * math.sqrt(variance)


@cache
def _choices(total: int, size: int) -> NDArray[np.float64]:
    """Ways to choose `size` of `total`, a row of zeros and ones each: all of them, else draws from a fixed seed, so
    that the same two reports always compare the same.
    """
    if math.comb(total, size) <= EXACT_UP_TO:
        chosen = np.array(list(combinations(range(total), size)), dtype=np.intp)
    else:
        keys = np.random.default_rng(total).random((DRAWS, total))
        chosen = np.argsort(keys, axis=1)[:, :size]
    rows = np.zeros((len(chosen), total))
    np.put_along_axis(rows, chosen, 1.0, axis=1)
    return rows
