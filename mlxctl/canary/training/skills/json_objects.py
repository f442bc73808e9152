"""JSON objects and arrays, in plain and in free wordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from mlxctl.canary.training.dialogue import Dialogue, Reply, Turn, as_worded
from mlxctl.canary.training.draws import Draw, between, chance, choose, distinct, unlike
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.skills.json_values import (
    any_key,
    any_value,
    dumped,
    listed,
    marked,
    pairs_in_words,
    plain_value,
    said,
)
from mlxctl.canary.training.skills.lists import some_words
from mlxctl.canary.training.vocabulary import PARAMETERS, any_word, blended_word, city, name, pseudo_word
from mlxctl.canary.training.wording import casual, joined_with_and, worded

_JSON = phrases("json_objects")
_PLAIN, _ARRAY, _PERSON = _JSON["plain"], _JSON["array"], _JSON["person"]
Object = dict[str, Any]


def _object_reply(content: Object) -> Reply:
    thought = "The fields are " + joined_with_and(list(content)) + "." if content else "The object is empty."
    return Reply(dumped(content), thought)


def _array_reply(items: Sequence[object]) -> Reply:
    return Reply(dumped(items), f"The list has {len(items)} items.")


@as_worded
def json_object(rng: Random, dialogue: Dialogue) -> Turn:
    """Write a JSON object with name Ada and age 36."""
    if chance(rng, 0.15):
        return _plain_person(rng)
    keys = distinct(rng, _plain_key, between(rng, 1, 5))
    if chance(rng, 0.1):
        content = {key: plain_value(rng, key) for key in keys}
        return Turn(choose(rng, _PLAIN["repeat"]) + dumped(content), *_object_reply(content))
    if chance(rng, 0.3):
        keys = ["name", "age", "city"][: between(rng, 1, 3)]
    content = {key: plain_value(rng, key) for key in keys}
    quoted, separator = chance(rng, 0.35), choose(rng, _PLAIN["separators"])
    pairs = [key + separator + said(value, quoted=quoted) for key, value in content.items()]
    said_pairs = joined_with_and(pairs) if separator == " " else ", ".join(pairs)
    return Turn(choose(rng, _PLAIN["object"]).format(pairs=said_pairs), *_object_reply(content))


def _plain_key(rng: Random) -> str:
    return choose(rng, PARAMETERS) if chance(rng, 0.75) else pseudo_word(rng)


def _plain_person(rng: Random) -> Turn:
    content = {"name": name(rng), "age": between(rng, 5, 99), "city": city(rng)}
    has_city = not chance(rng, 0.5)
    template = choose(rng, _PLAIN["name_age_and_city" if has_city else "name_and_age"])
    shown = content if has_city else {key: content[key] for key in ("name", "age")}
    return Turn(template.format(**content), *_object_reply(shown))


@as_worded
def json_array(rng: Random, dialogue: Dialogue) -> Turn:
    """Write a JSON list of 1, 2, 3."""
    items: list[Any] = _small_numbers(rng, 2, 7) if chance(rng, 0.35) else some_words(rng, 2, 6)
    shown = listed(rng, [str(item) for item in items], 0.3)
    return Turn(choose(rng, _PLAIN["array"]).format(items=shown), *_array_reply(items))


def _small_numbers(rng: Random, fewest: int, most: int) -> list[int]:
    return [between(rng, 0, 99) for _ in range(between(rng, fewest, most))]


@dataclass(frozen=True, slots=True)
class _Request:
    """How a free request begins (`ask`) and marks its keys."""

    rng: Random
    ask: str
    mark: str

    def marked(self, key: str) -> str:
        return f"{self.mark}{key}{self.mark}"

    def for_keys(self, keys: Sequence[str]) -> str:
        shown = listed(self.rng, marked(keys, self.mark), 0.75)
        counted = "two keys," if len(keys) == 2 else "keys"
        return f"{self.ask} {choose(self.rng, _JSON['keys']).format(keys=shown, counted=counted)}"

    def with_another(self, text: str, content: Object) -> tuple[str, Object]:
        """The same with one more pair before."""
        key = unlike(self.rng, any_key, content)
        value = any_value(self.rng)
        before = f"{self.ask} {self.marked(key)} {said(value, quoted=False)} and"
        return before + text.removeprefix(self.ask), {key: value, **content}


@as_worded
def free_json_object(rng: Random, dialogue: Dialogue) -> Turn:
    """Objects in many wordings: people, pairs, keys and values apart, lists and objects inside, none at all."""
    point = rng.random()
    ask = casual(rng, choose(rng, _JSON["ask"])) if chance(rng, 0.25) else choose(rng, _JSON["ask"])
    end = choose(rng, _JSON["end"])
    request = _Request(rng, ask, choose(rng, ["", "", "", '"', "'"]))
    kind = next((kind for limit, kind in _KINDS if point < limit), None)
    text, content = kind(request) if kind else _without_content(rng, "empty" if point < 0.96 else "any")
    return Turn(_ended(rng, text, end if kind else ""), *_object_reply(content))


def _ended(rng: Random, text: str, end: str) -> str:
    if end:
        return text + ("" if text[-1] in ".!?" else ".") + end
    if text[-1].isalpha() and chance(rng, 0.4):
        return text + str(choose(rng, _JSON["stop"] if chance(rng, 0.9) else [" thanks"]))
    return text


def _person(request: _Request) -> tuple[str, Object]:
    rng = request.rng
    who = name(rng) if chance(rng, 0.8) else blended_word(rng).capitalize()
    values: Object = {"name": who, "age": between(rng, 1, 99), "city": city(rng)}
    content = {"name": values["name"], "age": values["age"]}
    if chance(rng, 0.15):
        keys = choose(rng, _PERSON["name_keys"]), choose(rng, _PERSON["age_keys"])
        content = dict(zip(keys, content.values(), strict=True))
    template = choose(rng, _PERSON["without_city"])
    if has_city := chance(rng, 0.22):
        content["city"] = values["city"]
        template = choose(rng, _PERSON["with_city"])
    description = template.format(**values)
    if chance(rng, 0.45):
        return request.for_keys(list(content)) + description, content
    if not has_city and chance(rng, 0.6):
        sentence = choose(rng, _PERSON["sentence"]).format(**values)
        shown = joined_with_and(marked(content, request.mark))
        return choose(rng, _PERSON["extract"]).format(keys=shown, sentence=sentence), content
    return _described(rng, description, content), content


def _described(rng: Random, description: str, content: Object) -> str:
    text = choose(rng, _PERSON["head"]) + description + choose(rng, _PERSON["tail"])
    joint = "" if text[-1] == " " else " Use " if text[-1] == "." else ", with "
    return str(text) + joint + joined_with_and(list(content))


def _pairs(request: _Request) -> tuple[str, Object]:
    rng = request.rng
    content = _any_object(rng, 4)
    text = f"{request.ask} {pairs_in_words(rng, content)}"
    if chance(rng, 0.2):
        return choose(rng, _JSON["pairs_first"]) + pairs_in_words(rng, content), content
    if chance(rng, 0.15):
        key, value = next(iter(content.items()))
        only = choose(rng, _JSON["one_key"]).format(key=f'"{key}"', value=said(value, quoted=True))
        return request.ask + only, {key: value}
    return text, content


def _any_object(rng: Random, most: int) -> Object:
    return {key: any_value(rng) for key in distinct(rng, any_key, between(rng, 1, most))}


def _keys_and_values(request: _Request) -> tuple[str, Object]:
    rng = request.rng
    keys = distinct(rng, any_key, between(rng, 2, 4))
    content = {key: any_value(rng) for key in keys}
    join: Callable[[Sequence[str]], str] = choose(rng, [joined_with_and, ", ".join])
    quoted = chance(rng, 0.4)
    values = join([said(value, quoted=quoted) for value in content.values()])
    return request.for_keys(keys) + choose(rng, _JSON["keys_and_values"]).format(values=values), content


def _list_inside(request: _Request) -> tuple[str, Object]:
    rng = request.rng
    key = choose(rng, [*_JSON["list_names"], any_key(rng)])
    items: list[Any] = _small_numbers(rng, 2, 5) if chance(rng, 0.4) else distinct(rng, any_word, between(rng, 2, 4))
    shown = [str(item) for item in items]
    values = {"key": request.marked(key), "items": listed(rng, shown, 0.5), "numbers": ", ".join(shown)}
    text, content = request.ask + choose(rng, _JSON["list_inside"]).format(**values), {key: items}
    return request.with_another(text, content) if chance(rng, 0.35) else (text, content)


def _object_inside(request: _Request) -> tuple[str, Object]:
    rng = request.rng
    key = choose(rng, [*_JSON["object_names"], any_key(rng)])
    inner = _any_object(rng, 3) if chance(rng, 0.6) else {"name": name(rng), "age": between(rng, 1, 99)}
    pairs = joined_with_and([f"{request.marked(k)} {said(value, quoted=False)}" for k, value in inner.items()])
    text = request.ask + choose(rng, _JSON["object_inside"]).format(key=request.marked(key), pairs=pairs)
    return request.with_another(text, {key: inner}) if chance(rng, 0.3) else (text, {key: inner})


_SUBJECTS: list[Draw[str]] = [
    lambda rng: any_word(rng).capitalize(),
    lambda rng: "The " + any_word(rng).capitalize(),
    any_word,
]
_THING_VALUES: dict[str, Draw[Any]] = {
    "name": name,
    "price": lambda rng: between(rng, 1, 999),
    "year": lambda rng: between(rng, 1950, 2029),
    "population": lambda rng: between(rng, 1000, 9999999),
    "done": lambda rng: choose(rng, ["true", "false"]),
}


def _thing(request: _Request) -> tuple[str, Object]:
    """A book, product, film, city, song or task."""
    rng = request.rng
    thing = choose(rng, _JSON["things"])
    subject = city(rng) if thing["subject"] == "city" else choose(rng, _SUBJECTS)(rng)
    value = _THING_VALUES[thing["value"]](rng)
    shown = value == "true" if thing["value"] == "done" else value
    content = dict(zip(thing["keys"], (subject, shown), strict=True))
    description = choose(rng, thing["phrases"]).format(subject=subject, value=value)
    if chance(rng, 0.5):
        return request.for_keys(thing["keys"]) + description, content
    head = choose(rng, _JSON["thing_head"])
    return f"{head}{description}{choose(rng, _JSON['thing_tail'])}{joined_with_and(thing['keys'])}", content


def _keys_only(request: _Request) -> tuple[str, Object]:
    rng = request.rng
    some = ["name", "age"]
    keys = some[: between(rng, 1, 2)] if chance(rng, 0.3) else distinct(rng, any_key, between(rng, 1, 4))
    text = request.for_keys(keys) + choose(rng, _JSON["no_values"])
    if not any(word in text for word in ("key", "field", "propert")):
        text = f"{request.ask} the keys {joined_with_and(keys)}"
    return text, dict.fromkeys(keys)


_KINDS: list[tuple[float, Callable[[_Request], tuple[str, Object]]]] = [
    (0.24, _person),
    (0.50, _pairs),
    (0.58, _keys_and_values),
    (0.70, _list_inside),
    (0.82, _object_inside),
    (0.88, _thing),
    (0.93, _keys_only),
]


def _without_content(rng: Random, kind: str) -> tuple[str, Object]:
    return worded(rng, _JSON[kind], 0.3), {} if kind == "empty" else {"name": "Canary"}


@as_worded
def free_json_array(rng: Random, dialogue: Dialogue) -> Turn:
    """Arrays in many wordings."""
    point = rng.random()
    if point < 0.2:
        first = between(rng, 0, 20)
        numbers = list(range(first, first + between(rng, 2, 8)))
        return Turn(worded(rng, _ARRAY["range"], 0.4, first=first, last=numbers[-1]), *_array_reply(numbers))
    if point < 0.24:
        return Turn(worded(rng, _ARRAY["empty"], 0.3), *_array_reply([]))
    return _free_items(rng)


def _free_items(rng: Random) -> Turn:
    items: list[Any]
    if chance(rng, 0.35):
        items = [between(rng, 0, 999) for _ in range(between(rng, 1, 6))]
    else:
        items = distinct(rng, lambda rng: any_word(rng) if chance(rng, 0.8) else name(rng), between(rng, 1, 6))
    quoted = chance(rng, 0.25)
    shown = [said(item, quoted=quoted) for item in items]
    forms = _ARRAY["of_words" if isinstance(items[0], str) else "of_numbers"] + _ARRAY["of_either"]
    return Turn(worded(rng, forms, 0.35, items=listed(rng, shown, 0.5)), *_array_reply(items))
