"""Keys and values of the JSON objects that are asked for, and how they are said in words. Called by json_objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from mlxctl.canary.training.draws import between, chance, choose
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.vocabulary import COLOURS, PARAMETERS, amount, any_word, city, name, word
from mlxctl.canary.training.wording import joined_with_and

_NUMERIC = frozenset(phrases("json_objects")["plain"]["numeric_keys"])


def dumped(value: object) -> str:
    """JSON as the canary writes it."""
    return json.dumps(value, ensure_ascii=False)


def said(value: object, *, quoted: bool) -> str:
    """A value in a sentence; strings in quotes only if `quoted`."""
    return value if isinstance(value, str) and not quoted else dumped(value)


def marked(keys: Iterable[str], mark: str) -> list[str]:
    """Each key between two quotation marks."""
    return [f"{mark}{key}{mark}" for key in keys]


def listed(rng: Random, items: Sequence[str], share_with_and: float) -> str:
    """The items with commas, or with a final "and" in some of all cases."""
    return joined_with_and(items) if chance(rng, share_with_and) else ", ".join(items)


def plain_value(rng: Random, key: str) -> Any:
    """A value that fits the key."""
    if key == "name":
        return name(rng)
    if key in _NUMERIC:
        return amount(rng)
    if key == "city":
        return city(rng)
    if key in ("color", "colour"):
        return choose(rng, COLOURS)
    point = rng.random()
    if point < 0.3:
        return amount(rng)
    if point < 0.36:
        return choose(rng, [True, False])
    return " ".join(word(rng) for _ in range(2)) if point < 0.5 else word(rng)


def any_key(rng: Random) -> str:
    """A parameter name, any word, or both."""
    if chance(rng, 0.6):
        return choose(rng, PARAMETERS)
    return any_word(rng) if chance(rng, 0.6) else any_word(rng) + "_" + choose(rng, PARAMETERS)


def any_value(rng: Random) -> Any:
    """A number, text, truth value or null."""
    point = rng.random()
    if point < 0.32:
        return between(rng, 0, 10 ** between(rng, 1, 5))
    if point < 0.57:
        return any_word(rng)
    if point < 0.68:
        return any_word(rng).capitalize()
    if point < 0.77:
        return choose(rng, [True, False])
    if point < 0.84:
        return round(rng.random() * 100, between(rng, 1, 2))
    if point < 0.93:
        return any_word(rng) + " " + any_word(rng)
    return None if point < 0.95 else name(rng)


def pairs_in_words(rng: Random, content: Mapping[str, Any]) -> str:
    """The pairs of an object: "name is Ada and age is 36"."""
    mark = choose(rng, ["", "", '"', '"', "'"])
    has_spaces = any(isinstance(value, str) and " " in value for value in content.values())
    quoted = chance(rng, 0.35) or (has_spaces and chance(rng, 0.6))
    template = choose(rng, phrases("json_objects")["pair"])
    keys = marked(content, mark)
    values = [said(value, quoted=quoted) for value in content.values()]
    said_pairs = [template.format(key=key, value=value) for key, value in zip(keys, values, strict=True)]
    return listed(rng, said_pairs, 0.7)
