"""Words, names, numbers and sentences that fill the phrases. Called by all the skills."""

from __future__ import annotations

import re
from random import Random

from mlxctl.canary.training.draws import Draw, between, chance, choose
from mlxctl.canary.training.phrases import phrases, words

LETTERS = "abcdefghijklmnopqrstuvwxyz"
UPPER_AND_DIGITS = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
_VOWELS = "aeiou"
_CONSONANTS = "bcdfghjklmnpqrstvwxz"

NAMES, CITIES, NOUNS, ADJECTIVES = (words(kind) for kind in ("names", "cities", "nouns", "adjectives"))
ANIMALS, FOODS, COLOURS, JOBS = (words(kind) for kind in ("animals", "foods", "colours", "jobs"))
VERBS, PARAMETERS, DAYS, MONTHS = (words(kind) for kind in ("verbs", "parameters", "days", "months"))
NUMBER_WORDS = words("number_words")
TOPICS = words("topics")
_ENGLISH = words("english")
_FOREIGN = words("foreign")
LISTED = sorted({*NOUNS, *ADJECTIVES, *ANIMALS, *FOODS, *COLOURS, *VERBS})
CAPITALS: dict[str, str] = phrases("words")["capitals"]
_PAIRS: dict[str, str] = phrases("words")["opposites"]
OPPOSITES = {**_PAIRS, **{second: first for first, second in _PAIRS.items()}}

_pool: list[str] = []


def fill_pool(rng: Random, count: int) -> None:
    """Draws the `count` pseudo-words that this process uses from now on; few enough that their tokens stay cached."""
    _pool[:] = [_new_pseudo_word(rng) for _ in range(count)]


def _new_pseudo_word(rng: Random) -> str:
    if chance(rng, 0.3):
        return "".join(choose(rng, LETTERS) for _ in range(between(rng, 3, 8)))
    made = ""
    for _ in range(between(rng, 1, 3)):
        made += choose(rng, _CONSONANTS + "y") + choose(rng, _VOWELS)
        made += choose(rng, _CONSONANTS) if chance(rng, 0.4) else ""
    return made if len(made) > 2 else made + choose(rng, _VOWELS) + choose(rng, _CONSONANTS)


def pseudo_word(rng: Random) -> str:
    """A word of no language."""
    return choose(rng, _pool) if _pool else _new_pseudo_word(rng)


def blended_word(rng: Random) -> str:
    """An English-like word: the beginning of one word and the end of another."""
    head = choose(rng, _ENGLISH if chance(rng, 0.7) else LISTED)
    tail = choose(rng, _ENGLISH if chance(rng, 0.7) else LISTED)
    joint = rng.random()
    head_length, tail_length = between(rng, 1, min(5, len(head))), between(rng, 1, min(6, len(tail)))
    blend = head[:head_length] + (choose(rng, _VOWELS) if joint < 0.3 else "") + tail[-tail_length:]
    return blend if len(blend) > 2 else blend + tail


def english_word(rng: Random) -> str:
    """A word of the plain English list."""
    return choose(rng, _ENGLISH)


def foreign_word(rng: Random) -> str:
    """A word of another language."""
    return choose(rng, _FOREIGN)


def listed_word(rng: Random) -> str:
    """A noun, adjective, animal, food, colour or verb of the lists."""
    return choose(rng, LISTED)


def any_word(rng: Random) -> str:
    """A word of any vocabulary at all."""
    point = rng.random()
    if point < 0.42:
        return english_word(rng)
    if point < 0.75:
        return blended_word(rng)
    if point < 0.85:
        return listed_word(rng)
    return pseudo_word(rng) if point < 0.98 else foreign_word(rng)


def word(rng: Random) -> str:
    """A word, more often than not of the lists."""
    point = rng.random()
    if point < 0.45:
        return listed_word(rng)
    if point < 0.65:
        return pseudo_word(rng)
    return english_word(rng) if point < 0.82 else blended_word(rng)


def short_word(rng: Random, longest: int) -> str:
    """A word of 3 to `longest` letters."""
    while True:
        candidate = word(rng)
        if 2 < len(candidate) <= longest:
            return candidate


def listed_or_pseudo(listed: list[str]) -> Draw[str]:
    """Draws mostly of `listed`, else a pseudo-word."""
    return lambda rng: choose(rng, listed) if chance(rng, 0.7) else pseudo_word(rng)


def name(rng: Random) -> str:
    """A first name, real or not, sometimes with a surname."""
    point = rng.random()
    if point < 0.57:
        return choose(rng, NAMES)
    if point < 0.92:
        return pseudo_word(rng).capitalize()
    if point < 0.95:
        return choose(rng, words("foreign_names"))
    return choose(rng, NAMES) + " " + pseudo_word(rng).capitalize()


def city(rng: Random) -> str:
    """A city, real or not."""
    point = rng.random()
    if point < 0.6:
        return choose(rng, CITIES)
    if point < 0.9:
        return pseudo_word(rng).capitalize()
    if point < 0.96:
        return choose(rng, words("towns_of_two_words"))
    return choose(rng, ["New ", "San ", "Port ", "Saint ", "North "]) + pseudo_word(rng).capitalize()


def number(rng: Random) -> str:
    """One to six digits."""
    return str(between(rng, 0, 10 ** between(rng, 1, 6) - 1))


def amount(rng: Random) -> int:
    """An integer up to 10, 100, 1,000 or 10,000."""
    return between(rng, 0, 10 ** between(rng, 1, 4))


def code(rng: Random) -> str:
    """A code word, number or mixture of both."""
    point = rng.random()
    if point < 0.45:
        return word(rng)
    if point < 0.6:
        return number(rng)
    if point < 0.7:
        return word(rng).upper()
    if point < 0.8:
        return pseudo_word(rng).capitalize()
    if point < 0.9:
        return word(rng) + "-" + choose(rng, [number, word, word])(rng)
    return "".join(choose(rng, UPPER_AND_DIGITS) for _ in range(between(rng, 3, 8)))


def secret_name(rng: Random) -> str:
    """What a secret is called: "secret word", "blue lamp code"."""
    if chance(rng, 0.25):
        return "secret word"
    if chance(rng, 0.15):
        return choose(rng, words("secret_kinds"))
    return choose(rng, words("secret_adjectives") if chance(rng, 0.75) else NOUNS + COLOURS) + " " + secret_kind(rng)


def secret_kind(rng: Random) -> str:
    """The last word of a secret's name."""
    return choose(rng, words("secret_kinds"))


def secret_value(rng: Random, secret: str) -> str:
    """A value that fits the secret's name."""
    if "number" in secret:
        return number(rng)
    if "name" in secret:
        return name(rng)
    return city(rng) if "city" in secret else code(rng)


def topic(rng: Random) -> str:
    """Something to talk about."""
    if chance(rng, 0.75):
        return choose(rng, TOPICS)
    described = [pseudo_word(rng), f"the {choose(rng, ADJECTIVES)} {choose(rng, NOUNS)}"]
    return choose(rng, [*described, choose(rng, NOUNS) + "s", pseudo_word(rng).capitalize()])


SLOTS: dict[str, Draw[str]] = {
    "adjective": lambda rng: choose(rng, ADJECTIVES),
    "noun": lambda rng: choose(rng, NOUNS),
    "past": lambda rng: choose(rng, words("past_verbs")),
    "name": name,
    "city": city,
    "animal": lambda rng: choose(rng, ANIMALS),
    "year": lambda rng: str(between(rng, 1500, 2099)),
    "count": lambda rng: str(between(rng, 2, 999)),
    "food": lambda rng: choose(rng, FOODS),
    "colour": lambda rng: choose(rng, COLOURS),
    "job": lambda rng: choose(rng, JOBS),
    "pseudo": pseudo_word,
    "pseudo_name": lambda rng: pseudo_word(rng).capitalize(),
    "any": any_word,
    "topic": topic,
}
_SLOT = re.compile(r"\{(\w+)\}")


def fill(rng: Random, template: str, slots: dict[str, Draw[str]] = SLOTS) -> str:
    """`template` with every {slot} drawn anew, from left to right."""
    return _SLOT.sub(lambda match: slots[match[1]](rng), template)


def sentence(rng: Random) -> str:
    """A sentence of the templates."""
    return fill(rng, choose(rng, phrases("sentences")["sentences"]))
