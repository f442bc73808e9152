"""Links between nodes as `mlxctl bench` and `bench links` measured them, kept for the planner. Used by probe and reach.

One file, <home>/links.json, a row per ordered pair of addresses; a newer measurement of a pair takes the older's place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from pydantic import TypeAdapter, ValidationError

from mlxctl import paths
from mlxctl.errors import UsageError
from mlxctl.facts import NodeFacts
from mlxctl.profile import Node, Profile

SCHEMA = "mlxctl.measured-links/1"
MAX_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class MeasuredLink:
    """From the address `source` to `target`: seconds there and back of a small message, bytes a second one way."""

    source: str
    target: str
    round_trip_s: float
    bytes_per_s: float | None
    measured_at: str


_LINKS = TypeAdapter(tuple[MeasuredLink, ...])


def way_to(node: Node) -> str:
    """The address that other nodes reach `node` by: measured over another one, a link says nothing of this one."""
    return node.data_address or node.host


def kept_links() -> tuple[MeasuredLink, ...]:
    """Everything that was ever measured. Raises UsageError for a file that is not ours."""
    path = paths.links_file()
    try:
        text = path.read_bytes()[:MAX_BYTES]
    except FileNotFoundError:
        return ()
    try:
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise ValueError(document["schema"])
        return _LINKS.validate_python(document["links"])
    except (ValueError, KeyError, TypeError, ValidationError):
        raise UsageError(f"{path} holds no measured links", hint=f"measure them again: rm '{path}'") from None


def keep_links(measured: Iterable[MeasuredLink]) -> None:
    """Write `measured` beside what is kept, in one step. Raises UsageError."""
    rows = {(link.source, link.target): link for link in (*kept_links(), *measured)}
    path = paths.make_home() / paths.links_file().name
    fresh = path.with_suffix(".new")
    document = {"schema": SCHEMA, "links": [asdict(link) for link in rows.values()]}
    fresh.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)


def with_measured_links(profile: Profile, nodes: Sequence[NodeFacts]) -> tuple[NodeFacts, ...]:
    """`nodes` with the slowest measured link from another machine of `profile` to each; those without stay as they are.

    Raises UsageError.
    """
    if len({facts.host_id for facts in nodes}) < 2:
        return tuple(nodes)
    kept = {(link.source, link.target): link for link in kept_links()}
    ways = {node.name: way_to(node) for node in profile.nodes}
    return tuple(_linked(facts, _to(facts, nodes, ways, kept)) for facts in nodes)


def _to(
    facts: NodeFacts, nodes: Sequence[NodeFacts], ways: dict[str, str], kept: dict[tuple[str, str], MeasuredLink]
) -> list[MeasuredLink]:
    others = [ways[other.name] for other in nodes if other.host_id != facts.host_id]
    return [kept[pair] for other in others if (pair := (other, ways[facts.name])) in kept]


def _linked(facts: NodeFacts, links: Sequence[MeasuredLink]) -> NodeFacts:
    rates = [link.bytes_per_s for link in links if link.bytes_per_s is not None]
    found: dict[str, float] = {}
    if links:
        found["link_latency_s"] = max(link.round_trip_s for link in links) / 2
    if rates:
        found["link_bytes_per_s"] = min(rates)
    at = max((link.measured_at for link in links), default=None)
    sources = {**facts.sources, **dict.fromkeys(found, "measured")}
    return replace(facts, **found, link_measured_at=at, sources=sources) if found else facts  # type: ignore[arg-type]
