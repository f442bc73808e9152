"""Pydantic's errors → what to do about them, in our words. Pure. Called by profile.load."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic_core import ErrorDetails

from mlxctl.profile.document import Location, quoted
from mlxctl.profile.model import Api, Node, Part, Placement, Profile
from mlxctl.profile.values import MAX_NODES, shown

PLANNED_KEYS = frozenset({"min_nodes", "recovery", "spares", "deterministic", "parallel", "models", "upstreams"})
EXAMPLES = {
    "name": "name: my-macs",
    "nodes": "nodes: [{name: worker-1, host: localhost}]",
    "allowed_hosts": "allowed_hosts: [llm.example.org]",
    "cors_origins": "cors_origins: [http://localhost:3000]",
    "host": "host: localhost, or the name or address of a machine",
}

Explanation = tuple[str, str | None]


def explain(error: ErrorDetails, text: str | None) -> Explanation:
    """Message and suggestion for one of pydantic's errors; `text` is the scalar as written where it had no quotes."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    location: Location = error["loc"]
    if "message" in context:
        return context["message"], context["suggestion"]
    if kind == "missing":
        return "is missing", _example(location)
    if kind == "extra_forbidden":
        return _unknown_key(location)
    if value is None:
        return "has no value", _example(location) or "write one, or remove the key"
    if kind in ("string_type", "path_type"):
        return _not_text(value, text)
    if kind == "int_type":
        return _not_a_number(value, text)
    return _out_of_bounds(kind, value, context, location)


def _example(location: Location) -> str | None:
    example = EXAMPLES.get(str(location[-1]))
    return f"such as {example}" if example else None


def _not_text(value: object, text: str | None) -> Explanation:
    if text is None or isinstance(value, dict | list | tuple):
        return f"must be text, not {shown(value)}", None
    reading = str(value).lower() if isinstance(value, bool) else "a number"
    return f"must be text, but {text[:40]} reads as {reading} in YAML", quoted(text)


def _not_a_number(value: object, text: str | None) -> Explanation:
    if not isinstance(value, str):
        return f"must be a whole number, not {shown(value) if text is None else text[:40]}", None
    if text is None and value.isdecimal():
        return f"must be a whole number, not the text {shown(value)}", f"without quotes: {value[:20]}"
    return f"must be a whole number, not {shown(value)}", "digits only, not beginning with 0"


def _out_of_bounds(kind: str, value: Any, context: Mapping[str, Any], location: Location) -> Explanation:
    match kind:
        case "greater_than_equal":
            return f"must be at least {context['ge']}, not {value}", None
        case "less_than_equal":
            return f"must be at most {context['le']}, not {value}", None
        case "literal_error":
            return f"must be {context['expected']}, not {shown(value)}", _near(value, ("throughput", "latency"))
        case "too_short":
            return "must list at least one node", f"such as {EXAMPLES['nodes']}"
        case "too_long":
            return f"lists {context['actual_length']} nodes, more than {MAX_NODES}", None
        case "string_too_long":
            return f"is longer than {context['max_length']} characters", None
        case "tuple_type":
            return f"must be a list, not {shown(value)}", _example(location)
        case _:
            return f"must be a mapping (`key: value`), not {shown(value)}", None


def _unknown_key(location: Location) -> Explanation:
    key = str(location[-1])
    if key in PLANNED_KEYS:
        return "is planned, but not yet supported", "remove it for now"
    known = _known_keys(location[:-1])
    return "is not a key here", _home_of(key) or _near(key, known) or f"known here: {' '.join(known)}"


def _home_of(key: str) -> str | None:
    sections: tuple[tuple[str, type[Part]], ...] = (("api", Api), ("a node in nodes", Node), ("placement", Placement))
    if key in _keys(Profile):
        return "it belongs to the top of the profile, without indentation"
    homes = [section for section, part in sections if key in _keys(part)]
    return f"it belongs to {' or '.join(homes)}" if homes else None


def _known_keys(section: Location) -> tuple[str, ...]:
    parts: dict[Location, type[Part]] = {(): Profile, ("api",): Api, ("placement",): Placement}
    return _keys(parts.get(section, Node))


def _keys(part: type[Part]) -> tuple[str, ...]:
    return tuple(field.serialization_alias or name for name, field in part.model_fields.items())


def _near(word: object, words: tuple[str, ...]) -> str | None:
    near = difflib.get_close_matches(str(word).casefold(), words, 1)
    return f"did you mean {near[0]}?" if near else None
