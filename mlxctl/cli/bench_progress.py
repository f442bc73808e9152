"""Progress of a bench on stderr: a bar with the time left, or a line per launch without a terminal. Used by `bench`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from mlxctl.bench.runner import Watcher
from mlxctl.bench.session import Progress as SessionProgress
from mlxctl.bench.session import VisitOrder
from mlxctl.cli.output import console, format_duration, is_fancy, say
from mlxctl.launch.events import PhaseEvent


class Outlook:
    """How far a bench is, and how long the rest will take: visits that are over tell how long one takes."""

    def __init__(self, visits: int, budget_s: float | None) -> None:
        self._visits = visits
        self._began_s = time.monotonic()
        self._budget_s = budget_s
        self.share = 0.0

    def reached(self, visit: int, within: float) -> None:
        """`within` (0 to 1) of visit number `visit` is done."""
        self.share = max(self.share, (visit + min(within, 1.0)) / self._visits)

    @property
    def left_s(self) -> float | None:
        """None while nobody can tell."""
        passed_s = time.monotonic() - self._began_s
        if self._budget_s is not None:
            return max(0.0, self._budget_s - passed_s)
        return passed_s * (1 - self.share) / self.share if self.share > 0.02 else None

    @property
    def left(self) -> str:
        return "" if self.left_s is None else f"about {format_duration(max(1.0, self.left_s))} left"


def _visit_line(order: VisitOrder, visits: int) -> str:
    devices = "an endpoint" if order.devices == 0 else f"{order.devices} device{'s' if order.devices > 1 else ''}"
    return f"launch {order.visit + 1} of {visits}, {devices}"


def _within(progress: SessionProgress) -> float:
    return progress.done / progress.expected


@contextmanager
def bench_progress(visits: int, budget_s: float | None) -> Iterator[Watcher]:
    """What to hand to a Bench."""
    outlook = Outlook(visits, budget_s)
    if not is_fancy(sys.stderr):
        yield _plain(outlook, visits)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn())
    with Progress(*columns, TextColumn("[dim]{task.fields[left]}"), console=console(sys.stderr), transient=True) as bar:
        yield _live(outlook, visits, bar, bar.add_task("", total=1.0, left=""))


def _plain(outlook: Outlook, visits: int) -> Watcher:
    def on_visit(order: VisitOrder) -> None:
        outlook.reached(order.visit, 0.0)
        say(f"{_visit_line(order, visits)} … {outlook.left}".rstrip())

    def on_progress(progress: SessionProgress) -> None:
        outlook.reached(progress.order.visit, _within(progress))

    return Watcher(on_visit=on_visit, on_progress=on_progress, on_note=lambda line: say(f"note: {line}"))


def _live(outlook: Outlook, visits: int, bar: Progress, task: TaskID) -> Watcher:
    title = ""

    def show(detail: str) -> None:
        bar.update(task, description=f"{title}  [dim]{detail}", completed=outlook.share, left=outlook.left)

    def on_visit(order: VisitOrder) -> None:
        nonlocal title
        title = _visit_line(order, visits)
        outlook.reached(order.visit, 0.0)
        show("")

    def on_phase(event: PhaseEvent) -> None:
        if event.node is None:
            show(event.title.lower())

    def on_progress(progress: SessionProgress) -> None:
        outlook.reached(progress.order.visit, _within(progress))
        show(f"{'warming up ' if progress.warm_up else ''}{progress.workload}")

    return Watcher(on_phase, on_visit, on_progress, on_note=lambda line: bar.console.print(f"note: {line}"))
