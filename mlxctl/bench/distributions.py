"""Student's t and Fisher's F from one incomplete beta function, so that numpy is enough. Pure."""

from __future__ import annotations

import math
from functools import cache

_TINY = 1e-300
_MAX_TERMS = 500
_CLOSE = 1e-14


def t_two_sided(t: float, freedom: float) -> float:
    """The probability that |T| >= |t|, T being Student's with `freedom` degrees of freedom (need not be whole)."""
    if math.isinf(t):
        return 0.0
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


@cache
def t_quantile(probability: float, freedom: float) -> float:
    """The t that T stays below with `probability` (0.5 to 1), by bisection."""
    low, high = 0.0, 1.0
    tail = 2 * (1 - probability)
    while t_two_sided(high, freedom) > tail:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_two_sided(middle, freedom) > tail else (low, middle)
    return (low + high) / 2


def f_tail(f: float, above: float, below: float) -> float:
    """The probability that F with (`above`, `below`) degrees of freedom is at least `f`."""
    return incomplete_beta(below / 2, above / 2, below / (below + above * f))


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, _MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            result *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return result


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
