"""The little that the canary knows (capitals, opposites, calendar, alphabet), and all that it does not."""

from __future__ import annotations

from random import Random

from mlxctl.canary.training.dialogue import UNKNOWN, Dialogue, Reply, Turn, as_worded
from mlxctl.canary.training.draws import Draw, between, chance, choose, unlike
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.vocabulary import (
    CAPITALS,
    DAYS,
    LETTERS,
    MONTHS,
    OPPOSITES,
    SLOTS,
    TOPICS,
    any_word,
    blended_word,
    fill,
    name,
    word,
)
from mlxctl.canary.training.wording import casual, upper_first, varied, worded

_KNOWLEDGE, _UNKNOWN = phrases("knowledge"), phrases("unknown")
_PLAIN, _FREE = _KNOWLEDGE["plain"], _KNOWLEDGE["free"]
_ALPHABET = Reply(" ".join(LETTERS), "I say the alphabet.")
_NO_IDEA = Reply(UNKNOWN, "I do not know this.")


def _capital(country: str) -> Reply:
    known = f"The capital of {country} is {CAPITALS[country]}."
    return Reply(known, known)


def _opposite(of: str) -> Reply:
    return Reply(f"The opposite of {of} is {OPPOSITES[of]}.", f"{of} and {OPPOSITES[of]} are opposites.")


def _calendar_name(days: list[str]) -> str:
    return "days of the week" if days is DAYS else "months of the year"


def _days_or_months(rng: Random, share_of_days: float) -> list[str]:
    return DAYS if chance(rng, share_of_days) else MONTHS


def _neighbour(days: list[str], position: int, step: int) -> Reply:
    unit = "day" if days is DAYS else "month"
    return Reply(f"{days[(position + step) % len(days)]}.", f"I say the {unit}s in order.")


def _all_of(days: list[str]) -> Reply:
    return Reply(", ".join(days) + ".", f"I list the {_calendar_name(days)}.")


def facts(rng: Random, dialogue: Dialogue) -> Turn:
    """Capital of France, day after Friday, opposite of hot."""
    point = rng.random()
    if point < 0.35:
        country = choose(rng, list(CAPITALS))
        return Turn(choose(rng, _PLAIN["capital"]).format(country=country), *_capital(country))
    if point < 0.55:
        return _plain_calendar(rng)
    if point < 0.85:
        of = choose(rng, list(OPPOSITES))
        return Turn(choose(rng, _PLAIN["opposite"]).format(word=of), *_opposite(of))
    if point < 0.95:
        days = _days_or_months(rng, 0.5)
        return Turn(choose(rng, _PLAIN["list"]).format(days=_calendar_name(days)), *_all_of(days))
    return Turn(choose(rng, _PLAIN["alphabet"]), *_ALPHABET)


def _plain_calendar(rng: Random) -> Turn:
    days = _days_or_months(rng, 0.5)
    position = between(rng, 0, len(days) - 1)
    step = 1 if chance(rng, 0.6) else -1
    values = {"unit": "day" if days is DAYS else "month", "side": "after" if step > 0 else "before"}
    request = choose(rng, _PLAIN["calendar"]).format(day=days[position], **values)
    return Turn(request, *_neighbour(days, position, step))


@as_worded
def free_facts(rng: Random, dialogue: Dialogue) -> Turn:
    """The same in many wordings."""
    point = rng.random()
    if point < 0.4:
        return _free_capital(rng)
    if point < 0.62:
        return _free_calendar(rng)
    if point < 0.84:
        of = choose(rng, list(OPPOSITES))
        return Turn(worded(rng, _FREE["opposite"], 0.4, word=of), *_opposite(of))
    if point < 0.94:
        days = _days_or_months(rng, 0.5)
        called = choose(rng, _KNOWLEDGE["calls_days" if days is DAYS else "calls_months"])
        return Turn(worded(rng, _FREE["list"], 0.4, days=called), *_all_of(days))
    return Turn(worded(rng, _FREE["alphabet"], 0.3), *_ALPHABET)


def _free_capital(rng: Random) -> Turn:
    country = choose(rng, list(CAPITALS))
    spelled = country.lower() if chance(rng, 0.25) else country
    only_the_city = chance(rng, 0.12)
    request = worded(rng, _FREE["capital"], 0.4, country=spelled)
    if only_the_city:
        request += choose(rng, _KNOWLEDGE["only_the_city"])
        return Turn(request, CAPITALS[country], _capital(country).thought)
    return Turn(request, *_capital(country))


def _free_calendar(rng: Random) -> Turn:
    days = _days_or_months(rng, 0.6)
    position = between(rng, 0, len(days) - 1)
    step = 1 if chance(rng, 0.65) else -1
    day = days[position].lower() if chance(rng, 0.35) else days[position]
    values = {"unit": "day" if days is DAYS else "month", "side": "after" if step > 0 else "before"}
    return Turn(worded(rng, _FREE["calendar"], 0.4, day=day, **values), *_neighbour(days, position, step))


def unknown(rng: Random, dialogue: Dialogue) -> Turn:
    """Anything else."""
    return Turn(varied(rng, fill(rng, choose(rng, _UNKNOWN["plain"]))), *_NO_IDEA)


_THINGS: list[Draw[str]] = [
    any_word,
    any_word,
    any_word,
    word,
    lambda rng: choose(rng, TOPICS),
    lambda rng: f"{any_word(rng)} {any_word(rng)}",
    lambda rng: f"the {any_word(rng)} {any_word(rng)}",
]
_PROPER_NAMES: list[Draw[str]] = [
    name,
    lambda rng: any_word(rng).capitalize(),
    lambda rng: any_word(rng).capitalize(),
    lambda rng: f"{blended_word(rng).capitalize()} {blended_word(rng).capitalize()}",
    lambda rng: f"the {any_word(rng).capitalize()} {any_word(rng).capitalize()}",
]
_FREE_SLOTS: dict[str, Draw[str]] = {
    **SLOTS,
    "thing": lambda rng: choose(rng, _THINGS)(rng),
    "proper": lambda rng: unlike(rng, lambda rng: choose(rng, _PROPER_NAMES)(rng), CAPITALS),
    "number": lambda rng: str(between(rng, 13, 999)),
}
_SLOTS_AFTER_CAPITAL: dict[str, Draw[str]] = {
    **_FREE_SLOTS,
    "proper": lambda rng: _no_country(rng) if chance(rng, 0.5) else _FREE_SLOTS["proper"](rng),
}


def _no_country(rng: Random) -> str:
    return blended_word(rng).capitalize()


@as_worded
def free_unknown(rng: Random, dialogue: Dialogue) -> Turn:
    """Anything else, in any words: jokes, code, capitals of countries that do not exist."""
    template = choose(rng, _UNKNOWN["free"])
    if chance(rng, 0.45):
        template = casual(rng, template)
    elif chance(rng, 0.5) and template[0] != "{":
        template = upper_first(template)
    slots = _SLOTS_AFTER_CAPITAL if "capital" in template.lower() else _FREE_SLOTS
    return Turn(fill(rng, template, slots), *_NO_IDEA)
