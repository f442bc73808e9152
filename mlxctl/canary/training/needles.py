"""Needles: one or more facts hidden in a text, then asked for. Called by mixes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from mlxctl.canary.training.dialogue import Dialogue, Reply, Skill, Turn
from mlxctl.canary.training.draws import Draw, between, chance, choose
from mlxctl.canary.training.free_text import code_token, free_sentence
from mlxctl.canary.training.phrases import phrases, words
from mlxctl.canary.training.skills import letters
from mlxctl.canary.training.skills.knowledge import facts, unknown
from mlxctl.canary.training.skills.lists import position
from mlxctl.canary.training.skills.memory import ask, tell
from mlxctl.canary.training.skills.numbers import compare
from mlxctl.canary.training.skills.small_talk import greet, identity, statement
from mlxctl.canary.training.skills.sums import add_or_subtract, multiply
from mlxctl.canary.training.vocabulary import (
    any_word,
    blended_word,
    english_word,
    foreign_word,
    number,
    secret_kind,
    secret_name,
    secret_value,
    sentence,
    word,
)

_NEEDLES, _SENTENCES = phrases("needles"), phrases("sentences")
_FREE_DRAWS: list[Draw[str] | None] = [
    None, None, None, english_word, english_word, blended_word, foreign_word, foreign_word, code_token,
]  # fmt: skip


def _filler(rng: Random, length: int) -> tuple[list[str], str]:
    """Sentences of about `length` characters together, and what stands between them."""
    point = rng.random()
    if chance(rng, 0.55):
        return _free_filler(rng, length), choose(rng, [" ", " ", " ", " ", "\n", "  ", "\n\n"])
    lines = _plain_filler(rng, point, length)
    return lines, "\n" if 0.78 < point < 0.86 or chance(rng, 0.1) else " "


def _free_filler(rng: Random, length: int) -> list[str]:
    """Any vocabulary; often a few sentences over and over."""
    draw = choose(rng, _FREE_DRAWS)
    if draw is code_token and chance(rng, 0.6):
        draw = any_word
    if chance(rng, 0.6):
        block = [free_sentence(rng, draw) for _ in range(between(rng, 1, 6))]
        return block * max(1, length // (sum(map(len, block)) + len(block)))
    lines, written = list[str](), 0
    while written < length * 0.8:
        lines.append(free_sentence(rng, draw))
        written += len(lines[-1]) + 1
    return lines


def _plain_filler(rng: Random, point: float, length: int) -> list[str]:
    if point < 0.55:
        return [sentence(rng) for _ in range(max(1, length // 42))]
    if point < 0.7:
        block = [sentence(rng) for _ in range(between(rng, 1, 8))]
        return block * max(1, length // sum(map(len, block)))
    if point < 0.78:
        return list(_SENTENCES["simple"]) * max(1, length // 90)
    if point < 0.86:
        return [f"Line {row}: {word(rng)} {word(rng)} {number(rng)}" for row in range(max(1, length // 26))]
    if point < 0.93:
        return [_word_salad(rng) for _ in range(max(1, length // 50))]
    return [f"{choose(rng, _SENTENCES['filler'])}." for _ in range(max(1, length // 22))]


def _word_salad(rng: Random) -> str:
    return " ".join(word(rng) for _ in range(between(rng, 4, 12))) + "."


ASIDES: list[Skill] = [
    greet, identity, tell, ask, letters.length, statement, add_or_subtract, letters.spell, compare, facts, unknown,
    position, multiply,
]  # fmt: skip
"""What may be said between a text and the question."""


@dataclass(frozen=True, slots=True)
class _Needle:
    lines: list[str]
    question: Turn


def _secrets(rng: Random) -> dict[str, str]:
    count = 1 if chance(rng, 0.6) else between(rng, 2, 4)
    secrets: dict[str, str] = {}
    while len(secrets) < count:
        secret = secret_name(rng)
        secrets[secret] = secret_value(rng, secret)
    return secrets


def _hide(rng: Random, lines: Sequence[str], secrets: dict[str, str]) -> list[str]:
    hidden = list(lines)
    for secret, value in secrets.items():
        template = choose(rng, _NEEDLES["fact"])
        if template == "The {key} is a {value}." and not (value.isalpha() and value.islower()):
            template = "The {key} is {value}."
        at = between(rng, 0, len(hidden))
        hidden.insert(at, template.format(key=secret, Key=secret.capitalize(), value=value))
    return hidden


def _needle(rng: Random, lines: list[str]) -> _Needle:
    secrets = _secrets(rng)
    lines = _hide(rng, lines, secrets)
    is_the_users = len(secrets) == 1 and chance(rng, 0.12)
    secret = choose(rng, list(secrets))
    request = choose(rng, _NEEDLES["ask"]).format(key=secret)
    if is_the_users:
        return _of_the_user(lines, request, secret, secrets[secret])
    if chance(rng, 0.16):
        return _alike(rng, lines, secrets, secret)
    if chance(rng, 0.12) and request[-1] in ".?":
        only = choose(rng, _NEEDLES["only_the_value"]).format(word=secret.split()[-1])
        return _Needle(lines, Turn(request + only, secrets[secret], _found(secret, secrets[secret]).thought))
    return _Needle(lines, Turn(request, *_found(secret, secrets[secret])))


def _found(secret: str, value: str) -> Reply:
    return Reply(f"The {secret} is {value}.", f"The text says: the {secret} is {value}.")


def _of_the_user(lines: list[str], request: str, secret: str, value: str) -> _Needle:
    """The same of "my …"."""
    lines = [line.replace(f"the {secret}", f"my {secret}").replace(f"The {secret}", f"My {secret}") for line in lines]
    if f"the {secret}" in request:
        request = request.replace(f"the {secret}", f"my {secret}").replace(f"Which {secret}", f"Which is my {secret}")
    else:
        request = f"What is my {secret}?"
    return _Needle(lines, Turn(request, f"Your {secret} is {value}.", _found(secret, value).thought))


def _alike(rng: Random, lines: list[str], secrets: dict[str, str], secret: str) -> _Needle:
    """Something like `secret` is asked for, which the text does not say as a rule."""
    last = secret.split()[-1]
    names: list[Draw[str]] = [
        lambda rng: "secret word",
        lambda rng: f"{choose(rng, words('secret_adjectives'))} {last}",
        lambda rng: f"{secret.split()[0]} {secret_kind(rng)}",
        secret_name,
        secret_name,
    ]
    asked = choose(rng, names)(rng)
    is_told = asked in secrets
    if is_told:
        question = Turn(f"What is the {asked}?", *_found(asked, secrets[asked]))
    else:
        request = choose(rng, _NEEDLES["ask_absent"]).format(key=asked)
        question = Turn(request, f"I do not know the {asked}.", f"The text does not say the {asked}.")
    if chance(rng, 0.4) and not is_told:
        lines = [line for line in lines if not any(_names(line, told) for told in secrets)]
    return _Needle(lines, question)


def _names(line: str, secret: str) -> bool:
    return f" {secret} " in line or line.lower().startswith((secret, f"the {secret}"))


def add_needle(rng: Random, dialogue: Dialogue, length: int) -> None:
    """Appends a text of about `length` characters with facts in it and a question, in one message or apart."""
    lines, separator = _filler(rng, length)
    needle = _needle(rng, lines)
    text, question = separator.join(needle.lines), needle.question
    point = rng.random()
    if point < 0.6:
        before = choose(rng, _NEEDLES["text_first"])
        joint = choose(rng, ["\n\n", "\n", " ", "\n\n"])
        dialogue.add(question._replace(user=f"{before}{text}{joint}{question.user}"))
    elif point < 0.72:
        joint = choose(rng, ["\n\n", "\n", " "])
        again = f"\n\n{question.user}" if chance(rng, 0.5) else ""
        dialogue.add(question._replace(user=f"{question.user}{joint}{text}{again}"))
    elif point < 0.8:
        dialogue.system = choose(rng, _NEEDLES["text_in_system"]) + text
        dialogue.add(question)
    else:
        dialogue.add(Turn(choose(rng, _NEEDLES["text_alone"]) + text, "I have read it.", "I read the text."))
        for _ in range(between(rng, 0, 3)):
            dialogue.turn(choose(rng, ASIDES))
        dialogue.add(question)
