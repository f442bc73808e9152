"""Journals and reports of benches that nobody ran, with figures that a test chooses."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from mlxctl.bench.build import build
from mlxctl.bench.journal import Journal
from mlxctl.bench.prompts import fingerprint
from mlxctl.bench.records import (
    Answer,
    Device,
    End,
    Expectation,
    Head,
    Host,
    Model,
    Protocol,
    Run,
    StageSpan,
    Tool,
    Visit,
    Workload,
)
from mlxctl.bench.report import Report

PREFILL = Workload(id="pp128", kind="prefill", prompt_tokens=128, output_tokens=4)
DECODE = Workload(id="tg16@64", kind="decode", prompt_tokens=64, output_tokens=16)
DEEP = Workload(id="tg16@1024", kind="decode", prompt_tokens=1024, output_tokens=16)
TWO = Workload(id="c2", kind="concurrent", prompt_tokens=32, output_tokens=16, streams=2)
FOUR = Workload(id="c4", kind="concurrent", prompt_tokens=32, output_tokens=16, streams=4)
SLOW, FAST = (
    Workload(id=f"r{rate}", kind="arrivals", prompt_tokens=32, output_tokens=8, streams=6, rate_per_s=rate)
    for rate in (1, 4)
)
WORKLOADS = (PREFILL, DECODE, DEEP, TWO, FOUR, SLOW, FAST)

Speed = Callable[[Workload, int], float]
"""Seconds that a run of a workload takes on so many devices."""


def steady(workload: Workload, devices: int) -> float:
    """Streams together gain from devices, one alone does not."""
    return workload.streams / devices if workload.streams > 1 else 1.0


def answer(workload: Workload, duration_s: float, text: str = "a b c", error: str | None = None) -> Answer:
    """One that took `duration_s`, a quarter of it until the first token."""
    return Answer(
        prompt_tokens=workload.prompt_tokens,
        completion_tokens=workload.output_tokens,
        tokens_from="usage",
        cached_tokens=None,
        ttft_s=duration_s / 4,
        e2e_s=duration_s,
        gaps_ms=tuple([duration_s * 750 / (workload.output_tokens - 1)] * (workload.output_tokens - 1)),
        finish_reason="length",
        text_sha256=fingerprint(text),
        text=text if workload.is_alone else None,
        error=error,
    )


def span(stage: int, wall_s: float, compute_s: float) -> StageSpan:
    """A stage that computes, and waits for the rest of the time."""
    return StageSpan(
        stage=stage,
        node=f"node{stage + 1}",
        steps=16,
        wall_s=wall_s,
        compute_s=compute_s,
        graph_s=compute_s / 4,
        serialize_s=0.0,
        wire_s=0.0,
        wait_s=wall_s - compute_s,
        residual_s=0.0,
        sent_bytes=1000,
    )


def run(workload: Workload, devices: int, visit: int, index: int, duration_s: float, text: str = "a b c") -> Run:
    """A counted run whose stages share its time evenly and are busy for 80 % of it."""
    compute_s = 0.8 * duration_s / (devices if workload.is_alone else 1)
    return Run(
        devices=devices,
        visit=visit,
        workload=workload.id,
        index=index,
        warm_up=False,
        started_at="2026-01-01T00:00:00.000Z",
        wall_s=duration_s,
        answers=tuple(answer(workload, duration_s, text) for _ in range(workload.streams)),
        stages=tuple(span(stage, duration_s, compute_s) for stage in range(devices)),
    )


def head(
    *,
    counts: Sequence[int] = (1, 2),
    workloads: Sequence[Workload] = WORKLOADS,
    dtype: str = "float32",
    one_host: bool = True,
    chip: str = "Apple M4",
    model_hash: str = "abc",
) -> Head:
    """What was known before."""
    nodes = tuple(f"node{number + 1}" for number in range(max(counts)))
    groups = [nodes] if one_host else [(node,) for node in nodes]
    return Head(
        id="0123456789abcdef",
        started_at="2026-01-01T00:00:00.000Z",
        target="cluster",
        title="bench of samples",
        tool=Tool(version="0.1.0", python="3.11.7", commit="c0ffee", dirty=False),
        argv=("mlxctl", "bench"),
        profile="name: samples",
        hosts=tuple(
            Host(
                name=group[0],
                nodes=group,
                chip=chip,
                os="macOS 26 arm64",
                memory_bytes=16 << 30,
                cores=10,
                bandwidth_bytes_per_s=1e11,
                bandwidth_source="measured",
                load_1m=0.1,
            )
            for group in groups
        ),
        model=Model(name="sample", hash=model_hash, dtype=dtype, quantization="8-bit g64", weight_bytes=1 << 30),
        protocol=Protocol(
            suite="standard",
            seed=0,
            plan=(*counts, *reversed(counts)),
            least_runs=6,
            most_runs=20,
            target_half_width=0.05,
            warm_up="once",
            stop="after six",
            budget_s=None,
        ),
        workloads=tuple(workloads),
        expectations=tuple(
            Expectation(
                devices=count,
                fits=True,
                predicted={"tg16@64": {"tg_tps": 20.0}},
                roofline={"tg16@64": {"tg_tps": 40.0}},
                bounds={"tg16@64": "memory bandwidth"},
                largest_context=4096,
                largest_concurrency=8 * count,
            )
            for count in counts
        ),
    )


def visit(number: int, devices: int) -> Visit:
    """A launch of stages that hold a little."""
    stages = tuple(
        Device(
            stage=stage,
            node=f"node{stage + 1}",
            host="localhost",
            layers=(stage, stage + 1),
            weight_bytes=1 << 29,
            kv_bytes=1 << 28,
            cache_bytes=1 << 20,
            peak_bytes=3 << 28,
            rss_bytes=1 << 30,
            budget_bytes=8 << 30,
        )
        for stage in range(devices)
    )
    return Visit(number=number, devices=devices, bring_up_s=1.0, fits=True, stages=stages)


def journal(
    *,
    speed: Speed = steady,
    runs: int = 8,
    noise: float = 0.02,
    seed: int = 0,
    counts: Sequence[int] = (1, 2),
    of: Head | None = None,
) -> Journal:
    """All workloads on all counts, `runs` times over two launches each."""
    draw = random.Random(seed)
    known = of or head(counts=counts)
    plan = known.protocol.plan
    made = tuple(
        run(workload, devices, number, index, speed(workload, devices) * draw.gauss(1, noise))
        for number, devices in enumerate(plan)
        for workload in known.workloads
        for index in range(runs // 2 * (number >= len(counts)), runs // 2 * (1 + (number >= len(counts))))
    )
    visits = tuple(visit(number, devices) for number, devices in enumerate(plan))
    return Journal(known, visits, made, End(ended_at="2026-01-01T00:10:00.000Z", how="complete"))


def report(**wishes: object) -> Report:
    """The report of `journal(**wishes)`."""
    return build(journal(**wishes))  # type: ignore[arg-type]
