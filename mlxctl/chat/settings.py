"""What a user can set about answers, by flag or by `/set`, and the request fields it becomes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from mlxctl.chat.nearest import nearest
from mlxctl.errors import UsageError


@dataclass(frozen=True, slots=True)
class Settings:
    """None leaves a value to the server. `think` is off at first, so that answers come at once."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    think: bool | None = False

    def request_fields(self) -> dict[str, Any]:
        """The fields of a chat completion request that these settings ask for; what is None is not sent."""
        values: dict[str, Any] = {
            name: value for name, value in self.as_dict().items() if value is not None and name != "think"
        }
        if self.think is not None:
            values["chat_template_kwargs"] = {"enable_thinking": self.think}
        return values

    def as_dict(self) -> dict[str, float | int | bool | None]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def with_value(self, name: str, text: str) -> Settings:
        """These settings with `name` read from `text`; "default" leaves it to server and model. Raises UsageError."""
        parse = _PARSERS.get(name)
        if parse is None:
            near = nearest(name, _PARSERS)
            hint = f"did you mean {' or '.join(near)}?" if near else f"settings: {', '.join(_PARSERS)}"
            raise UsageError(f"no setting is called {name!r}", hint=hint)
        value = None if text == "default" else parse(name, text)
        changes: Mapping[str, Any] = {name: value}
        return replace(self, **changes)


def _number(low: float, high: float) -> Callable[[str, str], float]:
    def parse(name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise UsageError(f"{name} must be a number from {low:g} to {high:g}, not {text!r}")
        return value

    return parse


def _integer(low: int) -> Callable[[str, str], int]:
    def parse(name: str, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise UsageError(f"{name} must be a whole number from {low} up, not {text!r}")
        return value

    return parse


def _switch(name: str, text: str) -> bool:
    if text not in ("on", "off"):
        raise UsageError(f"{name} must be on, off or default (as the model's chat template has it), not {text!r}")
    return text == "on"


_PARSERS: Mapping[str, Callable[[str, str], float | int | bool]] = {
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "top_k": _integer(0),
    "min_p": _number(0, 1),
    "seed": _integer(0),
    "max_tokens": _integer(1),
    "think": _switch,
}


def show(value: float | int | bool | None) -> str:
    """A setting's value as `/set` takes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "default" if value is None else str(value)
