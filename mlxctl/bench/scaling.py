"""What more devices give: speed-up, efficiency, serial fraction, law, roofline, limiter. Pure; called by build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from mlxctl.bench.metrics import METRICS, is_counted
from mlxctl.bench.records import Expectation, Run, Workload
from mlxctl.bench.report import Against, Breakdown, Result, Scaling, StageTime
from mlxctl.bench.statistics import ratio_interval
from mlxctl.facts import CACHE_STEP_TOKENS

CLEARLY = 0.5
"""A share of the roofline, or of a stage's time, from which on something is called the limiter."""

WIRE, WIRE_OF_ONE = "the wire between the stages", "the wire to the stage"
OUTSIDE = "outside the stages (HTTP, scheduling)"

Table = Mapping[tuple[int, str, str], Result]


def scaling(results: Sequence[Result], workloads: Sequence[Workload]) -> tuple[Scaling, ...]:
    """Every first metric on every number of devices against the fewest that were measured."""
    table = {(each.devices, each.workload, each.metric): each for each in results}
    counts = sorted({each.devices for each in results})
    return tuple(
        found
        for workload in workloads
        for devices in counts[1:]
        if (found := _scaling(table, workloads, workload, counts[0], devices)) is not None
    )


def _scaling(
    table: Table, workloads: Sequence[Workload], workload: Workload, baseline: int, devices: int
) -> Scaling | None:
    metric = METRICS[workload.kind][0]
    here = table.get((devices, workload.id, metric.name))
    there = table.get((baseline, workload.id, metric.name))
    if here is None or there is None:
        return None
    above, below = (here, there) if metric.better == "higher" else (there, here)
    speed_up = above.summary.mean / below.summary.mean
    ratio = devices / baseline
    return Scaling(
        workload=workload.id,
        metric=metric.name,
        baseline=baseline,
        devices=devices,
        speed_up=speed_up,
        interval=ratio_interval(np.array(above.of_runs), np.array(below.of_runs), above.launches, below.launches),
        ideal=ideal(workload, ratio),
        law=_law(table, workloads, workload, baseline, devices),
        efficiency=speed_up / ratio,
        serial_fraction=serial_fraction(speed_up, ratio),
    )


def ideal(workload: Workload, ratio: float) -> float:
    """The most that `ratio` times the devices could give: work that cannot be spread gains nothing."""
    if workload.kind == "prefill":
        return ratio
    return min(ratio, workload.streams) if workload.kind == "concurrent" else 1.0


def serial_fraction(speed_up: float, ratio: float) -> float | None:
    """Karp and Flatt's: the share of the work that behaves as if only one device did it. None on one device."""
    return None if ratio <= 1 else (1 / speed_up - 1 / ratio) / (1 - 1 / ratio)


def _law(table: Table, workloads: Sequence[Workload], workload: Workload, baseline: int, devices: int) -> float | None:
    """t(S) / t(S/N) from the baseline's own runs: S / aggregate(S) is the time of a step of S sequences. Needs the
    workload with S/N sequences of the same lengths.
    """
    if workload.kind != "concurrent" or workload.streams % (devices // baseline or 1):
        return None
    fewer = workload.streams * baseline // devices
    shape = (workload.prompt_tokens, workload.output_tokens, fewer)
    smaller = next((w for w in workloads if w.kind == "concurrent" and _shape(w) == shape), None)
    if smaller is None:
        return None
    whole = table.get((baseline, workload.id, "aggregate_tps"))
    part = table.get((baseline, smaller.id, "aggregate_tps"))
    if whole is None or part is None:
        return None
    return (workload.streams / whole.summary.mean) / (fewer / part.summary.mean)


def _shape(workload: Workload) -> tuple[int, int, int]:
    return workload.prompt_tokens, workload.output_tokens, workload.streams


@dataclass(frozen=True, slots=True)
class Times:
    """Where time went, stage by stage and, of requests that run alone, altogether."""

    stages: Sequence[StageTime]
    breakdowns: Sequence[Breakdown]

    def of(self, result: Result) -> tuple[list[StageTime], Breakdown | None]:
        """Those of the workload and number of devices of `result`."""
        key = (result.devices, result.workload)
        stages = [each for each in self.stages if (each.devices, each.workload) == key]
        return stages, next((each for each in self.breakdowns if (each.devices, each.workload) == key), None)


def breakdowns(times: Sequence[StageTime], workloads: Sequence[Workload], runs: Sequence[Run]) -> tuple[Breakdown, ...]:
    """Of every workload whose requests run alone, and whose prompts are one chunk: long ones keep all stages busy."""
    alone = {each.id for each in workloads if each.is_alone and each.prompt_tokens <= CACHE_STEP_TOKENS}
    by_key: dict[tuple[int, str], list[StageTime]] = {}
    for each in times:
        if each.workload in alone:
            by_key.setdefault((each.devices, each.workload), []).append(each)
    wires: dict[tuple[int, str], list[float]] = {}
    for run in runs:
        if is_counted(run) and run.wire_s is not None:
            wires.setdefault((run.devices, run.workload), []).append(run.wire_s)
    return tuple(_breakdown(*key, stages, wires.get(key)) for key, stages in by_key.items())


def _breakdown(devices: int, workload: str, stages: Sequence[StageTime], wires_s: Sequence[float] | None) -> Breakdown:
    compute_s, serialize_s = (sum(getattr(stage, name) for stage in stages) for name in ("compute_s", "serialize_s"))
    wall_s = stages[0].wall_s
    between_s = max(0.0, wall_s - compute_s - serialize_s)
    return Breakdown(
        devices=devices,
        workload=workload,
        wall_s=wall_s,
        compute_s=compute_s,
        serialize_s=serialize_s,
        between_s=between_s,
        wire_s=min(between_s, fmean(wires_s)) if wires_s else None,
    )


def against(results: Sequence[Result], expectations: Sequence[Expectation], times: Times) -> tuple[Against, ...]:
    """Every result for which something was predicted or bounded."""
    return tuple(_against(results, {each.devices: each for each in expectations}, times))


def _against(results: Sequence[Result], expected: Mapping[int, Expectation], times: Times) -> Iterator[Against]:
    for result in results:
        of = expected.get(result.devices)
        predicted = of.predicted.get(result.workload, {}).get(result.metric) if of else None
        roof = of.roofline.get(result.workload, {}).get(result.metric) if of else None
        if predicted is None and roof is None:
            continue
        share = result.summary.mean / roof if roof else None
        yield Against(
            workload=result.workload,
            metric=result.metric,
            devices=result.devices,
            measured=result.summary.mean,
            predicted=predicted,
            roofline=roof,
            roofline_share=share,
            limiter=limiter(share, *times.of(result)) or (of.bounds.get(result.workload) if of else None),
        )


def limiter(roofline_share: float | None, stages: Sequence[StageTime], breakdown: Breakdown | None) -> str | None:
    """What most of the time goes to; None where neither bandwidth nor stage times tell."""
    if roofline_share is not None and roofline_share >= CLEARLY:
        return "memory bandwidth"
    if not stages:
        return None
    busiest = max(stages, key=lambda stage: stage.compute_s)
    parts = {f"computing on {busiest.node}": busiest.compute_s, f"serializing on {busiest.node}": busiest.serialize_s}
    if breakdown is not None and breakdown.wire_s is not None:
        parts[WIRE if len(stages) > 1 else WIRE_OF_ONE] = breakdown.wire_s
        parts[OUTSIDE] = breakdown.between_s - breakdown.wire_s
    elif breakdown is not None:
        parts[WIRE if len(stages) > 1 else OUTSIDE] = breakdown.between_s
    return max(parts, key=lambda name: parts[name])
