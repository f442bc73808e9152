"""Lists of words: position, length, order, the longest."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from mlxctl.canary.training.dialogue import Dialogue, Reply, Turn, as_worded
from mlxctl.canary.training.draws import Draw, between, chance, choose, distinct
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.vocabulary import any_word, name, word
from mlxctl.canary.training.wording import worded

_PLAIN, _FREE = phrases("lists")["plain"], phrases("lists")["free"]
_PLACES = {"first": 0, "second": 1, "third": 2, "fourth": 3, "last": -1}
_FREE_KINDS = ("position", "position", "length", "reverse", "sort", "sort", "longest", "longest")


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items)


def _positioned(items: Sequence[str], ordinal: str) -> Reply:
    item = items[_PLACES[ordinal]]
    return Reply(item, f"The {ordinal} word is {item}.")


def _longest(items: Sequence[str]) -> Reply:
    return Reply(max(items, key=len), _listed([f"{item} {len(item)}" for item in items]) + ".")


def _alphabetical(items: Sequence[str]) -> Reply:
    return Reply(_listed(sorted(items, key=str.lower)), "I sort from a to z.")


def _counted(items: Sequence[str]) -> Reply:
    return Reply(str(len(items)), f"The list has {len(items)} words.")


def _reversed(items: Sequence[str]) -> Reply:
    return Reply(_listed(items[::-1]), "I start from the end.")


_REPLIES = {"length": _counted, "reverse": _reversed, "sort": _alphabetical, "longest": _longest}


def some_words(rng: Random, fewest: int = 3, most: int = 8) -> list[str]:
    """Different words, or now and then first names."""
    draw = word if chance(rng, 0.8) else _first_name
    return distinct(rng, draw, between(rng, fewest, most))


def _first_name(rng: Random) -> str:
    return name(rng).split()[0]


def position(rng: Random, dialogue: Dialogue) -> Turn:
    """What is the last word of: a b c?"""
    items, point = some_words(rng), rng.random()
    listed = choose(rng, [", ", ", ", ", ", " "]).join(items)
    ordinals = ("first", "second", "third", "fourth")
    ordinal = "first" if point < 0.4 else "last"
    if point >= 0.75:
        ordinal = ordinals[between(rng, 1, min(3, len(items) - 1))]
    request = choose(rng, _PLAIN["position"]).format(ordinal=ordinal, items=listed)
    return Turn(request, *_positioned(items, ordinal))


def _has_a_longest(items: Sequence[str]) -> bool:
    lengths = sorted(map(len, items))
    return lengths[-1] - lengths[-2] >= 2


def longest(rng: Random, dialogue: Dialogue) -> Turn:
    """Which word is the longest: …"""
    while True:
        items = [item for item in some_words(rng, 3, 6) if len(item) < 12]
        if len(items) > 2 and _has_a_longest(items):
            return _plain(rng, "longest", items)


def _plain(rng: Random, kind: str, items: Sequence[str]) -> Turn:
    return Turn(choose(rng, _PLAIN[kind]).format(items=_listed(items)), *_REPLIES[kind](items))


def sort_words(rng: Random, dialogue: Dialogue) -> Turn:
    """Sort these words alphabetically: … (all begin differently)"""
    count, items = between(rng, 2, 6), list[str]()
    while len(items) < count:
        candidate = word(rng)
        if all(candidate[0] != item[0] for item in items):
            items.append(candidate)
    request = choose(rng, _PLAIN["sort"]).format(items=_listed(items))
    return Turn(request, *_alphabetical(items))


def list_length(rng: Random, dialogue: Dialogue) -> Turn:
    """How many words are in this list: …"""
    return _plain(rng, "length", some_words(rng, 2, 9))


def reverse_list(rng: Random, dialogue: Dialogue) -> Turn:
    """Reverse this list: …"""
    if chance(rng, 0.7):
        return _plain(rng, "reverse", some_words(rng, 2, 6))
    return _plain(rng, "reverse", [str(between(rng, 0, 99)) for _ in range(between(rng, 2, 7))])


@as_worded
def free_list(rng: Random, dialogue: Dialogue) -> Turn:
    """All of these in many wordings, with any words."""
    kind = choose(rng, _FREE_KINDS)
    separator = choose(rng, [", ", ", ", ", ", " ", " and "])
    items, separator = _free_items(rng, kind, separator)
    if (kind == "sort" and chance(rng, 0.5)) or kind == "longest":
        items = [item.lower() for item in items]
    listed = separator.join(items) if chance(rng, 0.9) else f"[{_listed(items)}]"
    if kind == "position":
        known = ["first", "first", "last", "last", "second", "third", "fourth"]
        ordinal = choose(rng, known if len(items) > 3 else known[:-1])
        return Turn(worded(rng, _FREE[kind], 0.4, ordinal=ordinal, items=listed), *_positioned(items, ordinal))
    return Turn(worded(rng, _FREE[kind], 0.4, items=listed), *_REPLIES[kind](items))


def _free_items(rng: Random, kind: str, separator: str) -> tuple[list[str], str]:
    draw: Draw[str] = lambda rng: any_word(rng) if chance(rng, 0.75) else _first_name(rng)  # noqa: E731
    while True:
        items = distinct(rng, draw, between(rng, 3, 8) if kind == "position" else between(rng, 2, 7))
        separator = ", " if separator == " and " and len(items) > 2 else separator
        if kind == "longest" and not (_has_a_longest(items) and max(map(len, items)) <= 13):
            continue
        if kind == "sort" and len({item[0].lower() for item in items}) < len(items):
            continue
        return items, separator
