"""A whole bench: launches in ABBA order, a session on each, everything into the journal. Called by `mlxctl bench`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from mlxctl.bench.client import Endpoint
from mlxctl.bench.energy import metered
from mlxctl.bench.journal import JournalWriter
from mlxctl.bench.measure import Meter
from mlxctl.bench.pinning import pin_simulated
from mlxctl.bench.prompts import Prompter
from mlxctl.bench.records import Head, Run, Visit
from mlxctl.bench.session import Progress, Session, VisitOrder
from mlxctl.bench.stage_times import devices as stage_devices
from mlxctl.bench.suites import Suite
from mlxctl.bench.thermal import is_throttled, thermal_now
from mlxctl.chat.client import ChatClient
from mlxctl.cluster import Cluster
from mlxctl.errors import DoesNotFit, IllegalCut, MlxctlError
from mlxctl.launch.events import PhaseEvent
from mlxctl.profile import Profile
from mlxctl.tokenizer import Tokenizer

COOL_DOWN_S = 120.0
"""The longest wait for a machine that says it is throttled."""


@dataclass(frozen=True, slots=True)
class Target:
    """What answers: `base_url` (…/v1) and, where there is one, its key. `bring_up_s` is None if it ran already; `cores`
    are those that workers were held to, by node.
    """

    base_url: str
    model: str
    api_key: str | None = None
    bring_up_s: float | None = None
    cores: Mapping[str, int] = field(default_factory=dict)


Opener = Callable[[int], AbstractContextManager[Target]]
"""A target with so many devices, for as long as its context is open. Raises DoesNotFit where the model does not."""


@dataclass(slots=True)
class Watcher:
    """Who is told what goes on: nobody, unless told otherwise."""

    on_phase: Callable[[PhaseEvent], None] = lambda event: None
    on_visit: Callable[[VisitOrder], None] = lambda order: None
    on_progress: Callable[[Progress], None] = lambda progress: None
    on_note: Callable[[str], None] = lambda line: None


@dataclass(slots=True)
class Bench:
    """`head` says what is to be run; `open_target` brings it up. `tokenizer` makes prompts of exact lengths."""

    head: Head
    suite: Suite
    open_target: Opener
    tokenizer: Tokenizer | None
    watcher: Watcher
    refused_fields: list[str] = field(default_factory=list)

    def run(self, journal: JournalWriter) -> None:
        """Visit after visit. Raises what the sessions raise; KeyboardInterrupt leaves all that was measured."""
        plan = self.head.protocol.plan
        ends_s = None if self.suite.budget_s is None else time.monotonic() + self.suite.budget_s
        unfit: set[int] = set()
        for number, devices in enumerate(plan):
            if devices in unfit:
                continue
            earlier = plan[: number + 1].count(devices)
            until_s = _share(ends_s, sum(each not in unfit for each in plan[number:]))
            order = VisitOrder(number, devices, earlier, plan.count(devices), until_s)
            self.watcher.on_visit(order)
            if not self._visit(order, journal, ends_s):
                unfit.add(devices)
            elif number + 1 < len(plan):
                self._cool_down()

    def _visit(self, order: VisitOrder, journal: JournalWriter, ends_s: float | None) -> bool:
        """Whether the count fits; a visit that was made is noted at its begin and again, with memory, at its end."""
        with ExitStack() as stack:
            try:
                target = stack.enter_context(self.open_target(order.devices))
            except (DoesNotFit, IllegalCut) as error:
                fault = error.message
                visit = Visit(number=order.visit, devices=order.devices, bring_up_s=None, fits=False, fault=fault)
                journal.write(visit)
                return False
            journal.write(self._noted(order, target))
            meter = stack.enter_context(metered(self.head.energy_source is not None))
            try:
                asyncio.run(self._session(order, target, journal))
            finally:
                energy = meter.energy() if meter is not None else None
                journal.write(self._noted(order, target).model_copy(update={"energy": energy}))
        return True

    def _noted(self, order: VisitOrder, target: Target) -> Visit:
        return Visit(
            number=order.visit,
            devices=order.devices,
            bring_up_s=target.bring_up_s,
            fits=True,
            stages=stage_devices(_status(target), target.cores),
            thermal=thermal_now(),
        )

    async def _session(self, order: VisitOrder, target: Target, journal: JournalWriter) -> None:
        prompter = Prompter(self.head.protocol.seed, self.tokenizer)
        stop_ids = sorted(self.tokenizer.stop_ids) if self.tokenizer else ()
        async with Endpoint(
            target.base_url, target.model, target.api_key, stop_ids=stop_ids, count=prompter.count
        ) as endpoint:
            endpoint.refused.extend(self.refused_fields)
            session = Session(
                endpoint=endpoint,
                meter=Meter(endpoint, prompter),
                workloads=self.head.workloads,
                suite=self.suite,
                seed=self.head.protocol.seed,
                order=order,
                earlier=[line for line in journal.lines if isinstance(line, Run)],
                write=journal.write,
                tell=self.watcher.on_progress,
            )
            await session.run()
            await session.note_margins(prompter)
            for name in endpoint.refused[len(self.refused_fields) :]:
                self.watcher.on_note(f"the server takes no {name}: it is left out")
            self.refused_fields = list(endpoint.refused)

    def _cool_down(self) -> None:
        until_s = time.monotonic() + COOL_DOWN_S
        while is_throttled(thermal_now()) and time.monotonic() < until_s:
            self.watcher.on_note("the machine is throttled; waiting for it to cool down")
            time.sleep(5.0)


def private_clusters(profile: Profile, watcher: Watcher, wheelhouse: Path | None = None) -> Opener:
    """A cluster of its own for every visit, on the first nodes of `profile`; workers that share this machine have a
    core each. See Cluster.up for `wheelhouse`.
    """

    @contextmanager
    def up(devices: int) -> Iterator[Target]:
        cluster = Cluster.up(profile.first(devices), on_event=watcher.on_phase, wheelhouse=wheelhouse)
        try:
            cores = pin_simulated(profile, cluster.status())
            yield Target(cluster.base_url, cluster.profile.model, cluster.api_key, cluster.took_s, cores)
        finally:
            cluster.down(drain_s=0.0)

    return up


def running_target(target: Target) -> Opener:
    """What runs already and is left running."""
    return lambda devices: nullcontext(target)


def _share(ends_s: float | None, visits_left: int) -> float | None:
    """When a visit that begins now should end, so that those after it have as much time."""
    if ends_s is None:
        return None
    now_s = time.monotonic()
    return now_s + max(0.0, ends_s - now_s) / max(1, visits_left)


def _status(target: Target) -> dict[str, object] | None:
    with ChatClient(target.base_url, target.api_key) as client:
        try:
            return client.status()
        except MlxctlError:
            return None
