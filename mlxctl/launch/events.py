"""What `up` shows while a cluster comes up: one JSON line per event, from the coordinator's stdout to the launcher."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlxctl import errors
from mlxctl.errors import LaunchError, MlxctlError

State = Literal["running", "done", "failed"]


@dataclass(frozen=True, slots=True)
class PhaseEvent:
    """Phase `title` (on `node`, or as a whole) is in `state`; `detail` says how far or why."""

    title: str
    state: State
    node: str | None = None
    detail: str = ""
    share: float | None = None

    @property
    def line(self) -> str:
        """As it stands in the coordinator's log."""
        place = f" on {self.node}" if self.node else ""
        return f"{self.title}{place}: {self.state}{f', {self.detail}' if self.detail else ''}"


@dataclass(frozen=True, slots=True)
class ReadyEvent:
    """The cluster serves: its `/status` document, and how long it took."""

    status: dict[str, Any]
    took_s: float


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """The cluster could not come up and nothing of it is left; `log_lines` are the failing node's last."""

    error: str
    message: str
    hint: str | None
    node: str | None
    stage: int | None
    log_lines: Sequence[str] = ()

    @classmethod
    def of(cls, error: MlxctlError, log_lines: Sequence[str] = ()) -> FailedEvent:
        return cls(type(error).__name__, error.message, error.hint, error.node, error.stage, list(log_lines))

    def to_error(self) -> MlxctlError:
        """The error as the coordinator raised it, or the nearest kind that its fields fit."""
        kind = getattr(errors, self.error, LaunchError)
        try:
            error = kind(self.message, hint=self.hint)
        except TypeError:  # a kind with fields of its own
            error = LaunchError(self.message, hint=self.hint)
        error.node, error.stage, error.log_lines = self.node, self.stage, tuple(self.log_lines)
        assert isinstance(error, MlxctlError)
        return error


Event = PhaseEvent | ReadyEvent | FailedEvent
Report = Callable[[PhaseEvent], None]

_KINDS: dict[str, type[Event]] = {"phase": PhaseEvent, "ready": ReadyEvent, "failed": FailedEvent}


def encode(event: Event) -> str:
    """One line, newline included."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(event, cls))
    return json.dumps({"event": kind, **asdict(event)}) + "\n"


def decode(line: str) -> Event | None:
    """The event in `line`; None if the line is not one of ours (a library's print, say)."""
    try:
        fields = json.loads(line)
        return _KINDS[fields.pop("event")](**fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
