"""The report of `bench links`, `mlxctl.links/1`: what was measured between pairs and over all ranks, as JSON.

Times are seconds, sizes bytes. A round trip is there and back; half of it is what one way takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from mlxctl.bench.records import Host, Record, Tool
from mlxctl.bench.report import Sentence
from mlxctl.bench.statistics import Summary
from mlxctl.errors import UsageError

FAMILY = "mlxctl.links/"
SCHEMA_FILE = Path(__file__).with_name("links.schema.json")
BANDWIDTH_BYTES = 1 << 20
"""Messages below this size tell how many fit into a second, not what the link carries."""

GRPC = "grpc"  # the name of our wire among the transports
Ending = Literal["complete", "interrupted", "failed"]
DEFINITIONS = {
    "round trip": "from handing a message to the transport to having as many bytes back from the other rank.",
    "bandwidth": "bytes of a message / time a message in a burst: several sent one after the other, the last answered; "
    "the mean of the bursts.",
    "collective's time": "from a barrier to its end on the rank that ends last; the barrier's own skew is in it.",
    "bus bandwidth": "as nccl-tests define it, with n ranks: all-reduce 2 (n - 1) / n x size / time; all-gather "
    "(n - 1) x size / time; broadcast size / time. Size is what each rank brings.",
    "message": "an array of float32 on the CPU's stream, the same for each transport; "
    "making and parsing it is in the time.",
}


class LinkNode(Record):
    """A rank's node and what the planner wants to know of it. Nodes with one `host` are processes of one machine."""

    name: str
    host: str
    address: str
    os: str
    chip: str
    memory_bytes: int
    available_bytes: int
    wired_limit_bytes: int | None = None
    bandwidth_bytes_per_s: float | None = None
    flops: float | None = None


class TransportState(Record):
    """A transport, and why it was not measured if it was not."""

    name: str
    title: str
    reason: str | None = None


class PairResult(Record):
    """Messages of one size from `source` to `target`. `message_s` are times a message, one per burst."""

    transport: str
    source: str
    target: str
    size_bytes: int
    round_trip: Summary
    bytes_per_s: float
    rtt_s: tuple[float, ...]
    message_s: tuple[float, ...]


class CollectiveResult(Record):
    """A collective over all ranks. `time_s` are those of the slowest rank, one per repeat."""

    transport: str
    operation: str
    size_bytes: int
    ranks: int
    time: Summary
    bus_bytes_per_s: float | None
    time_s: tuple[float, ...]


class LinksReport(Record):
    """See the module."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    schema_: Annotated[Literal["mlxctl.links/1"], Field(alias="schema")] = "mlxctl.links/1"
    id: str
    title: str
    started_at: str
    how_it_ended: Ending
    message: str | None = None
    suite: str
    tool: Tool
    argv: tuple[str, ...]
    hosts: tuple[Host, ...]
    nodes: tuple[LinkNode, ...]
    transports: tuple[TransportState, ...]
    pairs: tuple[PairResult, ...]
    collectives: tuple[CollectiveResult, ...]
    verdicts: tuple[Sentence, ...] = ()
    definitions: dict[str, str] = DEFINITIONS

    @property
    def one_host(self) -> bool:
        """Whether all ranks are processes of one machine: then no network was measured."""
        return len({node.host for node in self.nodes}) < 2

    def title_of(self, transport: str) -> str:
        return next(each.title for each in self.transports if each.name == transport)

    def to_json(self) -> str:
        """One document, a space deep."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def schema_text() -> str:
    """The JSON Schema of links reports, which is shipped as SCHEMA_FILE."""
    schema = LinksReport.model_json_schema(by_alias=True, mode="serialization")
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def parse_links(document: Any, name: str) -> LinksReport | None:
    """The report that `document` (of the file `name`) is; None if it is none of links. Raises UsageError."""
    if not isinstance(document, dict) or not str(document.get("schema")).startswith(FAMILY):
        return None
    try:
        return LinksReport.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        hint = "a newer mlxctl may have written it: pip install -U mlxctl"
        raise UsageError(f"{name} is no sound report of links: {where}: {first['msg']}", hint=hint) from None


def bus_bytes_per_s(operation: str, size_bytes: int, ranks: int, time_s: float) -> float | None:
    """See the definitions; None for what moves no data, and for one rank."""
    factors = {"broadcast": 1.0, "all_gather": ranks - 1.0, "all_reduce": 2 * (ranks - 1) / ranks}
    factor = factors.get(operation.split()[0])
    return size_bytes * factor / time_s if factor and ranks > 1 else None


def best(pairs: Sequence[PairResult], transport: str, source: str, target: str) -> PairResult | None:
    """The size with the highest bandwidth from `source` to `target`; None before large messages were measured."""
    found = [each for each in pairs if (each.transport, each.source, each.target) == (transport, source, target)]
    return max(
        (each for each in found if each.size_bytes >= BANDWIDTH_BYTES), key=lambda each: each.bytes_per_s, default=None
    )


def quickest(pairs: Sequence[PairResult], transport: str, source: str, target: str) -> PairResult | None:
    """The smallest messages from `source` to `target`."""
    found = [each for each in pairs if (each.transport, each.source, each.target) == (transport, source, target)]
    return min(found, key=lambda each: each.size_bytes, default=None)


def slowest_pairs(report: LinksReport) -> list[PairResult]:
    """Of two nodes everything; of more, of each transport the pair whose smallest messages take longest."""
    if len(report.nodes) < 3:
        return list(report.pairs)
    found: list[PairResult] = []
    for state in report.transports:
        mine = [each for each in report.pairs if each.transport == state.name]
        least = min((each.size_bytes for each in mine), default=0)
        small = [each for each in mine if each.size_bytes == least]
        if small:
            slow = max(small, key=lambda each: each.round_trip.median)
            found += [each for each in mine if (each.source, each.target) == (slow.source, slow.target)]
    return found


def verdicts(report: LinksReport) -> tuple[Sentence, ...]:
    """What the figures mean."""
    return tuple(_sentences(report))


def _sentences(report: LinksReport) -> Iterator[Sentence]:
    if report.how_it_ended != "complete":
        yield Sentence(
            tone="warning", text=f"the bench was {report.how_it_ended}: {report.message or 'what came is here'}"
        )
    if report.one_host:
        text = "all ranks are processes of one machine: this measures its processor and memory, no network"
        yield Sentence(tone="warning", text=text)
    for state in report.transports:
        if state.reason is not None:
            yield Sentence(tone="plain", text=f"{state.title} is not measured: {state.reason}")
            continue
        yield from _of_transport(report, state)


def _of_transport(report: LinksReport, state: TransportState) -> Iterator[Sentence]:
    names = [(a.name, b.name) for a in report.nodes for b in report.nodes if a is not b]
    small = [each for a, b in names if (each := quickest(report.pairs, state.name, a, b))]
    large = [each for a, b in names if (each := best(report.pairs, state.name, a, b))]
    if not small:
        return
    slow, fast = (pick(small, key=lambda each: each.round_trip.median) for pick in (max, min))
    between = _span(_us(fast.round_trip.median), _us(slow.round_trip.median))
    yield Sentence(
        tone="plain",
        text=f"{state.title}: a round trip of {fast.size_bytes} B takes {between} (medians of the pairs), "
        f"longest from {slow.source} to {slow.target}",
    )
    if not large:
        return
    narrow, wide = (pick(large, key=lambda each: each.bytes_per_s) for pick in (min, max))
    span = _span(f"{narrow.bytes_per_s / 1e6:.0f}", f"{wide.bytes_per_s / 1e6:.0f}")
    yield Sentence(
        tone="plain",
        text=f"{state.title}: bandwidth one way is {span} MB/s, least from {narrow.source} to {narrow.target}",
    )
    if not report.one_host and wide.bytes_per_s > 2 * narrow.bytes_per_s:
        times = wide.bytes_per_s / narrow.bytes_per_s
        text = f"{narrow.source} to {narrow.target} is {times:.1f} times slower than the fastest"
        yield Sentence(tone="warning", text=f"{text}: look at its cable, port and switch")


def _us(seconds_s: float) -> str:
    return f"{seconds_s * 1e6:.0f} µs"


def _span(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"
