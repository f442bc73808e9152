"""Events from the daemon to its launcher, as lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxctl.errors import DoesNotFit, LaunchError, StageLost
from mlxctl.launch.events import FailedEvent, PhaseEvent, ReadyEvent, decode, encode

pytestmark = pytest.mark.unit

EVENTS = [
    PhaseEvent("Load", "running", "w0", "1 of 4 layers", 0.25),
    PhaseEvent("Plan", "done"),
    ReadyEvent({"schema": "mlxctl.status/1"}, 3.2),
    FailedEvent.of(LaunchError("no", hint="try", node="w1", stage=1)),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_that_comes_back_as_it_was(event: PhaseEvent | ReadyEvent | FailedEvent) -> None:
    line = encode(event)
    assert line.endswith("\n") and line.count("\n") == 1
    assert decode(line) == event


def test_an_event_in_the_log_ends_with_what_it_has_to_say() -> None:
    lines = [event.line for event in EVENTS if isinstance(event, PhaseEvent)]
    assert lines == ["Load on w0: running, 1 of 4 layers", "Plan: done"]


@given(st.text())
def test_any_other_line_is_no_event(line: str) -> None:
    assert decode(line) is None


@pytest.mark.parametrize(
    "line", ['{"event": "phase"}', '{"event": "other", "title": "x"}', "[]", "null", '{"event": ["phase"]}']
)
def test_a_line_that_almost_is_one_is_none_either(line: str) -> None:
    assert decode(line) is None


@pytest.mark.parametrize("kind", [LaunchError, DoesNotFit, StageLost])
def test_an_error_arrives_as_the_kind_it_was(kind: type[LaunchError]) -> None:
    sent = kind("gone", hint="look", node="w1", stage=2)
    received = FailedEvent.of(sent).to_error()
    assert type(received) is kind
    assert (received.line, received.hint, received.exit_code) == (sent.line, "look", sent.exit_code)


def test_an_error_of_a_kind_with_fields_of_its_own_arrives_as_the_nearest() -> None:
    received = FailedEvent("Overloaded", "full", None, None, None).to_error()
    assert type(received) is LaunchError and received.message == "full"


def test_an_error_of_an_unknown_kind_is_a_launch_error() -> None:
    assert type(FailedEvent("Nonsense", "what", None, "n", None).to_error()) is LaunchError
