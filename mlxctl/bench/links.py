"""`bench links`: which messages are timed, in which order, over what; drives the ranks. Called by the command."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlxctl.bench import environment
from mlxctl.bench.links_report import (
    GRPC,
    CollectiveResult,
    Ending,
    LinkNode,
    LinksReport,
    PairResult,
    TransportState,
    bus_bytes_per_s,
    verdicts,
)
from mlxctl.bench.moments import utc_now
from mlxctl.bench.statistics import summarise
from mlxctl.errors import CommError, MlxctlError, TimedOut
from mlxctl.launch.launch import Launch
from mlxctl.launch.ranks import RankGroup

TASKS = "mlxctl.bench.links_tasks"
TIMEOUT_S = 300.0
JOIN_S = 60.0
ROUND_TRIP_BYTES = 64 << 20  # in all, of one pair and size
GATHERED_BYTES = 512 << 20  # each rank holds what an all-gather brings
KIB, MIB = 1 << 10, 1 << 20
TITLES = {GRPC: "gRPC", "ring": "mx.distributed ring", "jaccl": "mx.distributed jaccl"}
UNAVAILABLE = "not available here"
OPEN_PORTS = "its ports are open to the network without authentication; --mlx-distributed measures it all the same"


@dataclass(frozen=True, slots=True)
class LinkSuite:
    """`trips` round trips of small messages, `repeats` of a collective; fewer of what is large."""

    name: str
    sizes_bytes: tuple[int, ...]
    trips: int
    repeats: int
    other_sizes_bytes: tuple[int, ...]  # of mean, max, min


STANDARD = LinkSuite(
    "standard",
    (64, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 128 * MIB),
    500,
    20,
    (4 * KIB, MIB, 16 * MIB),
)
QUICK = LinkSuite("quick", (64, 4 * KIB, 64 * KIB, MIB, 16 * MIB), 500, 5, (4 * KIB,))


@dataclass(frozen=True, slots=True)
class PairOrder:
    """Messages from one rank to another; bursts of `burst_messages`, or of as many as suit their size."""

    source: int
    target: int
    size_bytes: int
    round_trips: int
    burst_messages: int | None = None


@dataclass(frozen=True, slots=True)
class CollectiveOrder:
    """A collective of all ranks."""

    operation: str
    size_bytes: int
    repeats: int


Order = PairOrder | CollectiveOrder
Progress = Callable[[str, int, int], None]
"""What is measured now, how many orders are done, and of how many."""


@dataclass(slots=True)
class Found:
    """What has been measured so far: an interrupt keeps it. `on_nodes` is told once the nodes are known, `on_entry` of
    everything that comes.
    """

    nodes: tuple[LinkNode, ...] = ()
    hosts: tuple[Any, ...] = ()
    transports: list[TransportState] = field(default_factory=list)
    pairs: list[PairResult] = field(default_factory=list)
    collectives: list[CollectiveResult] = field(default_factory=list)
    started_at: str = field(default_factory=utc_now)
    on_nodes: Callable[[], None] = lambda: None
    on_entry: Callable[[TransportState | PairResult | CollectiveResult], None] = lambda entry: None

    def add(self, entry: TransportState | PairResult | CollectiveResult) -> None:
        if isinstance(entry, PairResult):
            self.pairs.append(entry)
        elif isinstance(entry, CollectiveResult):
            self.collectives.append(entry)
        else:
            self.transports.append(entry)
        self.on_entry(entry)


def orders(suite: LinkSuite, transport: str, ranks: int) -> Iterator[Order]:
    """What is measured over `transport`, in order. A ring's ranks can only send to their neighbours."""
    for size in suite.sizes_bytes:
        for source in range(ranks):
            for target in range(ranks):
                near = (source - target) % ranks in (1, ranks - 1)
                if source != target and (near or transport != "ring"):
                    yield PairOrder(source, target, size, max(3, min(suite.trips, ROUND_TRIP_BYTES // size)))
    if transport == GRPC:
        yield CollectiveOrder("barrier", 0, suite.repeats * 5)
        yield from (CollectiveOrder("broadcast", size, _repeats(suite, size)) for size in suite.sizes_bytes)
    gathered = [size for size in suite.sizes_bytes if size * ranks <= GATHERED_BYTES]
    yield from (CollectiveOrder("all_gather", size, _repeats(suite, size)) for size in gathered)
    yield from (CollectiveOrder("all_reduce sum", size, _repeats(suite, size)) for size in suite.sizes_bytes)
    for operation in ("mean",) * (transport == GRPC) + ("max", "min"):
        for size in suite.other_sizes_bytes:
            yield CollectiveOrder(f"all_reduce {operation}", size, _repeats(suite, size))


def _repeats(suite: LinkSuite, size_bytes: int) -> int:
    return suite.repeats if size_bytes <= 4 * MIB else max(3, suite.repeats // 4)


async def measure(group: RankGroup, suite: LinkSuite, found: Found, progress: Progress, *, others: bool | None) -> None:
    """Fill `found`. `others`: measure mx.distributed too; None: where its ports are open to this machine only."""
    found.nodes = nodes_of(group.launch)
    local = [node.name for node in group.launch.profile.nodes if node.is_local]
    found.hosts = environment.hosts(group.launch.nodes, local, None)
    found.on_nodes()
    found.add(TransportState(name=GRPC, title=TITLES[GRPC]))
    await _measure_over(group, GRPC, suite, found, progress)
    for backend in ("ring", "jaccl"):
        reason = await _join(group, backend, others)
        found.add(TransportState(name=backend, title=TITLES[backend], reason=reason))
        if reason is None:
            await _measure_over(group, backend, suite, found, progress)


async def _join(group: RankGroup, backend: str, others: bool | None) -> str | None:
    """Have fresh ranks connect over `backend`; why they cannot, if so."""
    launch = group.launch
    hosts = [launch.address(node) for node in launch.profile.nodes]
    if others is False:
        return "nobody asked for it"
    try:
        await group.restart()
        reasons = await group.run(f"{TASKS}:unavailable", {"backend": backend}, JOIN_S)
        if reason := next((each for each in reasons if each is not None), None):
            return f"{UNAVAILABLE}: {reason}"
        if others is None and launch.machines:
            return OPEN_PORTS
        ports = await group.run(f"{TASKS}:free_port", {"hosts": hosts}, JOIN_S)
        addresses = [f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)]
        await group.run(f"{TASKS}:join_mlx", {"backend": backend, "addresses": addresses}, JOIN_S)
    except (CommError, TimedOut) as error:
        await group.restart()
        return f"{UNAVAILABLE}: {error.line}"
    return None


async def _measure_over(group: RankGroup, transport: str, suite: LinkSuite, found: Found, progress: Progress) -> None:
    names = [node.name for node in found.nodes]
    todo = list(orders(suite, transport, len(names)))
    for done, order in enumerate(todo):
        if isinstance(order, PairOrder):
            progress(f"{TITLES[transport]}: {names[order.source]} to {names[order.target]}", done, len(todo))
            found.add(await time_pair(group, transport, order, names))
        else:
            progress(f"{TITLES[transport]}: {order.operation.replace('_', '-')}", done, len(todo))
            found.add(await _collective(group, transport, order, len(names)))


async def time_pair(group: RankGroup, transport: str, order: PairOrder, names: Sequence[str]) -> PairResult:
    """What the ranks of `order` measured. Raises what a rank raised, RankLost, TimedOut."""
    arguments = {
        "transport": transport,
        "source": order.source,
        "target": order.target,
        "size_bytes": order.size_bytes,
        "round_trips": order.round_trips,
        "burst_messages": order.burst_messages,
    }
    times = (await group.run(f"{TASKS}:point_to_point", arguments, TIMEOUT_S))[order.source]
    bursts = summarise(times["message_s"])
    return PairResult(
        transport=transport,
        source=names[order.source],
        target=names[order.target],
        size_bytes=order.size_bytes,
        round_trip=summarise(times["rtt_s"]),
        bytes_per_s=order.size_bytes / bursts.mean,
        rtt_s=tuple(round(each, 7) for each in times["rtt_s"]),
        message_s=tuple(times["message_s"]),
    )


async def _collective(group: RankGroup, transport: str, order: CollectiveOrder, ranks: int) -> CollectiveResult:
    arguments = {
        "transport": transport,
        "operation": order.operation,
        "size_bytes": order.size_bytes,
        "repeats": order.repeats,
    }
    times = await group.run(f"{TASKS}:collective", arguments, TIMEOUT_S)
    slowest = [max(each) for each in zip(*times, strict=True)]
    summary = summarise(slowest)
    return CollectiveResult(
        transport=transport,
        operation=order.operation,
        size_bytes=order.size_bytes,
        ranks=ranks,
        time=summary,
        bus_bytes_per_s=bus_bytes_per_s(order.operation, order.size_bytes, ranks, summary.mean),
        time_s=tuple(slowest),
    )


def nodes_of(launch: Launch) -> tuple[LinkNode, ...]:
    """The nodes of a launch as a report names them."""
    return tuple(
        LinkNode(
            name=facts.name,
            host=facts.host_id,
            address=launch.address(launch.node(facts.name)),
            os=facts.os,
            chip=facts.chip,
            memory_bytes=facts.memory_bytes,
            available_bytes=facts.available_bytes,
            wired_limit_bytes=facts.wired_limit_bytes,
            bandwidth_bytes_per_s=facts.bandwidth_bytes_per_s,
            flops=facts.flops,
        )
        for facts in launch.nodes
    )


def make_report(title: str, suite: LinkSuite, found: Found, fault: BaseException | None) -> LinksReport:
    """The report of what was found; `fault` is what ended the bench early."""
    early: Ending = "failed" if isinstance(fault, MlxctlError) else "interrupted"
    report = LinksReport(
        id=secrets.token_hex(8),
        title=title,
        started_at=found.started_at,
        how_it_ended=early if fault is not None else "complete",
        message=fault.line if isinstance(fault, MlxctlError) else None,
        suite=suite.name,
        tool=environment.tool(),
        argv=tuple(sys.argv),
        hosts=found.hosts,
        nodes=found.nodes,
        transports=tuple(found.transports),
        pairs=tuple(found.pairs),
        collectives=tuple(found.collectives),
    )
    return report.model_copy(update={"verdicts": verdicts(report)})
