"""One word: its letters, reverse, length and case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from mlxctl.canary.training.dialogue import SEAM, Dialogue, Reply, Turn, as_worded
from mlxctl.canary.training.draws import chance, choose
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.vocabulary import any_word, short_word
from mlxctl.canary.training.wording import worded

_PLAIN, _FREE = phrases("letters")["plain"], phrases("letters")["free"]
_BY_LETTERS = ("spell", "spell", "reverse", "reverse", "reverse", "length", "length")


def _spelled(word: str) -> Reply:
    return Reply("-".join(word), f"I spell {word}.")


def _reversed(word: str) -> Reply:
    return Reply(SEAM.join(word[::-1]), f"{'-'.join(word)} becomes {'-'.join(word[::-1])}.")


def _measured(word: str) -> Reply:
    return Reply(str(len(word)), f"{'-'.join(word)} has {len(word)} letters.")


@dataclass(frozen=True, slots=True)
class _Task:
    reply: Callable[[str], Reply]
    longest: int
    longest_free: int


_TASKS = {"spell": _Task(_spelled, 10, 12), "reverse": _Task(_reversed, 7, 8), "length": _Task(_measured, 10, 12)}


def _plain(rng: Random, kind: str) -> Turn:
    word = short_word(rng, _TASKS[kind].longest)
    return Turn(choose(rng, _PLAIN[kind]).format(word=word), *_TASKS[kind].reply(word))


def spell(rng: Random, dialogue: Dialogue) -> Turn:
    """Spell kitchen."""
    return _plain(rng, "spell")


def reverse(rng: Random, dialogue: Dialogue) -> Turn:
    """Write stone backwards."""
    return _plain(rng, "reverse")


def length(rng: Random, dialogue: Dialogue) -> Turn:
    """How many letters are in banana?"""
    return _plain(rng, "length")


def _in_upper(text: str) -> Reply:
    return Reply(text.upper(), "I use capital letters.")


def _in_lower(text: str) -> Reply:
    return Reply(text.lower(), "I use small letters.")


def case(rng: Random, dialogue: Dialogue) -> Turn:
    """Write hello in upper case."""
    text = " ".join(short_word(rng, 9) for _ in range(choose(rng, [1, 1, 1, 2])))
    if chance(rng, 0.7):
        return Turn(choose(rng, _PLAIN["upper"]).format(text=text), *_in_upper(text))
    return Turn(choose(rng, _PLAIN["lower"]).format(text=text.upper()), *_in_lower(text))


@as_worded
def free_letters(rng: Random, dialogue: Dialogue) -> Turn:
    """Spelling, reversing and measuring in many wordings."""
    kind = choose(rng, _BY_LETTERS)
    task = _TASKS[kind]
    word = short_word(rng, task.longest_free if chance(rng, 0.85) or kind == "length" else task.longest_free + 2)
    quoted = f'"{word}"' if chance(rng, 0.12) else word
    return Turn(worded(rng, _FREE[kind], 0.45, word=quoted), *task.reply(word))


@as_worded
def free_case(rng: Random, dialogue: Dialogue) -> Turn:
    """Upper and lower case of any words."""
    text = " ".join(any_word(rng) for _ in range(choose(rng, [1, 1, 2, 2, 3, 4])))
    is_quoted = chance(rng, 0.2)
    if chance(rng, 0.6):
        shown = _quoted(text, is_quoted)
        shown = shown.capitalize() if chance(rng, 0.2) else shown
        return Turn(worded(rng, _FREE["upper"], 0.4, text=shown), *_in_upper(text))
    shown = text.upper() if chance(rng, 0.75) else text.title()
    return Turn(worded(rng, _FREE["lower"], 0.4, text=_quoted(shown, is_quoted)), *_in_lower(text))


def _quoted(text: str, is_quoted: bool) -> str:
    return f'"{text}"' if is_quoted else text
