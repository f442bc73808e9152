"""All runs on one running cluster or server: warm-up, then turns of shuffled workloads until there is enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mlxctl.bench.client import Endpoint, check_answers
from mlxctl.bench.environment import load_1m
from mlxctl.bench.margins import margins
from mlxctl.bench.measure import Meter
from mlxctl.bench.metrics import main_metric, values
from mlxctl.bench.moments import utc_now
from mlxctl.bench.prompts import Prompter
from mlxctl.bench.records import Margin, Run, Workload
from mlxctl.bench.schedule import Standing, shuffled, wants_more, warm_enough
from mlxctl.bench.stage_times import spans, wire_s
from mlxctl.bench.suites import Suite

WARM_UP_INDEX = 1_000_000
"""Warm-up prompts are numbered from here, so that no counted run meets a prompt that was read before."""


@dataclass(frozen=True, slots=True)
class VisitOrder:
    """The visit to make: number `visit` of all, the `ordinal`th of `visits` to this device count. `until_s`: when to
    stop whatever was reached (time.monotonic).
    """

    visit: int
    devices: int
    ordinal: int
    visits: int
    until_s: float | None


@dataclass(slots=True)
class Progress:
    """What is being run, for who watches."""

    order: VisitOrder
    workload: str
    done: int
    expected: int
    warm_up: bool


@dataclass(slots=True)
class Session:
    """Runs workloads on `endpoint` and hands every run to `write`. `earlier` are runs of visits before."""

    endpoint: Endpoint
    meter: Meter
    workloads: Sequence[Workload]
    suite: Suite
    seed: int
    order: VisitOrder
    earlier: Sequence[Run]
    write: Callable[[Run | Margin], None]
    tell: Callable[[Progress], None]
    _runs: list[Run] = field(default_factory=list)

    async def run(self) -> None:
        """Each workload once at least, whatever the time. Raises RequestError where one fails altogether."""
        for workload in self.workloads:
            await self._warm_up(workload)
        turn = 0
        while wanting := [each for each in self.workloads if self._wants_more(each)]:
            by_id = {workload.id: workload for workload in wanting}
            order = shuffled(list(by_id), self.seed, self.order.visit, turn)
            for workload in sorted((by_id[name] for name in order), key=self._count):  # those behind go first
                if turn and self._is_over():
                    return
                await self._once(workload, self._count(workload), warm_up=False)
            turn += 1

    async def note_margins(self, prompter: Prompter) -> None:
        """Where answers here differ from those on fewer devices, ask how close a call it was."""
        runs = [*self.earlier, *self._runs]
        for margin in await margins(self.endpoint, prompter, self.workloads, runs, self.order.devices):
            self.write(margin)

    async def _warm_up(self, workload: Workload) -> None:
        metric, figures = main_metric(workload), list[float | None]()
        while not figures or (not self._is_over() and not warm_enough(figures, self.suite)):
            index = WARM_UP_INDEX + self.order.visit * 1000 + len(figures)
            run = await self._once(workload, index, warm_up=True)
            check_answers(run.answers)
            figures.append(metric.of(run))

    async def _once(self, workload: Workload, index: int, *, warm_up: bool) -> Run:
        self._say(workload, warm_up)
        before, started_at = await self.endpoint.status(), utc_now()
        measured = await self.meter.run(workload, index)
        after = await self.endpoint.status()
        run = Run(
            devices=self.order.devices,
            visit=self.order.visit,
            workload=workload.id,
            index=index,
            warm_up=warm_up,
            started_at=started_at,
            wall_s=measured.wall_s,
            answers=measured.answers,
            stages=spans(before, after, measured.wall_s),
            wire_s=wire_s(before, after),
            load_1m=load_1m(),
        )
        self._runs.append(run)
        self.write(run)
        return run

    def _is_over(self) -> bool:
        return self.order.until_s is not None and time.monotonic() > self.order.until_s

    def _of(self, workload: Workload) -> list[Run]:
        mine = [*self.earlier, *self._runs]
        return [run for run in mine if run.workload == workload.id and run.devices == self.order.devices]

    def _count(self, workload: Workload) -> int:
        return sum(not run.warm_up for run in self._of(workload))

    def _wants_more(self, workload: Workload) -> bool:
        found, blocks = values(self._of(workload), main_metric(workload))
        attempts = self._count(workload)
        standing = Standing(tuple(found), tuple(blocks), self.order.ordinal, self.order.visits)
        return attempts < self.suite.most_runs and wants_more(standing, self.suite)

    def _say(self, workload: Workload, warm_up: bool) -> None:
        done = sum(not run.warm_up for run in self._runs)
        share = self.suite.least_runs * len(self.workloads) / self.order.visits
        self.tell(Progress(self.order, workload.id, done, max(done + 1, round(share)), warm_up))
