"""Text without templates: code-like tokens, word salads, Unicode. Called by copying and needles."""

from __future__ import annotations

import string
from collections.abc import Callable
from random import Random

from mlxctl.canary.training.draws import Draw, between, chance, choose
from mlxctl.canary.training.phrases import words
from mlxctl.canary.training.vocabulary import any_word, english_word, foreign_word, number, word

_ALPHANUMERIC = string.ascii_uppercase + string.ascii_lowercase + string.digits
_KEYWORDS = ["const", "let", "var", "int", "def", "return", "import", "print", "if"]
_DOMAINS = [".com", ".org", ".net", ".io"]
_FILE_ENDINGS = [".py", ".txt", ".json", ".md", ".cfg", ".log", ".tmp"]
_UNICODE_RANGES = [
    (0xC0, 0x17F), (0x391, 0x3C9), (0x410, 0x44F), (0x4E00, 0x9FA5), (0x3041, 0x3096),
    (0x1F600, 0x1F64F), (0x1F300, 0x1F5FF), (0xAC00, 0xD7A3), (0x2190, 0x21FF),
]  # fmt: skip

_CodeToken = Callable[[Random, str, str], str]
_CODE_TOKENS: list[tuple[float, _CodeToken]] = [
    (0.10, lambda rng, a, b: a + choose(rng, "_-./:=") + b),
    (0.18, lambda rng, a, b: a + b.capitalize() + choose(rng, ["", "()", ";", "[0]"])),
    (0.26, lambda rng, a, b: a.capitalize() + b.capitalize()),
    (0.36, lambda rng, a, b: a.upper() + choose(rng, ["", f"_{b.upper()}", f"-{number(rng)}", f"_{number(rng)}", "!"])),
    (0.46, lambda rng, a, b: "".join(choose(rng, _ALPHANUMERIC) for _ in range(between(rng, 3, 10)))),
    (0.52, lambda rng, a, b: f"{a}@{b}{choose(rng, _DOMAINS)}"),
    (0.58, lambda rng, a, b: choose(rng, ["https://", "http://", "/", "./", "~/"]) + a + _after_host(rng) + b),
    (0.64, lambda rng, a, b: a + choose(rng, _FILE_ENDINGS)),
    (0.70, lambda rng, a, b: _assignment(rng, a, b)),
    (0.75, lambda rng, a, b: f"{choose(rng, _KEYWORDS)} {a}{_statement_end(rng)}"),
    (0.81, lambda rng, a, b: choose(rng, "#$%&@!*") + a + choose(rng, ["", number(rng)])),
    (0.87, lambda rng, a, b: _dotted_numbers(rng)),
    (0.93, lambda rng, a, b: a + number(rng) + choose(rng, ["", "!", "?", b.capitalize()])),
    (0.96, lambda rng, a, b: choose(rng, ["(", "[", "<"]) + a + choose(rng, [")", "]", ">"])),
    (1.00, lambda rng, a, b: choose(rng, ["v", "id-", "x", "no. ", "#"]) + number(rng)),
]


def _after_host(rng: Random) -> str:
    return choose(rng, [".com/", "/", ".org/"])


def _assignment(rng: Random, left: str, right: str) -> str:
    sign = choose(rng, ["=", " = ", ": ", "==", " += "])
    return left + sign + choose(rng, [number(rng), right]) + choose(rng, ["", ";", ","])


def _statement_end(rng: Random) -> str:
    return choose(rng, [";", "()", f" = {number(rng)};", ":", ""])


def _dotted_numbers(rng: Random) -> str:
    first, dot = between(rng, 0, 99), choose(rng, ".:/-")
    return f"{first}{dot}{between(rng, 0, 99)}{choose(rng, '.:/-')}{between(rng, 0, 9999)}"


def code_token(rng: Random) -> str:
    """A token as in code, logs and addresses."""
    first, second = any_word(rng), any_word(rng)
    point = rng.random()
    return next(make for end, make in _CODE_TOKENS if point < end)(rng, first, second)


def free_sentence(rng: Random, draw: Draw[str] | None = None) -> str:
    """Words of any vocabulary (or of `draw`) in the shape of a sentence."""
    draw = draw or (any_word if chance(rng, 0.6) else english_word)
    tokens = [draw(rng) for _ in range(between(rng, 3, 16))]
    for position in range(len(tokens)):
        tokens[position] = _varied(rng, tokens[position], is_last=position == len(tokens) - 1)
    text = " ".join(tokens)
    text = text[0].upper() + text[1:] if chance(rng, 0.9) else text
    return text + choose(rng, [".", ".", ".", ".", "!", "?", "", "..."])


def _varied(rng: Random, token: str, *, is_last: bool) -> str:
    point = rng.random()
    if point < 0.05:
        return token.capitalize()
    if point < 0.08:
        return number(rng)
    if point < 0.09:
        return code_token(rng)
    return token + choose(rng, [",", ",", ",", ";", ":", " -"]) if point < 0.17 and not is_last else token


def unicode_text(rng: Random) -> str:
    """One to four words, most of them beyond ASCII."""
    return " ".join(_unicode_word(rng) for _ in range(between(rng, 1, 4)))


def _unicode_word(rng: Random) -> str:
    point = rng.random()
    if point < 0.4:
        return choose(rng, words("unicode_words"))
    if point >= 0.75:
        return word(rng)
    low, high = choose(rng, _UNICODE_RANGES)
    return "".join(chr(between(rng, low, high)) for _ in range(between(rng, 1, 4)))


def any_text(rng: Random) -> str:
    """Words of any vocabulary in any shape."""
    point = rng.random()
    if point < 0.3:
        return free_sentence(rng)
    if point < 0.45:
        return " ".join(any_word(rng) for _ in range(between(rng, 1, 10)))
    if point < 0.6:
        return "".join(_mixed_token(rng) for _ in range(between(rng, 1, 9))).strip()
    if point < 0.8:
        return " ".join(code_token(rng) for _ in range(between(rng, 1, 4)))
    if point < 0.88:
        foreign = " ".join(foreign_word(rng) for _ in range(between(rng, 2, 9)))
        return foreign.capitalize() + choose(rng, ["", ".", "!"])
    if point < 0.94:
        return "\n".join(choose(rng, _LINES)(rng) for _ in range(between(rng, 2, 4)))
    repeated = any_word(rng)
    return " ".join([repeated] * between(rng, 2, 3) + [any_word(rng) for _ in range(between(rng, 0, 3))])


_LINES: list[Draw[str]] = [free_sentence, code_token, lambda rng: any_word(rng).capitalize() + ","]


def _mixed_token(rng: Random) -> str:
    plain = [any_word(rng), any_word(rng), any_word(rng).capitalize(), any_word(rng).upper()]
    token = choose(rng, [*plain, number(rng), code_token(rng)])
    return token + choose(rng, [" ", " ", " ", ", ", ": ", "; ", " - ", "! ", "? ", ". "])
