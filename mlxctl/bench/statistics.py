"""What repeated measurements say: a summary with a 95 % interval of the mean, and ratios. Pure; for build, compare.

Below 20 values the interval is Student's t, from 20 on a bootstrap-t. Values that come from several launches of the
same cluster are looked at for a difference between launches; where there is one, the interval allows for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlxctl.bench.distributions import f_tail, t_quantile

LEVEL = 0.95
LEAST_FOR_INTERVAL = 3
LEAST_FOR_BOOTSTRAP = 20
LEAST_BEYOND_PERCENTILE = 5
"""A percentile is given only where at least so many values lie beyond it: p90 from 50 values on, p99 from 500."""

RESAMPLES = 999
BLOCKS_DIFFER_AT = 0.05

Array = NDArray[np.float64]
Method = Literal["t", "bootstrap-t", "launches"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval of a mean or ratio. `launches`: launches differ by more than their runs explain."""

    low: float
    high: float
    method: Method

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True, slots=True)
class Summary:
    """`n` values. What they cannot tell is None: sd below 2, the interval below 3, percentiles as above."""

    n: int
    mean: float
    sd: float | None
    median: float
    lower_quartile: float
    upper_quartile: float
    p90: float | None
    p95: float | None
    p99: float | None
    least: float
    most: float
    interval: Interval | None

    @property
    def relative_half_width(self) -> float | None:
        """Half the interval's width as a share of the mean."""
        return self.interval.half_width / abs(self.mean) if self.interval and self.mean else None


@dataclass(frozen=True, slots=True)
class MeanError:
    """The variance of a mean and the degrees of freedom with which it is known."""

    variance: float
    freedom: float
    launches_differ: bool = False


def summarise(values: Sequence[float], blocks: Sequence[int] = ()) -> Summary:
    """Summary of `values` (at least one); `blocks` names the launch that each came from."""
    array = np.asarray(values, dtype=np.float64)
    lower, median, upper = (float(each) for each in np.quantile(array, (0.25, 0.5, 0.75)))
    p90, p95, p99 = (percentile(array, share) for share in (0.90, 0.95, 0.99))
    return Summary(
        n=len(array),
        mean=float(array.mean()),
        sd=float(array.std(ddof=1)) if len(array) > 1 else None,
        median=median,
        lower_quartile=lower,
        upper_quartile=upper,
        p90=p90,
        p95=p95,
        p99=p99,
        least=float(array.min()),
        most=float(array.max()),
        interval=mean_interval(array, blocks),
    )


def percentile(array: Array, share: float) -> float | None:
    """None where too few values lie beyond it."""
    enough = len(array) * (1 - share) >= LEAST_BEYOND_PERCENTILE - 1e-9
    return float(np.quantile(array, share)) if enough else None


def mean_interval(array: Array, blocks: Sequence[int] = ()) -> Interval | None:
    """The 95 % interval of the mean; None below 3 values. The mean of what is never negative is not negative."""
    if len(array) < LEAST_FOR_INTERVAL:
        return None
    interval = _interval(array, blocks)
    return replace(interval, low=max(0.0, interval.low)) if array.min() >= 0 else interval


def _interval(array: Array, blocks: Sequence[int]) -> Interval:
    error = mean_error(array, blocks)
    if len(array) >= LEAST_FOR_BOOTSTRAP and not error.launches_differ and error.variance > 0:
        low, high = _bootstrap_t(array)
        return Interval(low, high, "bootstrap-t")
    half = t_quantile((1 + LEVEL) / 2, error.freedom) * math.sqrt(error.variance)
    mean = float(array.mean())
    return Interval(mean - half, mean + half, "launches" if error.launches_differ else "t")


def mean_error(array: Array, blocks: Sequence[int] = ()) -> MeanError:
    """How well the mean of `array` (at least 2 values) is known, launches being units of their own if they differ."""
    plain = MeanError(float(array.var(ddof=1)) / len(array), len(array) - 1)
    groups = [array[np.asarray(blocks) == block] for block in sorted(set(blocks))] if len(blocks) else [array]
    if len(groups) < 2 or len(array) <= len(groups):
        return plain
    mean = array.mean()
    within_freedom, between_freedom = len(array) - len(groups), len(groups) - 1
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / within_freedom
    between = sum(len(group) * float((group.mean() - mean) ** 2) for group in groups) / between_freedom
    if within <= 0 or f_tail(between / within, between_freedom, within_freedom) >= BLOCKS_DIFFER_AT:
        return plain
    return MeanError(between / len(array), between_freedom, launches_differ=True)


def ratio_interval(
    above: Array, below: Array, above_blocks: Sequence[int], below_blocks: Sequence[int]
) -> Interval | None:
    """The 95 % interval of mean(above) / mean(below), by Welch's t on logarithms; None where either is too short."""
    if min(len(above), len(below)) < LEAST_FOR_INTERVAL or min(above.mean(), below.mean()) <= 0:
        return None
    errors = [_relative(above, above_blocks), _relative(below, below_blocks)]
    variance, freedom = welch(*errors)
    ratio = float(above.mean() / below.mean())
    factor = math.exp(t_quantile((1 + LEVEL) / 2, freedom) * math.sqrt(variance)) if variance > 0 else 1.0
    differ = any(error.launches_differ for error in errors)
    return Interval(ratio / factor, ratio * factor, "launches" if differ else "t")


def welch(first: MeanError, second: MeanError) -> tuple[float, float]:
    """Variance of a difference of two means, and its degrees of freedom (Satterthwaite)."""
    variance = first.variance + second.variance
    if variance <= 0:
        return 0.0, first.freedom + second.freedom
    return variance, variance**2 / (first.variance**2 / first.freedom + second.variance**2 / second.freedom)


def _relative(array: Array, blocks: Sequence[int]) -> MeanError:
    error = mean_error(array, blocks)
    return MeanError(error.variance / float(array.mean()) ** 2, error.freedom, error.launches_differ)


def _bootstrap_t(array: Array) -> tuple[float, float]:
    """Resamples are drawn from a fixed seed, so that a report's interval can be computed again."""
    n, mean = len(array), float(array.mean())
    rng = np.random.default_rng(n)
    samples = array[rng.integers(0, n, (RESAMPLES, n))]
    deviations = samples.std(axis=1, ddof=1)
    spread = deviations > 0
    scores = (samples.mean(axis=1)[spread] - mean) / (deviations[spread] / math.sqrt(n))
    low, high = np.quantile(scores, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    error = float(array.std(ddof=1)) / math.sqrt(n)
    return mean - float(high) * error, mean - float(low) * error
