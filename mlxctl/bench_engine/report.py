"""The report of `bench engine`: its figures in the format of all benches. Called by the command."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mlxctl.bench import environment
from mlxctl.bench.expect import model_record
from mlxctl.bench.moments import utc_now
from mlxctl.bench.records import Host, Model, Protocol
from mlxctl.bench.report import EngineFigure, Equality, Report, Sentence
from mlxctl.bench.tables import wanted_words
from mlxctl.bench_engine.figures import DEFINITIONS, EngineBench
from mlxctl.checkpoint import read_model_facts

SUITE = "engine"
WARM_UP = "each side of a figure once before its first round; what that gave is not kept"

Ending = Literal["complete", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class EngineHead:
    """What is known before anything is measured."""

    bench: EngineBench
    started_at: str
    host: Host
    model: Model

    @classmethod
    def now(cls, bench: EngineBench) -> EngineHead:
        """Looks at model and machine. Raises CheckpointError."""
        facts = read_model_facts(bench.model, weights_required=False)
        nodes = tuple(f"w{index}" for index in range(bench.stages))
        host = environment.this_host(environment.measured_bandwidth()).model_copy(update={"nodes": nodes})
        return cls(bench, utc_now(), host, model_record(facts))


def engine_report(head: EngineHead, figures: Sequence[EngineFigure], how: Ending) -> Report:
    """The report of `figures`."""
    bench = head.bench
    return Report(
        id=secrets.token_hex(8),
        title=f"engine of {head.model.name}, {bench.stages} stages on one machine",
        started_at=head.started_at,
        ended_at=utc_now(),
        how_it_ended=how,
        target="cluster",
        simulated_devices=True,
        tool=environment.tool(),
        argv=tuple(sys.argv),
        profile=None,
        definitions={name: text for name, text in DEFINITIONS.items() if name == "round" or name in bench.groups},
        hosts=(head.host,),
        hosts_after=(environment.this_host(None),),
        links=(),
        model=head.model,
        protocol=_protocol(bench),
        workloads=(),
        expectations=(),
        visits=(),
        runs=(),
        results=(),
        inter_token=(),
        stage_times=(),
        breakdowns=(),
        scaling=(),
        against=(),
        equality=Equality(dtype=head.model.dtype, exact_expected=False, compared=0, equal=0),
        engine=tuple(figures),
        verdicts=tuple(_sentences(head, figures, how)),
    )


def _protocol(bench: EngineBench) -> Protocol:
    return Protocol(
        suite=SUITE,
        seed=0,
        plan=(1, bench.stages),
        least_runs=bench.rounds,
        most_runs=bench.rounds,
        target_half_width=0.0,
        warm_up=WARM_UP,
        stop=f"{bench.rounds} rounds of each figure",
        budget_s=None,
    )


def _sentences(head: EngineHead, figures: Sequence[EngineFigure], how: Ending) -> Iterator[Sentence]:
    if not figures:
        yield Sentence(tone="error", text="Nothing was measured.")
    elif how != "complete":
        text = f"The bench did not end by itself ({how}); this is what it had by then."
        yield Sentence(tone="warning", text=text)
    machine = f"{head.host.chip}, {head.host.cores or '?'} cores"
    text = f"SIMULATED DEVICES: all stages are processes of one machine ({machine}) and share its memory bandwidth."
    yield Sentence(tone="warning", text=text)
    busy = head.host.load_1m
    if busy is not None and head.host.cores and busy > head.host.cores / 2:
        text = f"The machine was busy before the first round (load {busy:.1f}): measure again when it rests."
        yield Sentence(tone="warning", text=text)
    judged = [figure for figure in figures if figure.is_reached is not None]
    if judged:
        reached = sum(bool(figure.is_reached) for figure in judged)
        tone: Literal["good", "plain"] = "good" if reached == len(judged) else "plain"
        yield Sentence(tone=tone, text=f"{reached} of {len(judged)} figures are what is wanted, by their medians.")
    for figure in judged:
        if not figure.is_reached:
            text = f"{figure.name}: {figure.summary.median:.3g}, wanted {wanted_words(figure)}"
            yield Sentence(tone="warning", text=text)
