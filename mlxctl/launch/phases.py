"""Runs phases in order and undoes them in reverse: on failure, on cancellation, and when the cluster goes down.

What a phase would do it says as steps; `up --dry-run` prints them, and a phase without any is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Generic, Protocol, TypeVar

from mlxctl.launch.events import PhaseEvent, Report

Subject = TypeVar("Subject", contravariant=True)

Step = tuple[str | None, str]
"""What is done on a node (None: here), as a line to read."""


class Phase(Protocol, Generic[Subject]):
    """One step of bringing `Subject` up. `undo` must also clean up after a `run` that failed half way."""

    title: str

    def steps(self, subject: Subject) -> Iterable[Step]: ...

    async def run(self, subject: Subject, report: Report) -> None: ...

    async def undo(self, subject: Subject) -> None: ...


async def run_phases(phases: Sequence[Phase[Subject]], subject: Subject, report: Report, stack: AsyncExitStack) -> None:
    """Run `phases`; `stack` holds their undoings. On failure the caller unwinds the stack: all or nothing."""
    for phase in phases:
        if not any(True for _ in phase.steps(subject)):
            continue
        report(PhaseEvent(phase.title, "running"))
        stack.push_async_callback(phase.undo, subject)
        try:
            await phase.run(subject, report)
        except asyncio.CancelledError:
            report(PhaseEvent(phase.title, "failed", detail="interrupted"))
            raise
        except Exception as error:
            report(PhaseEvent(phase.title, "failed", detail=str(error)))
            raise
        report(PhaseEvent(phase.title, "done"))


class FirstError(asyncio.TaskGroup):
    """A TaskGroup that raises the first failure itself rather than a group of them."""

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await super().__aexit__(*exc_info)  # type: ignore[arg-type]
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
