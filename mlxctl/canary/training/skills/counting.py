"""Counting up and down."""

from __future__ import annotations

from random import Random

from mlxctl.canary.training.dialogue import Dialogue, Turn, as_worded
from mlxctl.canary.training.draws import between, chance, choose
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.vocabulary import NUMBER_WORDS
from mlxctl.canary.training.wording import worded

_PLAIN, _FREE = phrases("counting")["plain"], phrases("counting")["free"]


def _counted(request: str, first: int, last: int, separator: str = ", ") -> Turn:
    numbers = range(first, last + 1) if first <= last else range(first, last - 1, -1)
    return Turn(request, separator.join(map(str, numbers)), f"I count from {first} to {last}.")


def count(rng: Random, dialogue: Dialogue) -> Turn:
    """Count to 10. Count down from 9 to 3."""
    if chance(rng, 0.5):
        first, last = 1, between(rng, 2, 20) if chance(rng, 0.7) else between(rng, 21, 100)
        template = choose(rng, _PLAIN["up_to"])
    else:
        first = between(rng, 0, 90)
        last = min(first + (between(rng, 1, 15) if chance(rng, 0.8) else between(rng, 1, 100)), 100)
        descending = chance(rng, 0.3)
        template = choose(rng, _PLAIN["down" if descending else "from_to"])
        first, last = (last, first) if descending else (first, last)
    return _counted(*_separated(rng, template.format(first=first, last=last), first, last))


def _separated(rng: Random, request: str, first: int, last: int) -> tuple[str, int, int, str]:
    if chance(rng, 0.12):
        return request.rstrip(".?") + choose(rng, _PLAIN["one_per_line"]), first, last, "\n"
    if chance(rng, 0.05):
        return request.rstrip(".?") + choose(rng, _PLAIN["spaced"]), first, last, " "
    return request, first, last, ", "


@as_worded
def free_count(rng: Random, dialogue: Dialogue) -> Turn:
    """Counting in many wordings, numbers sometimes in words."""
    point = rng.random()
    if point < 0.45:
        return _free_up_to(rng)
    return _free_from_to(rng) if point < 0.7 else _free_down(rng)


def _free_up_to(rng: Random) -> Turn:
    last = between(rng, 2, 20) if chance(rng, 0.85) else between(rng, 21, 60)
    spoken = NUMBER_WORDS[last] if last <= 20 and chance(rng, 0.3) else last
    return _counted(worded(rng, _FREE["up_to"], last=spoken), 1, last)


def _free_from_to(rng: Random) -> Turn:
    first = between(rng, 0, 80)
    last = first + between(rng, 2, 12)
    in_words = last <= 20 and chance(rng, 0.25)
    spoken = [NUMBER_WORDS[number] if in_words else number for number in (first, last)]
    return _counted(worded(rng, _FREE["from_to"], first=spoken[0], last=spoken[1]), first, last)


def _free_down(rng: Random) -> Turn:
    first, template = between(rng, 2, 20), choose(rng, _FREE["down"])
    last = 1 if "{last}" not in template or chance(rng, 0.6) else between(rng, 0, first - 1)
    spoken = NUMBER_WORDS[first] if chance(rng, 0.15) else first
    return _counted(worded(rng, [template], first=spoken, last=last), first, last)
