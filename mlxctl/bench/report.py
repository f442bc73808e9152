"""The report `mlxctl.bench/1`: what a bench found, as JSON that anybody can read, check and compute again.

`runs` are the raw measurements; everything in `results`, `stage_times`, `equality` and `verdicts` follows from them.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import Field

from mlxctl.bench.records import (
    Expectation,
    Host,
    Link,
    Model,
    Protocol,
    Record,
    Run,
    Tool,
    Visit,
    Workload,
)
from mlxctl.bench.statistics import Interval, Summary

SCHEMA = "mlxctl.bench/1"
SCHEMA_FILE = Path(__file__).with_name("report.schema.json")

Tone = Literal["good", "plain", "warning", "error"]


class Result(Record):
    """One metric of one workload on one number of devices. `of_runs` are its values, in the order of the runs."""

    devices: int
    workload: str
    metric: str
    unit: str
    better: Literal["higher", "lower"]
    of_runs: tuple[float, ...]
    launches: tuple[int, ...]
    summary: Summary


class Spread(Record):
    """The inter-token latencies of all answers of a workload, pooled: an ECDF in at most a hundred steps, and tails."""

    devices: int
    workload: str
    n: int
    quantiles_ms: tuple[float, ...]
    p50_ms: float
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class StageTime(Record):
    """Where a stage's time goes on the mean run of a workload, in seconds; see StageSpan."""

    devices: int
    workload: str
    phase: Literal["prefill", "decode", "mixed"]
    stage: int
    node: str
    runs: int
    wall_s: float
    compute_s: float
    graph_s: float
    serialize_s: float
    wire_s: float
    wait_s: float
    residual_s: float
    steps: float
    sent_bytes: float | None = None


class Breakdown(Record):
    """The mean run of requests that run alone, so that only one stage works at a time: all stages' computing and
    serializing, and `between_s`, when none does; of it `wire_s` is steps under way between coordinator and stages, the
    rest HTTP and scheduling.
    """

    devices: int
    workload: str
    wall_s: float
    compute_s: float
    serialize_s: float
    between_s: float
    wire_s: float | None = None


class Scaling(Record):
    """One metric against the fewest devices that hold the model. `ideal` is what so many devices could give at best.

    `law` is what a pipeline can give at this number of sequences: with t(B) the time of a whole model's step at batch
    B, S sequences on N stages can be t(S) / t(S/N) as fast as on one. `serial_fraction` is Karp and Flatt's. `percent
    of roofline` and `predicted` are of the metric itself, not of the speed-up.
    """

    workload: str
    metric: str
    baseline: int
    devices: int
    speed_up: float
    interval: Interval | None
    ideal: float
    law: float | None = None
    efficiency: float
    serial_fraction: float | None = None


class Against(Record):
    """A measured mean beside what was predicted and what the roofline allows; `limiter` says what holds it back."""

    workload: str
    metric: str
    devices: int
    measured: float
    predicted: float | None = None
    roofline: float | None = None
    roofline_share: float | None = None
    limiter: str | None = None


class EnergyUse(Record):
    """What the machine that runs the bench used during a launch's session, warm-ups included, and what came of it."""

    visit: int
    devices: int
    source: str
    seconds_s: float
    joules: float
    watts: float
    prompt_tokens: int
    generated_tokens: int


class Divergence(Record):
    """The first place where two texts differ, in characters; the margin is the gap of the two likeliest tokens."""

    workload: str
    index: int
    answer: int
    devices: int
    baseline: int
    at_character: int
    here: str
    there: str
    logit_margin: float | None = None


class Equality(Record):
    """Whether greedy answers that ran alone are the same text on every number of devices, and on every repeat."""

    dtype: str | None
    exact_expected: bool
    compared: int
    equal: int
    differences: tuple[Divergence, ...] = ()


class EngineRound(Record):
    """One round of an engine's figure: `ours` and, of a ratio, `theirs`, one measured after the other."""

    value: float
    ours: float
    theirs: float | None = None


class EngineFigure(Record):
    """A figure of `bench engine`: a ratio of two `sides` measured in turn, or one side alone. `side_unit` is that of
    `ours` and `theirs`, `unit` that of their values; `wanted` is at least or, where lower is better, at most.
    """

    group: str
    name: str
    unit: str
    better: Literal["higher", "lower"]
    wanted: float | None
    sides: tuple[str, ...]
    side_unit: str
    rounds: tuple[EngineRound, ...]
    summary: Summary
    note: str = ""

    @property
    def side_medians(self) -> tuple[float, ...]:
        """Of ours and, of a ratio, of theirs."""
        theirs = [each.theirs for each in self.rounds if each.theirs is not None]
        return tuple(median(side) for side in ([each.ours for each in self.rounds], theirs) if side)

    @property
    def is_reached(self) -> bool | None:
        """Whether the median is what is wanted; None where nothing is."""
        if self.wanted is None:
            return None
        seen = self.summary.median
        return seen >= self.wanted if self.better == "higher" else seen <= self.wanted


class Sentence(Record):
    """What the figures mean, for a person."""

    tone: Tone
    text: str


class Report(Record):
    """See the module. `links_fault` says why links were not measured, if so. `energy` has a row a launch; it is null
    where no source of the machine tells it, for the reason `energy_fault`, and never modelled.
    """

    schema_: Annotated[Literal["mlxctl.bench/1"], Field(alias="schema")] = "mlxctl.bench/1"
    id: str
    title: str
    started_at: str
    ended_at: str | None
    how_it_ended: Literal["complete", "interrupted", "failed", "crashed"]
    target: Literal["cluster", "attached", "http"]
    simulated_devices: bool
    tool: Tool
    argv: tuple[str, ...]
    profile: str | None
    definitions: dict[str, str]
    hosts: tuple[Host, ...]
    hosts_after: tuple[Host, ...] = ()
    links: tuple[Link, ...]
    links_fault: str | None = None
    model: Model
    protocol: Protocol
    workloads: tuple[Workload, ...]
    expectations: tuple[Expectation, ...]
    visits: tuple[Visit, ...]
    runs: tuple[Run, ...]
    results: tuple[Result, ...]
    inter_token: tuple[Spread, ...]
    stage_times: tuple[StageTime, ...]
    breakdowns: tuple[Breakdown, ...]
    energy: tuple[EnergyUse, ...] | None = None
    energy_fault: str | None = None
    scaling: tuple[Scaling, ...]
    against: tuple[Against, ...]
    equality: Equality
    engine: tuple[EngineFigure, ...] = ()
    verdicts: tuple[Sentence, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Device counts that were run."""
        return tuple(sorted({visit.devices for visit in self.visits if visit.fits}))

    @property
    def pinned(self) -> bool:
        """Whether every stage's process was held to a core."""
        stages = [stage for visit in self.visits for stage in visit.stages]
        return bool(stages) and all(stage.core is not None for stage in stages)

    @property
    def has_error(self) -> bool:
        """Whether something is wrong rather than slow."""
        return any(sentence.tone == "error" for sentence in self.verdicts)

    def workload(self, name: str) -> Workload:
        return next(each for each in self.workloads if each.id == name)

    def result(self, devices: int, workload: str, metric: str) -> Result | None:
        """None where it was not measured."""
        keys = ((each, (each.devices, each.workload, each.metric)) for each in self.results)
        return next((each for each, key in keys if key == (devices, workload, metric)), None)

    def to_json(self) -> str:
        """One document, two spaces deep."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of reports."""
    return Report.model_json_schema(by_alias=True, mode="serialization")


def schema_text() -> str:
    """What is shipped as SCHEMA_FILE."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
