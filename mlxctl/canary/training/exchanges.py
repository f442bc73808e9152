"""Tool exchanges: the request, one or two calls, the results and the answer made of them. Called by mixes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from mlxctl.canary.training.dialogue import Call, Dialogue, Message
from mlxctl.canary.training.draws import between, chance, choose, distinct
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.skills.json_values import dumped
from mlxctl.canary.training.tools import Kind, NaturalOffer, Offer, short_text
from mlxctl.canary.training.vocabulary import PARAMETERS, amount, number, pseudo_word, word
from mlxctl.canary.training.wording import joined_with_and

_TOOLS = phrases("tools")


@dataclass(frozen=True, slots=True)
class _Request:
    """What the user asks and the calls that answer it, each of its offer."""

    text: str
    calls: tuple[Call, ...]
    offers: tuple[Offer, ...]

    @classmethod
    def for_one(cls, rng: Random, offer: Offer) -> _Request:
        """A request for one call of `offer`."""
        text, call = offer.call(rng)
        return cls(text, (call,), (offer,))


def add_exchange(
    rng: Random,
    dialogue: Dialogue,
    *,
    two: bool | None = None,
    finish: bool | None = None,
    kind: Kind | None = None,
) -> None:
    """Appends a request and its call, or `two` calls; with results and answer if `finish`. None leaves it to chance."""
    offers = [offer for offer in dialogue.offers if kind in (None, offer.kind)] or dialogue.offers
    request = _Request.for_one(rng, choose(rng, offers))
    if two is not True and (last := _repeatable(dialogue, offers)) and chance(rng, 0.4):
        request, two = _same_again(rng, last), False
    if chance(rng, 0.15) if two is None else two:
        request = _with_a_second_call(rng, dialogue, offers, request)
    dialogue.messages.append(Message("user", request.text))
    thought = f"I call {joined_with_and([call.name for call in request.calls])}."
    dialogue.messages.append(Message("assistant", "", thought, request.calls))
    if chance(rng, 0.6) if finish is None else finish:
        _finish(rng, dialogue, request.offers)


def _repeatable(dialogue: Dialogue, offers: Sequence[Offer]) -> NaturalOffer | None:
    last = dialogue.last_used
    if isinstance(last, NaturalOffer) and last in offers and len(last.parameters) == 1:
        return None if last.tool.parameters[0].is_enumeration else last
    return None


def _same_again(rng: Random, offer: NaturalOffer) -> _Request:
    """The tool used last, for another value: "and in Graz?"."""
    parameter = offer.tool.parameters[0]
    value = parameter.draw(rng)
    request = choose(rng, _TOOLS["again"]["in_a_city" if parameter.is_city else "elsewhere"]).format(value)
    return _Request(request, (Call(offer.name, {offer.parameters[0]: value}),), (offer,))


def _with_a_second_call(rng: Random, dialogue: Dialogue, offers: Sequence[Offer], first: _Request) -> _Request:
    offer, call = first.offers[0], first.calls[0]
    second = choose(rng, offers) if chance(rng, 0.5) else offer
    if second is offer and not call.arguments:
        second = choose(rng, dialogue.offers)
    if second is offer and isinstance(offer, NaturalOffer) and len(offer.parameters) == 1 and chance(rng, 0.7):
        both = _for_two_values(rng, offer, call)
        if both:
            return both
    text, another = second.call(rng)
    joint = (" " if first.text[-1] in ".?!" else ". ") + choose(rng, _TOOLS["second_request"])
    return _Request(first.text + joint + text, (call, another), (offer, second))


def _for_two_values(rng: Random, offer: NaturalOffer, call: Call) -> _Request | None:
    """The weather in Paris and in Tokyo. None where both would be the same."""
    key = offer.parameters[0]
    first, second = call.arguments[key], offer.tool.parameters[0].draw(rng)
    if first == second:
        return None
    phrase = offer.tool.phrase(rng)
    without_in = chance(rng, 0.5) or "in {0}" not in phrase
    text = phrase.format(f"{first} and {second}" if without_in else f"{first} and in {second}")
    return _Request(text, (call, Call(offer.name, {key: second})), (offer, offer))


def _finish(rng: Random, dialogue: Dialogue, offers: Sequence[Offer]) -> None:
    results = [_result(rng, offer) for offer in offers]
    dialogue.messages += [Message("tool", result.content) for result in results]
    answer = dialogue.styled(" ".join(result.answer for result in results))
    dialogue.messages.append(Message("assistant", answer, "The tool answered."))
    dialogue.last_used = offers[0] if len(offers) == 1 else None


class _Result(NamedTuple):
    """What a tool returns and the answer made of it."""

    content: str
    answer: str


def _result(rng: Random, offer: Offer) -> _Result:
    point = rng.random()
    if point < 0.06:
        error = choose(rng, [*_TOOLS["errors"], short_text(rng)])
        return _Result(json.dumps({"error": error}), f"Sorry, the tool failed: {error}.")
    if point < 0.22:
        text = _bare_result(rng)
        return _Result(text, f"The result is {text}.")
    content = _result_object(rng, offer)
    if chance(rng, 0.1):
        return _list_result(rng)
    if chance(rng, 0.15):
        content = {"result": choose(rng, [between(rng, 0, 9999), word(rng)])}
    pairs = [f"{key} is {value}" for key, value in content.items()]
    return _Result(dumped(content), f"The {_joined_with_the(pairs)}.")


def _bare_result(rng: Random) -> str:
    drawn = [number(rng), word(rng), short_text(rng), f"{between(rng, 0, 40)} degrees and {word(rng)}"]
    return choose(rng, [*drawn, "done", "ok"])


def _result_object(rng: Random, offer: Offer) -> dict[str, Any]:
    if isinstance(offer, NaturalOffer) and chance(rng, 0.6):
        return {key: draw(rng) for key, draw in offer.tool.result.items()}
    return {key: _any_result_value(rng) for key in distinct(rng, _any_result_key, between(rng, 1, 3))}


def _any_result_key(rng: Random) -> str:
    return choose(rng, PARAMETERS + _TOOLS["more_result_keys"]) if chance(rng, 0.8) else pseudo_word(rng)


def _any_result_value(rng: Random) -> Any:
    if chance(rng, 0.45):
        return amount(rng)
    return round(rng.random() * 100, 1) if chance(rng, 0.2) else word(rng)


def _list_result(rng: Random) -> _Result:
    key = choose(rng, PARAMETERS) + "s"
    items = [word(rng) + choose(rng, ["", ".txt", ".py"]) for _ in range(between(rng, 2, 5))]
    return _Result(json.dumps({key: items}), f"The {key} are {joined_with_and(items)}.")


def _joined_with_the(pairs: Sequence[str]) -> str:
    return pairs[0] if len(pairs) == 1 else ", the ".join(pairs[:-1]) + " and the " + pairs[-1]
