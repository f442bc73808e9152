"""Greetings, thanks, questions about the model, remarks."""

from __future__ import annotations

from random import Random

from mlxctl.canary.training.dialogue import Dialogue, Turn, as_worded
from mlxctl.canary.training.draws import band, chance, choose
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.vocabulary import fill
from mlxctl.canary.training.wording import casual, worded

_TALK = phrases("small_talk")
_PLAIN, _FREE, _ANSWERS = _TALK["plain"], _TALK["free"], _TALK["answers"]
_PLAIN_GREETINGS = [(0.62, "hello"), (0.74, "how_are_you"), (0.88, "thanks")]
_FREE_TALK = [
    (0.20, "hello"), (0.28, "how_are_you"), (0.39, "thanks"), (0.49, "goodbye"), (0.70, "who"),
    (0.84, "skills"), (0.88, "praise"), (0.92, "blame"), (0.93, "ping"),
]  # fmt: skip
_NOISE = {"praise": 0.2, "blame": 0.2}


def greet(rng: Random, dialogue: Dialogue) -> Turn:
    """Hello, how are you, thanks, goodbye."""
    subject = band(rng.random(), _PLAIN_GREETINGS, "goodbye")
    return _turn(choose(rng, _PLAIN[subject]), subject, dialogue)


def identity(rng: Random, dialogue: Dialogue) -> Turn:
    """Who are you, what can you do."""
    if not chance(rng, 0.75):
        return _turn(choose(rng, _PLAIN["skills"]), "skills", dialogue)
    request = choose(rng, _PLAIN["who"])
    if request == "Who made you?" and dialogue.persona:
        request = "Who are you?"
    return _turn(request, "who", dialogue)


def statement(rng: Random, dialogue: Dialogue) -> Turn:
    """A remark that asks for nothing."""
    return _turn(fill(rng, choose(rng, _PLAIN["remark"])), "remark", dialogue)


@as_worded
def free_small_talk(rng: Random, dialogue: Dialogue) -> Turn:
    """All of small talk in free wordings."""
    subject = band(rng.random(), _FREE_TALK, "remark")
    if subject == "remark":
        request = fill(rng, choose(rng, _FREE["remark"]))
        return _turn(casual(rng, request) if chance(rng, 0.3) and "{" not in request else request, subject, dialogue)
    if subject == "ping":
        return _turn(choose(rng, _FREE["ping"]), subject, dialogue)
    request = worded(rng, _FREE[subject], _NOISE.get(subject, 0.3))
    if subject == "who" and dialogue.persona and any(word in request for word in _TALK["words_about_the_maker"]):
        request = worded(rng, _TALK["who_again"])
    return _turn(request, subject, dialogue)


def _turn(request: str, subject: str, dialogue: Dialogue) -> Turn:
    if subject == "who" and dialogue.persona:
        subject = "who_with_a_name"
    reply = _ANSWERS[subject]
    return Turn(request, reply["answer"].format(name=dialogue.persona or "Canary"), reply["thought"])
