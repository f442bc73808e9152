"""From a journal to a report: figures, stage times, scaling, equality, verdicts. Pure; called by the command.

A journal of a bench that crashed makes a report like any other; it says how it ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

import numpy as np

from mlxctl.bench.equality import compare_texts
from mlxctl.bench.journal import Journal
from mlxctl.bench.metrics import DEFINITIONS, METRICS, Metric, is_counted, values
from mlxctl.bench.records import Head, Run, StageSpan, Visit, Workload
from mlxctl.bench.report import EnergyUse, Report, Result, Spread, StageTime
from mlxctl.bench.scaling import Times, against, breakdowns, scaling
from mlxctl.bench.statistics import percentile, summarise
from mlxctl.bench.verdicts import Findings, verdicts

ECDF_STEPS = 101


def build(journal: Journal) -> Report:
    """The report of all that is in `journal`."""
    head, end = journal.head, journal.end
    visits = tuple({visit.number: visit for visit in journal.visits}.values())
    results = tuple(_results(head, journal.runs))
    times = tuple(_stage_times(head.workloads, journal.runs))
    parts = breakdowns(times, head.workloads, journal.runs)
    equality = compare_texts(journal.runs, head.workloads, head.model.dtype, journal.margins)
    scaled, beside = scaling(results, head.workloads), against(results, head.expectations, Times(times, parts))
    simulated = any(len(host.nodes) > 1 for host in head.hosts) and head.target != "http"
    how = end.how if end else "crashed"
    findings = Findings(head, visits, journal.runs, results, scaled, beside, equality, parts, simulated, how)
    return Report(
        id=head.id,
        title=head.title,
        started_at=head.started_at,
        ended_at=end.ended_at if end else None,
        how_it_ended=how,
        target=head.target,
        simulated_devices=simulated,
        tool=head.tool,
        argv=head.argv,
        profile=head.profile,
        definitions=DEFINITIONS,
        hosts=head.hosts,
        hosts_after=end.hosts if end else (),
        links=head.links,
        links_fault=head.links_fault,
        model=head.model,
        protocol=head.protocol,
        workloads=head.workloads,
        expectations=head.expectations,
        visits=visits,
        runs=journal.runs,
        results=results,
        inter_token=tuple(_spreads(head.workloads, journal.runs)),
        stage_times=times,
        energy=tuple(_energy(visits, journal.runs)) or None,
        energy_fault=head.energy_fault,
        breakdowns=parts,
        scaling=scaled,
        against=beside,
        equality=equality,
        verdicts=verdicts(findings),
    )


def _results(head: Head, runs: Sequence[Run]) -> Iterator[Result]:
    for devices in sorted({run.devices for run in runs}):
        for workload in head.workloads:
            mine = [run for run in runs if (run.devices, run.workload) == (devices, workload.id)]
            for metric in METRICS[workload.kind]:
                if (result := _result(devices, workload, metric, mine)) is not None:
                    yield result


def _result(devices: int, workload: Workload, metric: Metric, runs: Sequence[Run]) -> Result | None:
    found, launches = values(runs, metric)
    if not found:
        return None
    return Result(
        devices=devices,
        workload=workload.id,
        metric=metric.name,
        unit=metric.unit,
        better=metric.better,
        of_runs=tuple(found),
        launches=tuple(launches),
        summary=summarise(found, launches),
    )


def _spreads(workloads: Sequence[Workload], runs: Sequence[Run]) -> Iterator[Spread]:
    for devices in sorted({run.devices for run in runs}):
        for workload in workloads:
            mine = [run for run in runs if (run.devices, run.workload) == (devices, workload.id) and is_counted(run)]
            gaps = np.array([gap for run in mine for answer in run.answers for gap in answer.gaps_ms])
            if workload.kind != "prefill" and len(gaps):
                steps = min(ECDF_STEPS, len(gaps))
                yield Spread(
                    devices=devices,
                    workload=workload.id,
                    n=len(gaps),
                    quantiles_ms=tuple(round(float(gap), 3) for gap in np.quantile(gaps, np.linspace(0, 1, steps))),
                    p50_ms=float(np.median(gaps)),
                    p90_ms=percentile(gaps, 0.90),
                    p95_ms=percentile(gaps, 0.95),
                    p99_ms=percentile(gaps, 0.99),
                )


def _energy(visits: Sequence[Visit], runs: Sequence[Run]) -> Iterator[EnergyUse]:
    for visit in visits:
        if visit.energy is not None:
            answers = [answer for run in runs if run.visit == visit.number for answer in run.answers]
            yield EnergyUse(
                visit=visit.number,
                devices=visit.devices,
                source=visit.energy.source,
                seconds_s=visit.energy.seconds_s,
                joules=visit.energy.joules,
                watts=visit.energy.watts,
                prompt_tokens=sum(answer.prompt_tokens for answer in answers),
                generated_tokens=sum(answer.completion_tokens for answer in answers),
            )


def _stage_times(workloads: Sequence[Workload], runs: Sequence[Run]) -> Iterator[StageTime]:
    by_key: dict[tuple[int, str, int], list[StageSpan]] = {}
    for run in runs:
        if is_counted(run):
            for span in run.stages or ():
                by_key.setdefault((run.devices, run.workload, span.stage), []).append(span)
    phases = {workload.id: workload.phase for workload in workloads}
    for (devices, workload, stage), spans in sorted(by_key.items()):
        sent = [span.sent_bytes for span in spans if span.sent_bytes is not None]
        yield StageTime(
            devices=devices,
            workload=workload,
            phase=phases[workload],
            stage=stage,
            node=spans[0].node,
            runs=len(spans),
            wall_s=fmean(span.wall_s for span in spans),
            compute_s=fmean(span.compute_s for span in spans),
            graph_s=fmean(span.graph_s for span in spans),
            serialize_s=fmean(span.serialize_s for span in spans),
            wire_s=fmean(span.wire_s for span in spans),
            wait_s=fmean(span.wait_s for span in spans),
            residual_s=fmean(span.residual_s for span in spans),
            steps=fmean(span.steps for span in spans),
            sent_bytes=fmean(sent) if sent else None,
        )
