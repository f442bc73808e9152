"""Repeating a text, exactly or several times."""

from __future__ import annotations

from random import Random

from mlxctl.canary.training.dialogue import Dialogue, Turn, as_worded
from mlxctl.canary.training.draws import between, chance, choose
from mlxctl.canary.training.free_text import any_text, code_token, unicode_text
from mlxctl.canary.training.phrases import phrases
from mlxctl.canary.training.vocabulary import LETTERS, NUMBER_WORDS, any_word, name, number, sentence, word
from mlxctl.canary.training.wording import casual, worded

_PLAIN, _FREE = phrases("copying")["plain"], phrases("copying")["free"]
_MARKS = "!?.,;:-_#@%&*+=/()<>$^~|'"
_CHARACTERS = LETTERS + LETTERS.upper() + "0123456789" + _MARKS + " "
_THOUGHT = "I repeat the text."


def _plain_text(rng: Random) -> str:
    point = rng.random()
    if point < 0.30:
        return " ".join(word(rng) for _ in range(between(rng, 1, 8)))
    if point < 0.42:
        return sentence(rng)
    if point < 0.52:
        return _numbers(rng)
    if point < 0.66:
        tokens = (
            word(rng) + choose(rng, _MARKS) + (" " if chance(rng, 0.5) else "") for _ in range(between(rng, 1, 4))
        )
        return "".join(tokens).strip()
    if point < 0.76:
        return " ".join(_recased_word(rng) for _ in range(between(rng, 1, 4)))
    if point < 0.88:
        return unicode_text(rng)
    return "".join(choose(rng, _CHARACTERS) for _ in range(between(rng, 2, 14))).strip() or "x"


def _numbers(rng: Random) -> str:
    shapes = [
        number(rng),
        "".join(choose(rng, "0123456789") for _ in range(between(rng, 4, 12))),
        f"{between(rng, 100, 999)}-{between(rng, 1000, 9999)}",
        f"{between(rng, 0, 99)}.{between(rng, 0, 999)}",
        " ".join(number(rng) for _ in range(between(rng, 2, 5))),
    ]
    return choose(rng, shapes)


def _recased_word(rng: Random) -> str:
    shapes = [
        word(rng).upper(),
        word(rng).capitalize(),
        word(rng) + word(rng).capitalize(),
        f"{word(rng)}_{word(rng)}",
        f"{name(rng)}!",
        word(rng) + number(rng),
    ]
    return choose(rng, shapes)


def _request(rng: Random, text: str) -> str:
    point = rng.random()
    if point < 0.5 or '"' in text:
        return str(choose(rng, _PLAIN["before"])) + text
    if point < 0.9:
        return str(choose(rng, _PLAIN["quoted"])).replace("{text}", text)
    return text + str(choose(rng, _PLAIN["after"]))


@as_worded
def repeat(rng: Random, dialogue: Dialogue) -> Turn:
    """Any text, with a plain request."""
    if chance(rng, 0.12):
        text = " ".join(word(rng) for _ in range(between(rng, 1, 2)))
        return Turn(choose(rng, _PLAIN["word"]).format(text=text), text, _THOUGHT)
    text = _plain_text(rng)
    return Turn(_request(rng, text), text, _THOUGHT)


@as_worded
def repeat_unicode(rng: Random, dialogue: Dialogue) -> Turn:
    """Text beyond ASCII."""
    text = unicode_text(rng)
    return Turn(_request(rng, text), text, _THOUGHT)


def repeat_times(rng: Random, dialogue: Dialogue) -> Turn:
    """One word several times."""
    text, count = word(rng), between(rng, 2, 6)
    counted = str(count) if chance(rng, 0.6) else NUMBER_WORDS[count]
    return _times(choose(rng, _PLAIN["times"]).format(text=text, count=counted), text, count)


def _times(request: str, text: str, count: int) -> Turn:
    return Turn(request, " ".join([text] * count), f"I write {text} {count} times.")


@as_worded
def free_copy(rng: Random, dialogue: Dialogue) -> Turn:
    """Any words, code, foreign text, in any request."""
    point = rng.random()
    if point < 0.12:
        return _copy_word(rng)
    text = any_text(rng)
    if point < 0.6:
        noisy = chance(rng, 0.25)
        before = choose(rng, _FREE["before"])
        return Turn((casual(rng, before) if noisy else before) + text, text, _THOUGHT)
    if '"' not in text and "'" not in text and point < 0.88:
        return Turn(worded(rng, _FREE["quoted"], 0.35, text=text), text, _THOUGHT)
    if "\n" in text or point < 0.94:
        return Turn(text + choose(rng, _FREE["after"]), text, _THOUGHT)
    return Turn(f"{choose(rng, _FREE['in_marks'])}`{text}`", text, _THOUGHT)


def _copy_word(rng: Random) -> Turn:
    shapes = [
        any_word(rng),
        any_word(rng),
        f"{any_word(rng)} {any_word(rng)}",
        code_token(rng),
        any_word(rng).capitalize(),
    ]
    text = choose(rng, shapes).strip(".:;,")
    return Turn(worded(rng, _FREE["word"], 0.4, text=text) if text else "Say x.", text or "x", _THOUGHT)


@as_worded
def free_repeat_times(rng: Random, dialogue: Dialogue) -> Turn:
    """One or two words several times, in any request."""
    text = any_word(rng) if chance(rng, 0.7) else any_word(rng) + " " + any_word(rng)
    count = between(rng, 2, 6)
    quoted = f'"{text}"' if chance(rng, 0.25) else text
    counted = count if chance(rng, 0.5) else NUMBER_WORDS[count]
    return _times(worded(rng, _FREE["times"], 0.4, text=quoted, count=counted), text, count)
