"""Progress of a bring-up on stderr: a live picture on a terminal, plain lines elsewhere. Used by `up` and `chat`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from mlxctl.cli.output import console, is_fancy, say
from mlxctl.launch.events import PhaseEvent

_MARKS = {"running": ("·", "cyan"), "done": ("✓", "green"), "failed": ("✗", "red")}
_BAR_COLUMNS = 20


class PlainProgress:
    """One line per phase and per node that is done with it."""

    def __call__(self, event: PhaseEvent) -> None:
        if event.state == "running" and (event.node is not None or event.detail):
            return
        if event.state == "done" and event.node is None:
            return
        place = f" [{event.node}]" if event.node else ""
        if event.state == "failed":  # why is said by the error that follows
            say(f"{event.title}{place} failed")
            return
        say(f"{event.title}{place}: {event.detail}" if event.node else f"{event.title} …")


class LiveProgress:
    """Phases one below the other, the running one with its nodes."""

    def __init__(self) -> None:
        self._phases: dict[str, PhaseEvent] = {}
        self._nodes: dict[tuple[str, str], PhaseEvent] = {}
        self._live = Live(console=console(sys.stderr), refresh_per_second=12, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def __call__(self, event: PhaseEvent) -> None:
        if event.node is None:
            self._phases[event.title] = event
        else:
            self._nodes[event.title, event.node] = event
        self._live.update(Group(*self._lines()))

    def _lines(self) -> Iterator[Text | Spinner]:
        for title, phase in self._phases.items():
            if phase.state == "running":
                yield Spinner("dots", Text.assemble(title, (f"  {phase.detail}", "dim")), style="cyan")
            else:
                mark, style = _MARKS[phase.state]
                yield Text.assemble((mark, style), " ", title, (f"  {phase.detail}", "dim"))
            for (of, node), event in self._nodes.items():
                if of == title:
                    yield _node_line(node, event)


def _node_line(node: str, event: PhaseEvent) -> Text:
    mark, style = _MARKS[event.state]
    line = Text.assemble("    ", (mark, style), " ", (node, "bold"), "  ")
    if event.share is not None and event.state == "running":
        full = round(_BAR_COLUMNS * event.share)
        line.append("━" * full, "cyan").append("━" * (_BAR_COLUMNS - full), "dim").append("  ")
    return line.append(event.detail, "dim")


@contextmanager
def progress() -> Iterator[PlainProgress | LiveProgress]:
    """What to hand to `Cluster.up(on_event=…)`."""
    if is_fancy(sys.stderr):
        with LiveProgress() as live:
            yield live
    else:
        yield PlainProgress()
