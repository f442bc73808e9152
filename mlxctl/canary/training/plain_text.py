"""Plain text without a dialogue: stories, the alphabet, counting, capitals. Called by mixes and build_tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from mlxctl.canary.training.draws import between, chance, choose, distinct
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.vocabulary import (
    ADJECTIVES,
    ANIMALS,
    CAPITALS,
    COLOURS,
    DAYS,
    FOODS,
    JOBS,
    LETTERS,
    MONTHS,
    NOUNS,
    city,
    name,
    sentence,
    word,
)

_TEXT = phrases("plain_text")


def plain_text(rng: Random) -> str:
    """One short document."""
    point, upper = rng.random(), chance(rng, 0.25)
    if 0.3 <= point < 0.4:
        return _alphabet(rng, upper=upper)
    return next(write for end, write in _KINDS if point < end)(rng)


def _story(rng: Random) -> str:
    values = {
        "name": name(rng),
        "animal": choose(rng, ANIMALS),
        "city": city(rng),
        "adjective": choose(rng, ADJECTIVES),
    }
    values |= {
        "friend": name(rng),
        "thing": choose(rng, NOUNS),
        "colour": choose(rng, COLOURS),
        "food": choose(rng, FOODS),
    }
    point = rng.random()
    story = _TEXT["stories"][0 if point < 0.5 else 1 if point < 0.75 else 2]
    return str(story).format(**values, job=choose(rng, JOBS) if 0.5 <= point < 0.75 else "")


def _alphabet(rng: Random, *, upper: bool) -> str:
    before = choose(rng, _TEXT["alphabet"])
    letters = choose(rng, [" ", " ", ", ", "", "\n", ","]).join(LETTERS.upper() if upper else LETTERS)
    return str(before) + letters + choose(rng, ["", "", "."])


def _numbers(rng: Random) -> str:
    first = choose(rng, [1, 1, 1, 0, between(rng, 0, 80)])
    step = choose(rng, [1, 1, 1, 1, 2, 5, 10])
    count = between(rng, 10, 40)
    if step > 1:
        first = choose(rng, {2: [0, 1, 2], 5: [0, 5], 10: [0, 10]}[step])
    before = choose(rng, _TEXT["numbers"])
    numbers = range(first, min(first + step * count, 101), step)
    return str(before) + choose(rng, [", ", " ", "\n", ","]).join(map(str, numbers))


def _calendar(rng: Random) -> str:
    days = DAYS if chance(rng, 0.5) else MONTHS
    start, separator = between(rng, 0, len(days) - 1), choose(rng, [", ", " ", "\n"])
    length = len(days) if chance(rng, 0.5) else 2 * len(days)
    return separator.join(days[(start + step) % len(days)] for step in range(length))


def _capitals(rng: Random) -> str:
    countries = distinct(rng, lambda rng: choose(rng, list(CAPITALS)), between(rng, 1, 5))
    return " ".join(f"The capital of {country} is {CAPITALS[country]}." for country in countries)


def _repetition(rng: Random) -> str:
    block = [word(rng) for _ in range(between(rng, 1, 6))]
    return choose(rng, [" ", ", ", "\n"]).join(block * between(rng, 3, 8))


def _sentences(rng: Random) -> str:
    return " ".join(sentence(rng) for _ in range(between(rng, 1, 4)))


_KINDS: list[tuple[float, Callable[[Random], str]]] = [
    (0.30, _story),
    (0.62, _numbers),
    (0.70, _calendar),
    (0.78, _capitals),
    (0.92, _repetition),
    (1.00, _sentences),
]
