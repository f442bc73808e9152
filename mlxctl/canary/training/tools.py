"""Tools that a dialogue offers, natural (data/tools.yaml) or made up, and requests that call them. See exchanges.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from mlxctl.canary.training.dialogue import Call, Dialogue
from mlxctl.canary.training.draws import Draw, between, chance, choose, distinct
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.skills.json_values import said
from mlxctl.canary.training.vocabulary import (
    ANIMALS,
    DAYS,
    NOUNS,
    PARAMETERS,
    VERBS,
    amount,
    any_word,
    city,
    code,
    name,
    number,
    pseudo_word,
    word,
)
from mlxctl.canary.training.wording import casual, joined_with_and, upper_first

_TOOLS = phrases("tools")
_MADE_UP = _TOOLS["made_up"]
Kind = Literal["natural", "made_up"]
ParameterType = str | list[str]
"""A JSON Schema type, or the values of an enumeration."""


def short_text(rng: Random) -> str:
    """One to seven words, as an argument."""
    count = between(rng, 1, 4) if chance(rng, 0.75) else between(rng, 3, 7)
    return " ".join((word if chance(rng, 0.5) else any_word)(rng) for _ in range(count))


def _date(rng: Random) -> str:
    return f"20{between(rng, 24, 39)}-{between(rng, 10, 12)}-{between(rng, 10, 28)}"


_DRAWS: dict[str, Draw[Any]] = {
    "amount": amount,
    "city": city,
    "clock": lambda rng: f"{between(rng, 10, 23)}:{between(rng, 10, 59)}",
    "date": _date,
    "day_or_date": lambda rng: choose(rng, [choose(rng, DAYS), _date(rng), "tomorrow"]),
    "file": lambda rng: word(rng) + choose(rng, [".txt", ".md", ".py", ".json"]),
    "folder": lambda rng: f"/{word(rng)}{choose(rng, ['', '/' + word(rng)])}",
    "name": name,
    "text": short_text,
    "ticker": lambda rng: "".join(choose(rng, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(between(rng, 2, 4))),
    "two_pseudo_words": lambda rng: f"{pseudo_word(rng)} {pseudo_word(rng)}",
    "two_words": lambda rng: f"{word(rng)} {word(rng)}",
    "word": word,
}


def _draw(specification: str | dict[str, list[Any]]) -> Draw[Any]:
    """What data/tools.yaml means by a draw."""
    if isinstance(specification, str):
        return _DRAWS[specification]
    ((kind, values),) = specification.items()
    makers: dict[str, Callable[[Any], Draw[Any]]] = {
        "between": lambda ends: lambda rng: between(rng, *ends),
        "one_of": lambda options: lambda rng: choose(rng, options),
        "always": lambda value: lambda rng: value,
    }
    return makers[kind](values)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a natural tool; `names` it may have, `is_city`: asked for by place. Enumerations draw a value."""

    names: list[str]
    type: ParameterType
    draw: Draw[Any]
    is_city: bool
    is_text: bool

    @classmethod
    def parse(cls, entry: dict[str, Any]) -> Parameter:
        """One entry of data/tools.yaml."""
        values, kind = entry.get("enum"), entry.get("draw")
        draw: Draw[Any] = (lambda rng: choose(rng, values)) if values else _draw(entry["draw"])
        return cls(entry["names"], values or entry["type"], draw, kind == "city", kind == "text")

    @property
    def is_enumeration(self) -> bool:
        """Whether its values are listed in the schema."""
        return isinstance(self.type, list)


@dataclass(frozen=True, slots=True, eq=False)
class NaturalTool:
    """A tool that could exist."""

    description: str
    names: list[str]
    parameters: list[Parameter]
    phrases: list[str]
    more_phrases: list[str]
    result: dict[str, Draw[Any]]
    is_arithmetic: bool

    @classmethod
    def parse(cls, entry: dict[str, Any]) -> NaturalTool:
        """One entry of data/tools.yaml."""
        parameters = [Parameter.parse(parameter) for parameter in entry["parameters"]]
        result = {key: _draw(specification) for key, specification in entry["result"].items()}
        more, is_arithmetic = entry.get("more_phrases", []), entry.get("arithmetic", False)
        return cls(entry["description"], entry["names"], parameters, entry["phrases"], more, result, is_arithmetic)

    def phrase(self, rng: Random) -> str:
        """A request with {0}, {1} … for the arguments."""
        phrases = self.more_phrases if self.more_phrases and chance(rng, 0.5) else self.phrases
        phrase = choose(rng, phrases)
        return casual(rng, phrase) if chance(rng, 0.25) else phrase


NATURAL_TOOLS = [NaturalTool.parse(entry) for entry in _TOOLS["tools"]]


@dataclass(frozen=True, slots=True, eq=False)
class NaturalOffer:
    """A natural tool under the names that one dialogue gives it and its parameters."""

    tool: NaturalTool
    name: str
    parameters: list[str]
    kind: Kind = "natural"

    def call(self, rng: Random) -> tuple[str, Call]:
        """A request and the call it asks for."""
        values = [parameter.draw(rng) for parameter in self.tool.parameters]
        request = self.tool.phrase(rng).format(*values)
        declared = self.tool.parameters
        if chance(rng, 0.3) and declared and not declared[-1].is_text:
            mark = request[-1] if request[-1] in ".?!" else ""
            request = request.removesuffix(mark) + choose(rng, _TOOLS["after"]) + (mark if chance(rng, 0.7) else "")
        elif chance(rng, 0.08):
            request = choose(rng, _TOOLS["before"]) + request
        return request, Call(self.name, dict(zip(self.parameters, values, strict=True)))


@dataclass(frozen=True, slots=True, eq=False)
class MadeUpOffer:
    """A tool made up on the spot; `verb` and `noun` where its name has a meaning."""

    name: str
    verb: str
    noun: str
    parameters: list[tuple[str, ParameterType]]
    required: list[str] | None
    kind: Kind = "made_up"

    def call(self, rng: Random) -> tuple[str, Call]:
        """A request and the call it asks for."""
        parameters = self.parameters
        if self.required and chance(rng, 0.6):
            parameters = [parameter for parameter in parameters if parameter[0] in self.required]
        arguments = {key: _made_up_value(rng, kind) for key, kind in parameters}
        quoted, pairs = chance(rng, 0.3), list(arguments.items())
        if chance(rng, 0.2):
            rng.shuffle(pairs)
        separator = choose(rng, _MADE_UP["separators"])
        forms = _MADE_UP["arguments"] if pairs else _MADE_UP["no_arguments"]
        if pairs and self.verb and chance(rng, 0.5):
            forms = _MADE_UP["arguments_verb"]
        elif not pairs and self.verb:
            forms = forms + _MADE_UP["no_arguments_verb"]
        shown = _arguments_in_words(pairs, separator, quoted=quoted)
        request = choose(rng, forms).format(tool=self.name, verb=self.verb, noun=self.noun, arguments=shown)
        starts_with_verb = self.verb and request.startswith(self.verb)
        return upper_first(request) if starts_with_verb else request, Call(self.name, arguments)


Offer = NaturalOffer | MadeUpOffer


def _made_up_value(rng: Random, kind: ParameterType) -> Any:
    if isinstance(kind, list):
        return choose(rng, kind)
    if kind == "integer":
        return int(number(rng)) if chance(rng, 0.5) else between(rng, 0, 99)
    if kind == "boolean":
        return chance(rng, 0.5)
    point = rng.random()
    if point < 0.45:
        return word(rng)
    if point < 0.6:
        return name(rng)
    if point < 0.8:
        return short_text(rng)
    return f"{word(rng)}.{choose(rng, _MADE_UP['endings'])}" if point < 0.86 else code(rng)


def _arguments_in_words(pairs: Sequence[tuple[str, Any]], separator: str, *, quoted: bool) -> str:
    def has_space(value: object) -> bool:
        return isinstance(value, str) and " " in value and separator == " "

    shown = [key + separator + said(value, quoted=quoted or has_space(value)) for key, value in pairs]
    if not shown:
        return ""
    return joined_with_and(shown) if separator in (" ", " set to ") else ", ".join(shown)


@dataclass(frozen=True, slots=True)
class _Schema:
    """What a JSON Schema of a tool is made of; `parameters`: name, type, description."""

    name: str
    description: str
    parameters: list[tuple[str, ParameterType, str]]
    required: list[str] | None = None

    def draw(self, rng: Random) -> dict[str, Any]:
        """The schema as an API takes it, with or without descriptions and `required`."""
        described = chance(rng, 0.25)
        properties: dict[str, Any] = {}
        for name_, kind, description in self.parameters:
            properties[name_] = {"type": "string", "enum": kind} if isinstance(kind, list) else {"type": kind}
            if described:
                properties[name_]["description"] = description
        function: dict[str, Any] = {"name": self.name}
        if chance(rng, 0.7):
            function["description"] = self.description + ("." if chance(rng, 0.5) else "")
        function["parameters"] = {"type": "object", "properties": properties}
        if chance(rng, 0.8):
            function["parameters"]["required"] = list(properties) if self.required is None else self.required
        return {"type": "function", "function": function}


def _natural_offer(rng: Random) -> tuple[NaturalOffer, dict[str, Any]]:
    tool = choose(rng, NATURAL_TOOLS)
    parameters = [choose(rng, parameter.names) for parameter in tool.parameters]
    if chance(rng, 0.8):
        called = choose(rng, tool.names)
    else:
        called = f"{choose(rng, tool.names)}_{choose(rng, _TOOLS['name_endings'])}"
    typed = zip(parameters, tool.parameters, strict=True)
    declared = [(key, parameter.type, f"The {key}") for key, parameter in typed]
    return NaturalOffer(tool, called, parameters), _Schema(called, tool.description, declared).draw(rng)


def _made_up_offer(rng: Random) -> tuple[MadeUpOffer, dict[str, Any]]:
    called, verb, noun = _made_up_name(rng)
    keys = distinct(rng, _made_up_key, choose(rng, [0] + [1, 1, 2, 2, 3] * 3))
    parameters = [(key, _made_up_type(rng)) for key in keys]
    description = f"{verb.capitalize()} a {noun}" if verb else _made_up_description(rng, called)
    required = [keys[0]] if len(keys) > 1 and chance(rng, 0.25) else None
    declared = [(key, kind, f"The {key} of the {noun or 'thing'}") for key, kind in parameters]
    schema = _Schema(called, description, declared, required).draw(rng)
    return MadeUpOffer(called, verb, noun, parameters, required), schema


def _made_up_name(rng: Random) -> tuple[str, str, str]:
    point, verb, noun = rng.random(), "", ""
    if point < 0.55:
        verb, noun = choose(rng, VERBS), choose(rng, NOUNS + ANIMALS)
        called = f"{verb}_{noun}" if chance(rng, 0.8) else verb + noun.capitalize()
    elif point < 0.8:
        called = f"{pseudo_word(rng)}_{pseudo_word(rng)}"
    else:
        called = pseudo_word(rng)
    prefix = choose(rng, _MADE_UP["prefixes"]) + "_" if point > 0.94 else ""
    return prefix + called, verb, noun


def _made_up_key(rng: Random) -> str:
    if chance(rng, 0.65):
        return choose(rng, PARAMETERS)
    return pseudo_word(rng) if chance(rng, 0.7) else f"{choose(rng, PARAMETERS)}_{choose(rng, PARAMETERS)}"


def _made_up_type(rng: Random) -> ParameterType:
    point = rng.random()
    if point < 0.5:
        return "string"
    if point < 0.78:
        return "integer"
    return distinct(rng, word, between(rng, 2, 4)) if point < 0.94 else "boolean"


def _made_up_description(rng: Random, called: str) -> str:
    does = f"{pseudo_word(rng).capitalize()} the {choose(rng, NOUNS)}"
    descriptions: list[str] = [*_MADE_UP["descriptions"], does, f"Runs {called}"]
    return choose(rng, descriptions)


def offer_tools(rng: Random, dialogue: Dialogue, kind: Kind | None = None) -> None:
    """Offers one to four tools whose names do not resemble each other."""
    dialogue.tools, seen = [], set[str]()
    for _ in range(choose(rng, [1, 1, 2, 2, 3, 4])):
        found = _new_offer(rng, kind, seen)
        if found:
            offer, schema = found
            seen |= {offer.name, _family(offer)}
            dialogue.offers.append(offer)
            dialogue.tools.append(schema)
    natural = [offer.tool for offer in dialogue.offers if isinstance(offer, NaturalOffer)]
    dialogue.offers_arithmetic = any(tool.is_arithmetic for tool in natural)


def _family(offer: Offer) -> str:
    """What no other tool of the dialogue may share: two natural tools would answer the same request."""
    return offer.tool.description[:16] if isinstance(offer, NaturalOffer) else offer.name


def _new_offer(rng: Random, kind: Kind | None, seen: set[str]) -> tuple[Offer, dict[str, Any]] | None:
    for _ in range(5):
        offer: Offer
        if kind == "natural" or (kind is None and chance(rng, 0.5)):
            offer, schema = _natural_offer(rng)
        else:
            offer, schema = _made_up_offer(rng)
        if _family(offer) not in seen and not any(offer.name in other or other in offer.name for other in seen):
            return offer, schema
    return None
