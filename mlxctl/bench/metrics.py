"""From runs to figures: what each metric is, its unit, which way is better. Pure; for build, compare, runner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from mlxctl.bench.records import Answer, Kind, Run, Workload

Better = Literal["higher", "lower"]

DEFINITIONS = {
    "TTFT": "time to first token: from sending a request (for arrivals: from the moment it was due) to the first event "
    "that brings text; of an answer without text, to its end",
    "E2E": "from sending a request (or the moment it was due) to the last event that brings text",
    "TPOT": "time per output token: (E2E - TTFT) / (N - 1), N being the tokens of the answer as the server counts them",
    "inter-token latency": "the gaps between events that bring text; an event can bring several tokens",
    "prompt speed": "prompt tokens / TTFT; making the first token and the way over HTTP are in it",
    "decode speed": "1 / TPOT of a request that runs alone, at the stated depth",
    "aggregate": "all output tokens of a run / its wall time, from the first request sent to the last token received; "
    "reading the prompts is in it",
    "per user": "the mean over requests of 1 / TPOT",
    "depth": "tokens in the context when the first token is decoded; always stated",
    "speed-up": "the mean at N devices / the mean at the fewest devices that hold the model (for times: the inverse); "
    "efficiency is the speed-up / (N / fewest)",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """`of` gives the figure of one run; None where the run does not have it."""

    name: str
    title: str
    unit: str
    better: Better
    of: Callable[[Run], float | None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _of_answers(figure: Callable[[Answer], float | None]) -> Callable[[Run], float | None]:
    def of(run: Run) -> float | None:
        return _mean([value for answer in run.answers if (value := figure(answer)) is not None])

    return of


def _prompt_speed(answer: Answer) -> float | None:
    return answer.prompt_tokens / answer.ttft_s if answer.ttft_s else None


def _speed(answer: Answer) -> float | None:
    return 1 / answer.tpot_s if answer.tpot_s else None


def _later_turns(run: Run) -> float | None:
    return _mean([answer.ttft_s for answer in run.answers[1:] if answer.ttft_s is not None])


def _aggregate(run: Run) -> float | None:
    return sum(answer.completion_tokens for answer in run.answers) / run.wall_s


_TTFT = Metric("ttft_s", "time to first token", "s", "lower", _of_answers(lambda answer: answer.ttft_s))
_E2E = Metric("e2e_s", "end to end", "s", "lower", _of_answers(lambda answer: answer.e2e_s))
_PROMPT = Metric("pp_tps", "prompt speed", "tok/s", "higher", _of_answers(_prompt_speed))
_DECODE = Metric("tg_tps", "decode speed", "tok/s", "higher", _of_answers(_speed))
_USER = Metric("user_tps", "speed per user", "tok/s", "higher", _of_answers(_speed))
_AGGREGATE = Metric("aggregate_tps", "aggregate", "tok/s", "higher", _aggregate)
_TURN = Metric("turn_ttft_s", "time to first token, later turns", "s", "lower", _later_turns)

METRICS: dict[Kind, tuple[Metric, ...]] = {
    "prefill": (_PROMPT, _TTFT),
    "decode": (_DECODE, _TTFT),
    "chat": (_TURN, _DECODE, _E2E),
    "concurrent": (_AGGREGATE, _USER, _TTFT),
    "arrivals": (_TTFT, _AGGREGATE, _USER, _E2E),
    "file": (_DECODE, _TTFT, _E2E),
}
"""By kind of workload, the one that decides how long it is run first."""

BY_NAME = {metric.name: metric for metrics in METRICS.values() for metric in metrics}


def main_metric(workload: Workload) -> Metric:
    """The one that is to have a narrow interval."""
    return METRICS[workload.kind][0]


def values(runs: Sequence[Run], metric: Metric) -> tuple[list[float], list[int]]:
    """The metric of every counted run that has it, and the launch that each came from."""
    found = [(value, run.visit) for run in runs if is_counted(run) and (value := metric.of(run)) is not None]
    return [value for value, _ in found], [visit for _, visit in found]


def is_counted(run: Run) -> bool:
    """Neither a warm-up nor with a request that failed."""
    return not run.warm_up and not run.failed
