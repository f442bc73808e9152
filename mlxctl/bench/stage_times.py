"""Where the stages' time went between two `/status` documents. Pure; called by session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from mlxctl.bench.records import Device, StageSpan

Status = Mapping[str, Any]
NO_CORES: Mapping[str, int] = MappingProxyType({})


def spans(before: Status | None, after: Status | None, wall_s: float) -> tuple[StageSpan, ...] | None:
    """Per stage; None where the server keeps no step profile, or its stages changed in between."""
    if before is None or after is None:
        return None
    pairs = list(zip(_stages(before), _stages(after), strict=False))
    if not pairs or not all(_same(first, second) for first, second in pairs):
        return None
    return tuple(_span(first, second, wall_s) for first, second in pairs)


def wire_s(before: Status | None, after: Status | None) -> float | None:
    """What steps took beyond computing, by the coordinator's log; None where there is none, or it began anew."""
    first, second = ((status or {}).get("steps") or {} for status in (before, after))
    if "wire_s" not in first or second.get("steps", 0) < first["steps"]:
        return None
    return float(second["wire_s"]) - float(first["wire_s"])


def devices(status: Status | None, cores: Mapping[str, int] = NO_CORES) -> tuple[Device, ...]:
    """The stages with their memory, as a status document has them, and the cores that their nodes were held to."""
    return tuple(
        Device(
            stage=stage["stage"],
            node=stage["node"],
            host=stage["host"],
            layers=(stage["layers"][0], stage["layers"][1]),
            weight_bytes=stage["weight_bytes"],
            kv_bytes=stage["kv_bytes"],
            cache_bytes=stage.get("cache_bytes"),
            peak_bytes=stage.get("peak_bytes"),
            rss_bytes=stage.get("rss_bytes"),
            budget_bytes=stage.get("budget_bytes"),
            core=cores.get(stage["node"]),
        )
        for stage in _stages(status or {})
    )


def _stages(status: Status) -> Sequence[Status]:
    stages: Sequence[Status] = status.get("stages", ())
    return stages


def _same(before: Status, after: Status) -> bool:
    """Whether both are readings of one worker that keeps a profile."""
    return bool(before.get("profile") and after.get("profile")) and before.get("pid") == after.get("pid")


def _span(before: Status, after: Status, wall_s: float) -> StageSpan:
    first, second = before["profile"], after["profile"]

    def passed(name: str) -> float:
        return max(0.0, float(second.get(name, 0.0)) - float(first.get(name, 0.0)))

    compute_s, idle_s, wire_s, serialize_s = map(passed, ("compute_s", "wait_s", "receive_s", "serialize_s"))
    outside_s = max(0.0, compute_s + idle_s - wall_s)  # between the readings, but not within the run
    wait_s = max(0.0, idle_s - outside_s - wire_s)
    return StageSpan(
        stage=after["stage"],
        node=after["node"],
        steps=round(passed("steps")),
        wall_s=wall_s,
        compute_s=compute_s,
        graph_s=passed("graph_s"),
        serialize_s=serialize_s,
        wire_s=wire_s,
        wait_s=wait_s,
        residual_s=wall_s - compute_s - serialize_s - wire_s - wait_s,
        sent_bytes=round(passed("sent_bytes")),
    )
