"""A mistake in a request in plain words, where pydantic has words of its own. Pure; called by api.errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import ErrorDetails

MAX_SHOWN_CHARS: Final = 40
_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (bool, "true or false"),
    (str, "a string"),
    ((int, float), "a number"),
    (list, "an array"),
    (dict, "an object"),
)
_EXPECTED: Final[Mapping[str, str]] = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "none_required": "null",
}
# Fields that take text or a list.
_TEXT_OR_LIST: Final[Mapping[str, str]] = {"content": "text parts", "stop": "strings"}
_BOUNDS: Final[Mapping[str, str]] = {
    "greater_than": "gt",
    "greater_than_equal": "ge",
    "less_than": "lt",
    "less_than_equal": "le",
}
_BOUND_WORDS: Final[Mapping[str, str]] = {
    "greater_than": "above",
    "greater_than_equal": "at least",
    "less_than": "below",
    "less_than_equal": "at most",
}


def plain(mistake: ErrorDetails) -> str:
    """What is wrong with the value, without its field: "must be at most 2, not 3"."""
    kind, value, context = mistake["type"], mistake["input"], mistake.get("ctx", {})
    if kind in _EXPECTED:
        return f"{_expected(mistake)} is expected, not {_what(value, kind)}"
    if kind in _BOUNDS:
        bound = context[_BOUNDS[kind]]
        limit = f"{bound:g}" if isinstance(bound, float) else str(bound)
        return _only_one(mistake) or f"must be {_BOUND_WORDS[kind]} {limit}, not {_shown(value)}"
    if kind in ("literal_error", "union_tag_invalid"):
        return _choice(str(context.get("expected") or context.get("expected_tags")), context.get("tag", value))
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "too_long":
        most = context["max_length"]
        return f"must not have more than {most} items" if most else "must be empty"
    if kind == "string_too_long":
        return f"must be at most {context['max_length']} characters long"
    if kind == "string_pattern_mismatch":
        return f"{_shown(value)} is no token id"
    return mistake["msg"].removeprefix("Value error, ")


def _expected(mistake: ErrorDetails) -> str:
    items = _TEXT_OR_LIST.get(str(mistake["loc"][-1])) if mistake["loc"] else None
    if items and mistake["type"] == "list_type":
        return f"a string or an array of {items}"
    return _EXPECTED[mistake["type"]]


def _only_one(mistake: ErrorDetails) -> str | None:
    """`n` is the field whose bounds leave one value."""
    if mistake["loc"] == ("n",):
        return f"only 1 answer a request is supported, not {_shown(mistake['input'])}"
    return None


def _choice(expected: str, value: object) -> str:
    choices = expected.replace(" or ", ", ").split(", ")
    if len(choices) == 1:
        return f"only {choices[0]} is supported, not {_shown(value)}"
    return f"must be {', '.join(choices[:-1])} or {choices[-1]}, not {_shown(value)}"


def _what(value: object, kind: str) -> str:
    """The value's kind; the value itself where its kind is right."""
    if value is None:
        return "null"
    if kind in ("int_from_float", "finite_number") or (kind == "int_type" and isinstance(value, float)):
        return _shown(value)
    return next((words for types, words in _KINDS if isinstance(value, types)), "this")


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= MAX_SHOWN_CHARS else f"{value[:MAX_SHOWN_CHARS]}…")
    text = json.dumps(value, default=str)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
