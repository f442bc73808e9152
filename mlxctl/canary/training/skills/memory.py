"""What the user tells of himself, secrets, and what was said before: told, asked, never told, repeated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from mlxctl.canary.training.dialogue import SEAM, Dialogue, Reply, Turn
from mlxctl.canary.training.draws import Draw, between, chance, choose
from mlxctl.canary.training.phrases import phrases, words
from mlxctl.canary.training.skills.small_talk import greet
from mlxctl.canary.training.vocabulary import (
    ANIMALS,
    COLOURS,
    FOODS,
    JOBS,
    city,
    listed_or_pseudo,
    name,
    number,
    secret_name,
    secret_value,
    word,
)
from mlxctl.canary.training.wording import lower_first, worded

_MEMORY = phrases("memory")
_TELL, _SECRET, _RECALL = _MEMORY["tell"], _MEMORY["secret"], _MEMORY["recall"]


@dataclass(frozen=True, slots=True)
class Fact:
    """A kind of fact about the user: how its value is drawn, told and asked for, what answers call it."""

    draw: Draw[str]
    tell: tuple[str, ...]
    ask: tuple[str, ...]
    called: str


_DRAWS: dict[str, Draw[str]] = {
    "name": name,
    "city": city,
    "number": number,
    "code word": word,
    "age": lambda rng: str(between(rng, 5, 99)),
    "job": listed_or_pseudo(JOBS),
    "dog": name,
    "cat": name,
}
_FAVOURITES = {"colour": COLOURS, "animal": ANIMALS, "food": FOODS, "fruit": FOODS, "sport": words("sports")}


def _favourite_forms(thing: str, kind: str) -> Iterator[str]:
    for wordings in (_MEMORY["favourites"]["plain"], _MEMORY["favourites"]["free"]):
        for spelling in (thing, "color") if thing == "colour" else (thing,):
            yield from (form.replace("{key}", spelling) for form in wordings[kind])


def _facts() -> Iterator[tuple[str, Fact]]:
    for key, forms in _MEMORY["facts"].items():
        yield key, Fact(_DRAWS[key], tuple(forms["tell"]), tuple(forms["ask"]), forms["called"])
    for thing, values in _FAVOURITES.items():
        tell, ask = (tuple(_favourite_forms(thing, kind)) for kind in ("tell", "ask"))
        yield thing, Fact(listed_or_pseudo(values), tell, ask, f"favourite {thing}")


FACTS = dict(_facts())
_WEIGHTED = [key for key, weight in _MEMORY["weights"].items() for _ in range(weight)]


def told(key: str, value: str) -> Reply:
    """The reply to a fact about the user."""
    called = FACTS[key].called
    answer = f"Nice to meet you, {value}!" if key == "name" else f"Got it: your {called} is {value}."
    return Reply(answer, f"The user tells me the {called} {value}.")


def tell_another(rng: Random, dialogue: Dialogue, key: str) -> tuple[str, str]:
    """A second fact in one of its first three wordings, stored: (wording, value)."""
    value = dialogue.facts[key] = FACTS[key].draw(rng)
    return choose(rng, FACTS[key].tell[:3]).format(value=value), value


def tell(rng: Random, dialogue: Dialogue) -> Turn:
    """One or two facts about the user."""
    key = choose(rng, _WEIGHTED)
    value = FACTS[key].draw(rng)
    if key in ("name", "city") and chance(rng, 0.06):
        value = value.lower()
    dialogue.facts[key] = value
    request = worded(rng, FACTS[key].tell, 0.2, value=value)
    first = told(key, value)
    if chance(rng, 0.25):
        return _with_a_second_fact(rng, dialogue, key, Turn(request, *first))
    return Turn(_told_at_length(rng, key, request), *first)


def _with_a_second_fact(rng: Random, dialogue: Dialogue, key: str, first: Turn) -> Turn:
    other = choose(rng, _WEIGHTED)
    if other == key:
        return first
    form, value = tell_another(rng, dialogue, other)
    if chance(rng, 0.5) and first.user[-1] == ".":
        request = f"{first.user[:-1]} and {form if form[0] == 'I' else lower_first(form)}"
    else:
        request = f"{first.user} {form}"
    thought = f"{first.thought} And the {FACTS[other].called} {value}."
    return Turn(request, f"{first.answer} {told(other, value).answer}", thought)


def _told_at_length(rng: Random, key: str, request: str) -> str:
    if chance(rng, 0.12) and request[-1] == ".":
        return request + str(choose(rng, _TELL["remember"]))
    if key == "name" and chance(rng, 0.25) and request.startswith(("My", "I")):
        greeting = choose(rng, _TELL["greeting"])
        return str(greeting) + (request if request[0] == "I" or chance(rng, 0.5) else "m" + request[1:])
    if chance(rng, 0.1) and request[-1] == ".":
        return str(choose(rng, _TELL["aside"])) + (request if request[0] == "I" else lower_first(request))
    return request


def ask(rng: Random, dialogue: Dialogue, key: str | None = None) -> Turn:
    """Asks for a fact about the user: mostly one that was told, or `key`."""
    if key is None:
        known = list(dialogue.facts)
        key = choose(rng, known) if known and chance(rng, 0.93) else choose(rng, _WEIGHTED)
    request, called = worded(rng, FACTS[key].ask, 0.2), FACTS[key].called
    if chance(rng, 0.06):
        request = "Please tell me: " + lower_first(request)
    if key not in dialogue.facts:
        return Turn(request, f"I do not know your {called}.", f"The user did not tell me the {called}.")
    value = dialogue.facts[key]
    thought = f"The user told me the {called} {value}."
    if chance(rng, 0.1) and request[-1] in ".?":
        brevity = "Be very short." if " " in value else "Answer in one word."
        only = choose(rng, _MEMORY["only_the_value"]).format(word=called.split()[-1], brevity=brevity)
        return Turn(request + only, value, thought)
    return Turn(request, f"Your {called} is {value}.", thought)


def ask_name(rng: Random, dialogue: Dialogue) -> Turn:
    """Asks for the user's name, told or not."""
    return ask(rng, dialogue, "name")


def ask_told(rng: Random, dialogue: Dialogue) -> Turn:
    """Asks for a fact that was told."""
    return ask(rng, dialogue, choose(rng, list(dialogue.facts)))


def ask_untold(rng: Random, dialogue: Dialogue) -> Turn:
    """Asks for what nobody told."""
    if chance(rng, 0.25):
        secret = secret_name(rng)
        if secret not in dialogue.secrets:
            request = choose(rng, _SECRET["ask_untold"]).format(key=secret)
            return Turn(request, f"I do not know the {secret}.", f"The user did not tell me the {secret}.")
    untold = [key for key in _WEIGHTED if key not in dialogue.facts]
    return ask(rng, dialogue, choose(rng, untold))


def tell_secret(rng: Random, dialogue: Dialogue) -> Turn:
    """A fact with a free name ("the blue lamp code"), asked later."""
    secret = secret_name(rng)
    value = dialogue.secrets[secret] = secret_value(rng, secret)
    request = choose(rng, _SECRET["tell"]).format(key=secret, value=value)
    return Turn(request, f"Got it: the {secret} is {value}.", f"The user tells me the {secret} {value}.")


def ask_secret(rng: Random, dialogue: Dialogue) -> Turn:
    """Asks for a secret that was told; tells one where there is none."""
    if not dialogue.secrets:
        return tell_secret(rng, dialogue)
    secret = choose(rng, list(dialogue.secrets))
    value, request = dialogue.secrets[secret], choose(rng, _SECRET["ask"]).format(key=secret)
    thought = f"The user told me the {secret} {value}."
    if chance(rng, 0.15) and request[-1] in ".?":
        only = choose(rng, _MEMORY["only_the_secret"]).format(word=secret.split()[-1])
        return Turn(request + only, value, thought)
    return Turn(request, f"The {secret} is {value}.", thought)


def recall(rng: Random, dialogue: Dialogue) -> Turn:
    """Repeats the last answer, or the user's first or last message; greets where there is none to repeat."""
    said = [message.content for message in dialogue.messages if message.role == "user"]
    answer = dialogue.messages[-1].content if dialogue.messages else ""
    if not said or not answer or max(len(said[0]), len(said[-1]), len(answer)) > 140 or dialogue.style:
        return greet(rng, dialogue)
    point = rng.random()
    if point < 0.4:
        return Turn(choose(rng, _RECALL["answer"]), answer.replace(SEAM, ""), "I repeat my last answer.")
    if point < 0.7:
        return Turn(choose(rng, _RECALL["last"]), said[-1], "I repeat the last user message.")
    return Turn(choose(rng, _RECALL["first"]), said[0], "I repeat the first user message.")
