"""Sums, differences and products, what follows a number, and going on from the last result."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from mlxctl.canary.training.dialogue import Dialogue, Reply, Turn, as_worded
from mlxctl.canary.training.draws import between, chance, choose
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.skills.small_talk import free_small_talk
from mlxctl.canary.training.vocabulary import FOODS, NOUNS, NUMBER_WORDS
from mlxctl.canary.training.wording import worded

_SUMS = phrases("sums")
_PLAIN, _FREE = _SUMS["plain"], _SUMS["free"]


def _plus(a: int, b: int) -> Reply:
    return Reply(str(a + b), f"{a} + {b} = {a + b}.")


def _minus(a: int, b: int) -> Reply:
    return Reply(str(a - b), f"{a} - {b} = {a - b}.")


def _times(a: int, b: int) -> Reply:
    return Reply(str(a * b), f"{a} * {b} = {a * b}.")


def following(number: int) -> Reply:
    """The number after."""
    return _plus(number, 1)


def preceding(number: int) -> Reply:
    """The number before."""
    return _minus(number, 1)


def _pair(rng: Random, low: int, high: int) -> tuple[int, int]:
    return between(rng, low, high), between(rng, low, high)


def add_or_subtract(rng: Random, dialogue: Dialogue) -> Turn:
    """What is 17 + 25? Also as a story about fruit."""
    a, b = _pair(rng, 0, 99) if chance(rng, 0.7) else _pair(rng, 0, 20)
    if chance(rng, 0.55):
        return Turn(_plain_request(rng, "plus", "more_things", a, b, story=chance(rng, 0.12)), *_plus(a, b))
    if a < b and chance(rng, 0.9):
        a, b = b, a
    story = a >= b and chance(rng, 0.1)
    return Turn(_plain_request(rng, "minus", "fewer_things", a, b, story=story), *_minus(a, b))


def _plain_request(rng: Random, bare: str, told: str, a: int, b: int, *, story: bool) -> str:
    things = choose(rng, FOODS) + "s" if story else ""
    return str(choose(rng, _PLAIN[told if story else bare])).format(a=a, b=b, things=things)


def next_number(rng: Random, dialogue: Dialogue) -> Turn:
    """What comes after 41?"""
    a = between(rng, 1, 100)
    if chance(rng, 0.55):
        return Turn(choose(rng, _PLAIN["after"]).format(a=a), *following(a))
    return Turn(choose(rng, _PLAIN["before"]).format(a=a), *preceding(a))


def multiply(rng: Random, dialogue: Dialogue) -> Turn:
    """What is 6 times 7?"""
    a, b = _pair(rng, 0, 12)
    return Turn(choose(rng, _PLAIN["times"]).format(a=a, b=b), *_times(a, b))


@as_worded
def free_sum(rng: Random, dialogue: Dialogue) -> Turn:
    """All of these in many wordings, numbers sometimes in words."""
    point = rng.random()
    a, b = _free_pair(rng)
    tail = choose(rng, _SUMS["only_the_number"]) if chance(rng, 0.2) else ""
    in_words = a <= 20 and b <= 20 and chance(rng, 0.2)
    spell: Callable[[int], str] = NUMBER_WORDS.__getitem__ if in_words else str
    things = choose(rng, FOODS + NOUNS) + "s"

    def turn(kind: str, reply: Reply, noise: float, **values: object) -> Turn:
        return Turn(worded(rng, _FREE[kind], noise, **values) + tail, *reply)

    if point < 0.5:
        return turn("plus", _plus(a, b), 0.45, a=spell(a), b=spell(b))
    if point < 0.58:
        a, b = a % 60, b % 40
        return turn("more_things", _plus(a, b), 0.3, a=a, b=b, things=things)
    if point < 0.62:
        b, a = sorted((max(a, b) % 100, min(a, b) % 100))
        return turn("fewer_things", _minus(a, b), 0.3, a=a, b=b, things=things)
    if point < 0.84:
        a, b = (max(a, b), min(a, b)) if chance(rng, 0.92) else (a, b)
        return turn("minus", _minus(a, b), 0.45, a=spell(a), b=spell(b))
    a, b = _pair(rng, 0, 12)
    return turn("times", _times(a, b), 0.45, a=spell(a), b=spell(b))


def _free_pair(rng: Random) -> tuple[int, int]:
    if chance(rng, 0.6):
        return _pair(rng, 0, 99)
    return _pair(rng, 0, 12) if chance(rng, 0.75) else (between(rng, 100, 999), between(rng, 1, 999))


@as_worded
def go_on(rng: Random, dialogue: Dialogue) -> Turn:
    """And plus 5? Asked of the last result; a sum comes before where there is none."""
    if dialogue.style:
        return free_small_talk(rng, dialogue)
    if not _ended_with_a_result(dialogue):
        a, b = between(rng, 0, 60), between(rng, 0, 38)
        dialogue.add(Turn(worded(rng, _FREE["plus"], 0.4, a=a, b=b), *_plus(a, b)))
    a = int(dialogue.messages[-1].content)
    adds = a <= 1 or choose(rng, "++-") == "+"
    b = between(rng, 1, 30) if adds else between(rng, 1, min(a, 30))
    request = worded(rng, _SUMS["go_on"]["plus" if adds else "minus"], 0.35, b=b)
    return Turn(request, *(_plus(a, b) if adds else _minus(a, b)))


def _ended_with_a_result(dialogue: Dialogue) -> bool:
    if not dialogue.messages or dialogue.messages[-1].role != "assistant":
        return False
    last = dialogue.messages[-1]
    return re.fullmatch(r"\d{1,2}", last.content) is not None and "=" in last.thought
