"""Noise on phrases: case, typos, shorthand, small words around a request. Called by the skills and by Dialogue.turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from mlxctl.canary.training.draws import between, chance, choose
from mlxctl.canary.training.phrases import phrases

_NOISE = phrases("wording")
_SLOT = re.compile(r"(\{\w*\})")


def lower_first(text: str) -> str:
    """`text` with a small first letter."""
    return text[0].lower() + text[1:]


def upper_first(text: str) -> str:
    """`text` with a capital first letter."""
    return text[0].upper() + text[1:]


def joined_with_and(items: Sequence[str]) -> str:
    """The items as a person lists them: a, b and c."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def worded(rng: Random, templates: Sequence[str], noise: float = 0.5, **values: object) -> str:
    """One of `templates` with its slots filled from `values`; a share of `noise` of them comes out casual."""
    template = choose(rng, templates)
    return (casual(rng, template) if chance(rng, noise) else template).format(**values)


def wrapped(rng: Random, request: str) -> str:
    """`request` with small words around it that change nothing."""
    point = rng.random()
    lowered = request if request[:2] in ("I ", "I'") else lower_first(request)
    if point < 0.6:
        before = choose(rng, _NOISE["before"])
        return str(before) + (request if before[-2] in ".!:" and chance(rng, 0.7) else lowered)
    if point < 0.75:
        return lowered
    ends = request[-1] in ".?!"
    if point < 0.85 and ends:
        return request[:-1]
    return request + str(choose(rng, _NOISE["after"])) if ends else request


def varied(rng: Random, request: str) -> str:
    """`request`, in one of six cases with a little noise."""
    point = rng.random()
    if point < 0.08:
        return lower_first(request)
    if point < 0.14:
        return "Please " + lower_first(request)
    return request[:-1] if point < 0.17 and request[-1] in ".?" else request


def casual(rng: Random, template: str) -> str:
    """`template` as somebody in a hurry types it. {slots} are left alone."""
    parts = _SLOT.split(template)
    parts = _recased(rng, parts)
    for formal, short in _NOISE["shorthand"]:
        if chance(rng, 0.12):
            parts = [part if _is_slot(part) else part.replace(formal, short) for part in parts]
    if chance(rng, 0.14):
        _mistype(rng, parts)
    _change_end(rng, parts)
    if chance(rng, 0.16) and parts[0]:
        front = choose(rng, _NOISE["front"])
        parts[0] = front + (parts[0] if parts[0][:1] == "I" else lower_first(parts[0]))
    return "".join(parts)


def _is_slot(part: str) -> bool:
    return part[:1] == "{"


def _recased(rng: Random, parts: list[str]) -> list[str]:
    point = rng.random()
    if point < 0.4:
        return [part if _is_slot(part) else part.lower() for part in parts]
    if point < 0.6 and parts[0]:
        return [lower_first(parts[0]), *parts[1:]]
    return parts


def _mistype(rng: Random, parts: list[str]) -> None:
    """One typo, in place: a letter dropped, swapped with the next or doubled."""
    position = int(rng.random() * len(parts))
    candidates = [] if _is_slot(parts[position]) else re.findall(r"[a-z]{4,}", parts[position])
    if not candidates:
        return
    word = choose(rng, candidates)
    at, point = between(rng, 1, len(word) - 2), rng.random()
    dropped, swapped = word[:at] + word[at + 1 :], word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    doubled = word[:at] + word[at] + word[at:]
    typo = dropped if point < 0.4 else swapped if point < 0.75 else doubled
    parts[position] = parts[position].replace(word, typo, 1)


def _change_end(rng: Random, parts: list[str]) -> None:
    """In place: the last mark left out, small words after it."""
    end = parts[-1]
    if end and end[-1] in ".?!" and chance(rng, 0.5):
        parts[-1] = end = end[:-1]
    if end and end[-1].isalpha() and chance(rng, 0.2):
        parts[-1] += choose(rng, _NOISE["tails"])
