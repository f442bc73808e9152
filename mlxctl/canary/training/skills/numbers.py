"""Sorting and comparing numbers."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from mlxctl.canary.training.dialogue import Dialogue, Reply, Turn, as_worded
from mlxctl.canary.training.draws import between, chance, choose, distinct
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.skills.sums import following, preceding
from mlxctl.canary.training.wording import worded

_PLAIN, _FREE = phrases("numbers")["plain"], phrases("numbers")["free"]
_SUMS = phrases("sums")["free"]


def _listed(numbers: Sequence[int], separator: str = ", ") -> str:
    return separator.join(map(str, numbers))


def _sorted(numbers: Sequence[int], *, descending: bool) -> Reply:
    thought = "I sort from large to small." if descending else "I sort from small to large."
    return Reply(_listed(sorted(numbers, reverse=descending)), thought)


def _order(numbers: Sequence[int]) -> str:
    return f"{max(numbers)} is larger than {min(numbers)}."


def _largest(numbers: Sequence[int]) -> Reply:
    largest = max(numbers)
    return Reply(str(largest), f"The largest is {largest}.")


def _smallest(numbers: Sequence[int]) -> Reply:
    smallest = min(numbers)
    return Reply(str(smallest), f"The smallest is {smallest}.")


def _yes_or_no(is_so: bool) -> str:
    return "Yes." if is_so else "No."


def sort(rng: Random, dialogue: Dialogue) -> Turn:
    """Sort these numbers: 9, 4, 7"""
    count = between(rng, 3, 8) if chance(rng, 0.9) else 2
    highest = 99 if chance(rng, 0.75) else choose(rng, [9, 999])
    numbers = [between(rng, 0, highest) for _ in range(count)]
    descending = chance(rng, 0.25)
    template = choose(rng, _PLAIN["sort"])
    if descending:
        template = choose(rng, _PLAIN["descending"])
    elif chance(rng, 0.3):
        template = choose(rng, _PLAIN["ascending"])
    return Turn(template.format(numbers=_plain_list(rng, numbers)), *_sorted(numbers, descending=descending))


def _plain_list(rng: Random, numbers: Sequence[int]) -> str:
    if chance(rng, 0.1):
        return _listed(numbers, " ")
    return f"[{_listed(numbers)}]" if chance(rng, 0.07) else _listed(numbers)


def compare(rng: Random, dialogue: Dialogue) -> Turn:
    """The largest, the smallest, or whether one is greater than the other."""
    count = between(rng, 2, 7)
    numbers = distinct(rng, _two_digits, count)
    if count == 2 and chance(rng, 0.8):
        a, b = numbers
        if chance(rng, 0.5):
            return Turn(choose(rng, _PLAIN["larger"]).format(a=a, b=b), str(max(a, b)), _order(numbers))
        return Turn(choose(rng, _PLAIN["greater"]).format(a=a, b=b), _yes_or_no(a > b), _order(numbers))
    kind, reply = ("largest", _largest) if chance(rng, 0.5) else ("smallest", _smallest)
    return Turn(choose(rng, _PLAIN[kind]).format(numbers=_listed(numbers)), *reply(numbers))


def _two_digits(rng: Random) -> int:
    return between(rng, 0, 99)


def _two_or_three_digits(rng: Random) -> int:
    return between(rng, 0, 99 if chance(rng, 0.8) else 999)


@as_worded
def free_numbers(rng: Random, dialogue: Dialogue) -> Turn:
    """Sorting, comparing and what comes next in many wordings."""
    point = rng.random()
    if point < 0.45:
        return _free_sort(rng)
    if point < 0.72:
        return _free_extreme(rng)
    return _free_comparison(rng) if point < 0.87 else _free_next(rng)


def _free_sort(rng: Random) -> Turn:
    numbers = [_two_or_three_digits(rng) for _ in range(between(rng, 2, 8))]
    listed = _listed(numbers, choose(rng, [", ", ", ", " ", ",", " and "]))
    listed = f"[{listed}]" if chance(rng, 0.15) else listed
    descending = chance(rng, 0.3)
    request = worded(rng, _FREE["descending" if descending else "ascending"], 0.4, numbers=listed)
    return Turn(request, *_sorted(numbers, descending=descending))


def _free_extreme(rng: Random) -> Turn:
    numbers = distinct(rng, _two_or_three_digits, between(rng, 2, 7))
    if len(numbers) == 2:
        separator, share = " or " if chance(rng, 0.6) else ", ", 0.6
    else:
        separator, share = choose(rng, [", ", ", ", " ", ","]), 0.55
    kind, reply = ("largest", _largest) if chance(rng, share) else ("smallest", _smallest)
    answer, thought = reply(numbers)
    request = worded(rng, _FREE[kind], 0.4, numbers=_listed(numbers, separator))
    return Turn(request, answer, _order(numbers) if len(numbers) == 2 else thought)


def _free_comparison(rng: Random) -> Turn:
    a, b = distinct(rng, _two_digits, 2)
    asks_less = chance(rng, 0.5)
    request = worded(rng, _FREE["less" if asks_less else "greater"], 0.4, a=a, b=b)
    return Turn(request, _yes_or_no((a < b) == asks_less), _order([a, b]))


def _free_next(rng: Random) -> Turn:
    a = between(rng, 1, 100)
    kind, reply = ("after", following) if chance(rng, 0.6) else ("before", preceding)
    return Turn(worded(rng, _SUMS[kind], 0.4, a=a), *reply(a))
