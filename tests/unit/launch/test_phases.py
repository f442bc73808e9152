"""Phases run in order and are undone in reverse, whatever stops them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from mlxctl.launch.events import PhaseEvent, Report
from mlxctl.launch.phases import Step, run_phases

pytestmark = pytest.mark.unit


class Noted:
    """A phase that writes down what happens to it."""

    def __init__(self, title: str, failure: Exception | None = None, wait: bool = False) -> None:
        self.title = title
        self._failure = failure
        self._wait = wait

    def steps(self, subject: list[str]) -> Iterator[Step]:
        if not self.title.startswith("nothing"):
            yield None, "something"

    async def run(self, subject: list[str], report: Report) -> None:
        subject.append(f"run {self.title}")
        if self._wait:
            await asyncio.sleep(60)
        if self._failure is not None:
            raise self._failure

    async def undo(self, subject: list[str]) -> None:
        subject.append(f"undo {self.title}")


async def bring_up(phases: list[Noted], notes: list[str], events: list[PhaseEvent]) -> None:
    async with AsyncExitStack() as stack:
        await run_phases(phases, notes, events.append, stack)
        notes.append("up")


async def test_what_is_up_is_undone_in_reverse_at_the_end() -> None:
    notes: list[str] = []
    await bring_up([Noted("a"), Noted("b")], notes, [])
    assert notes == ["run a", "run b", "up", "undo b", "undo a"]


async def test_a_failure_undoes_its_own_phase_too_and_runs_nothing_more() -> None:
    notes: list[str] = []
    events: list[PhaseEvent] = []
    with pytest.raises(ValueError, match="broken"):
        await bring_up([Noted("a"), Noted("b", ValueError("broken")), Noted("c")], notes, events)
    assert notes == ["run a", "run b", "undo b", "undo a"]
    assert events[-1] == PhaseEvent("b", "failed", detail="broken")


async def test_a_cancelled_phase_is_undone() -> None:
    notes: list[str] = []
    events: list[PhaseEvent] = []
    task = asyncio.create_task(bring_up([Noted("a"), Noted("b", wait=True)], notes, events))
    while "run b" not in notes:  # noqa: ASYNC110 - a list has no event
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert notes == ["run a", "run b", "undo b", "undo a"]
    assert events[-1] == PhaseEvent("b", "failed", detail="interrupted")
