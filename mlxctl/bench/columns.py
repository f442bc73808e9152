"""Measurements as columns that can be compared: our reports, llama-bench's and pytest-benchmark's JSON. For compare."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from mlxctl.bench.load import parse_report, read_json
from mlxctl.bench.report import Report
from mlxctl.errors import UsageError

Better = Literal["higher", "lower"]
Key = tuple[int, str, str]
"""Devices (0: not said), workload, metric."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of one workload. `values` are single runs; an import that keeps only their mean has none."""

    unit: str
    better: Better
    mean: float
    values: tuple[float, ...] = ()
    launches: tuple[int, ...] = ()
    shape: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """One file. Where `facts` (tool, model, chip …) differ, figures are not comparable; None matches nothing known.
    `notes` say what makes its figures doubtful.
    """

    name: str
    facts: Mapping[str, str | None]
    series: Mapping[Key, Series] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_columns(path: Path) -> Columns:
    """The columns of a report of ours, of llama-bench (`-o json`) or of pytest-benchmark. Raises UsageError."""
    document = read_json(path)
    if isinstance(document, list) and document:
        return _llama_bench(document, path.name)
    if isinstance(document, dict) and "benchmarks" in document:
        return _pytest_benchmark(document, path.name)
    return of_report(parse_report(document, str(path)), path.name)


def of_report(report: Report, name: str) -> Columns:
    """Ours."""
    facts = {
        "tool": f"mlxctl over {'HTTP' if report.target == 'http' else 'its own clusters'}",
        "model": report.model.hash or report.model.name,
        "quantization": report.model.quantization,
        "chip": ", ".join(sorted({host.chip for host in report.hosts})) or None,
        "system": ", ".join(sorted({host.os.split(" ")[0] for host in report.hosts})) or None,
        "simulated devices": _simulation(report),
    }
    series = {
        (each.devices, each.workload, each.metric): Series(
            unit=each.unit,
            better=each.better,
            mean=each.summary.mean,
            values=each.of_runs,
            launches=each.launches,
            shape=report.workload(each.workload).model_dump_json(exclude={"id"}),
        )
        for each in report.results
    }
    most = max(report.protocol.plan, default=0)
    engine = {
        (most, each.name, each.group): Series(
            unit=each.unit,
            better=each.better,
            mean=each.summary.mean,
            values=tuple(found.value for found in each.rounds),
        )
        for each in report.engine
    }
    busy = [host for host in report.hosts if host.is_busy]
    notes = tuple(f"{host.name} was busy with something else (load {host.load_1m:.1f})" for host in busy)
    return Columns(name, facts, series | engine, notes)


def _simulation(report: Report) -> str:
    """Workers that have a core each behave unlike those that wander."""
    if not report.simulated_devices:
        return "no"
    return "yes, pinned" if report.pinned else "yes"


class _LlamaTest(BaseModel):
    """One row of llama-bench; it has many more fields."""

    model_filename: str
    n_prompt: int
    n_gen: int
    n_depth: int = 0
    avg_ts: float
    samples_ts: list[float] = []
    cpu_info: str = ""
    gpu_info: str = ""
    build_commit: str = ""


def _llama_bench(document: Sequence[Any], name: str) -> Columns:
    try:
        tests = [_LlamaTest.model_validate(each) for each in document]
    except ValidationError as error:
        raise UsageError(f"{name} is neither a report nor llama-bench's JSON: {error.errors()[0]['msg']}") from None
    first = tests[0]
    facts = {
        "tool": "llama-bench",
        "model": Path(first.model_filename).name,
        "quantization": None,
        "chip": first.gpu_info or first.cpu_info or None,
        "system": None,
        "simulated devices": "no",
    }
    return Columns(name, facts, {key: series for test in tests for key, series in _llama_series(test)})


def _llama_series(test: _LlamaTest) -> Iterator[tuple[Key, Series]]:
    if test.n_prompt and test.n_gen:
        return  # both at once is a figure of its own kind
    kind, tokens = ("pp", test.n_prompt) if test.n_prompt else ("tg", test.n_gen)
    depth = f"@{test.n_depth}" if kind == "tg" or test.n_depth else ""
    series = Series("tok/s", "higher", test.avg_ts, tuple(test.samples_ts), shape=f"depth {test.n_depth}")
    yield (1, f"{kind}{tokens}{depth}", f"{kind}_tps"), series


class _PytestStats(BaseModel):
    mean: float
    data: list[float] = []


class _PytestTest(BaseModel):
    fullname: str
    stats: _PytestStats


def _pytest_benchmark(document: Mapping[str, Any], name: str) -> Columns:
    try:
        tests = [_PytestTest.model_validate(each) for each in document["benchmarks"]]
    except (ValidationError, TypeError) as error:
        raise UsageError(f"{name} is no JSON of pytest-benchmark: {error}") from None
    machine = document.get("machine_info") or {}
    cpu = machine.get("cpu") or {}
    facts = {
        "tool": "pytest-benchmark",
        "model": None,
        "quantization": None,
        "chip": cpu.get("brand_raw") if isinstance(cpu, dict) else None,
        "system": machine.get("system"),
        "simulated devices": "no",
    }
    usable = (test for test in tests if math.isfinite(test.stats.mean))
    series = {
        (0, test.fullname, "seconds"): Series("s", "lower", test.stats.mean, tuple(test.stats.data)) for test in usable
    }
    return Columns(name, facts, series)
