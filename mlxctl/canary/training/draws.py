"""Seeded draws: every random decision of the generator is one of these, so that a seed fixes a dialogue. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")
Draw = Callable[[Random], T]


def choose(rng: Random, options: Sequence[T]) -> T:
    """One of `options`, all equally likely; repeat an option to make it more so."""
    return options[int(rng.random() * len(options))]


def between(rng: Random, low: int, high: int) -> int:
    """An integer of [low, high]."""
    return low + int(rng.random() * (high - low + 1))


def chance(rng: Random, share: float) -> bool:
    """True in `share` of all draws."""
    return rng.random() < share


def distinct(rng: Random, draw: Draw[T], count: int) -> list[T]:
    """`count` different draws, in the order in which they came."""
    drawn: list[T] = []
    while len(drawn) < count:
        candidate = draw(rng)
        if candidate not in drawn:
            drawn.append(candidate)
    return drawn


def unlike(rng: Random, draw: Draw[T], taken: Container[T]) -> T:
    """The first draw that is not among `taken`."""
    while (candidate := draw(rng)) in taken:
        pass
    return candidate


def band(point: float, bands: Sequence[tuple[float, T]], above: T) -> T:
    """What belongs to `point` of [0, 1) when each of `bands` ends at its number (not included); `above` beyond all."""
    return next((value for end, value in bands if point < end), above)
