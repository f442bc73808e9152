"""The links between a bench's nodes, measured in seconds before it runs, and what of links the planner keeps.

Called by `mlxctl bench` and `bench links`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from mlxctl.bench.links import KIB, MIB, TASKS, PairOrder, nodes_of, time_pair
from mlxctl.bench.links_report import GRPC, LinkNode, LinksReport, best, quickest
from mlxctl.bench.moments import utc_now
from mlxctl.bench.records import ONE_MACHINE, Link
from mlxctl.launch.measured_links import MeasuredLink, way_to
from mlxctl.launch.ranks import RankGroup, running_ranks
from mlxctl.profile import Profile

SMALL = (64, 500)  # bytes, round trips: enough for a p99
LARGE_BYTES = (16 * KIB, 256 * KIB, 4 * MIB)
LARGE_TRIPS, BURST_MESSAGES = 3, 4
ENOUGH_S = 0.5
"""What takes longer tells a link's bandwidth; larger messages would only take longer still."""

ASK_S = 30.0


async def probe_links(profile: Profile, wheelhouse: Path | None) -> tuple[Link, ...]:
    """Every ordered pair of the nodes of `profile` over our wire. Raises what running_ranks does, CommError."""
    async with running_ranks(profile, lambda event: None, wheelhouse=wheelhouse) as group:
        nodes = nodes_of(group.launch)
        media = await group.run(f"{TASKS}:medium", {"addresses": [node.address for node in nodes]}, ASK_S)
        return tuple(
            [
                await _link(group, nodes, source, target, media[source])
                for source in range(len(nodes))
                for target in range(len(nodes))
                if source != target
            ]
        )


async def _link(group: RankGroup, nodes: tuple[LinkNode, ...], source: int, target: int, medium: str) -> Link:
    names = [node.name for node in nodes]
    small, trips = SMALL
    near = await time_pair(group, GRPC, PairOrder(source, target, small, trips, BURST_MESSAGES), names)
    for size in LARGE_BYTES:
        began_s = time.monotonic()
        wide = await time_pair(group, GRPC, PairOrder(source, target, size, LARGE_TRIPS, BURST_MESSAGES), names)
        if time.monotonic() - began_s > ENOUGH_S:
            break
    return Link(
        source=names[source],
        target=names[target],
        type=ONE_MACHINE if nodes[source].host == nodes[target].host else medium,
        rtt_p50_s=near.round_trip.median,
        rtt_p99_s=near.round_trip.p99,
        bytes_per_s=wide.bytes_per_s,
    )


def kept_of_probe(links: tuple[Link, ...], profile: Profile) -> Iterator[MeasuredLink]:
    """What the planner keeps of `links`: those between machines."""
    ways = {node.name: way_to(node) for node in profile.nodes}
    at = utc_now()
    for link in links:
        if link.type != ONE_MACHINE and link.rtt_p50_s is not None:
            yield MeasuredLink(ways[link.source], ways[link.target], link.rtt_p50_s, link.bytes_per_s, at)


def kept_of_report(report: LinksReport, profile: Profile) -> Iterator[MeasuredLink]:
    """What the planner keeps of a whole report of links."""
    ways = {node.name: way_to(node) for node in profile.nodes}
    pairs = [(a, b) for a in report.nodes for b in report.nodes if a.host != b.host]
    for a, b in pairs:
        near, wide = quickest(report.pairs, GRPC, a.name, b.name), best(report.pairs, GRPC, a.name, b.name)
        if near is not None:
            rate = wide.bytes_per_s if wide else None
            yield MeasuredLink(ways[a.name], ways[b.name], near.round_trip.median, rate, report.started_at)
