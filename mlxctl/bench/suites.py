"""Which workloads a bench runs: the quick, standard or full suite, or what was asked for. Pure; for the command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mlxctl.bench.records import Workload
from mlxctl.errors import UsageError

SHORT_PROMPT_TOKENS = 64
"""What decoding "at context 0" starts from: a chat template leaves no prompt empty."""

PREFILL_OUTPUT_TOKENS = 4
"""What is asked for after a prompt that is to be read: the first token may be a marker without text."""


@dataclass(frozen=True, slots=True)
class Suite:
    """Sizes in tokens, rates in requests a second; and how often to run. `turns` 0: no chat.

    A workload is run at least `least_runs` times over all launches, and on until its interval's half width is below
    `target_half_width` of the mean, at most `most_runs` times; `budget_s` ends all measuring, whatever was reached.
    """

    name: str
    prefill: tuple[int, ...]
    decode_tokens: int
    depths: tuple[int, ...]
    streams: tuple[int, ...]
    stream_prompt_tokens: int
    stream_tokens: int
    rates: tuple[float, ...]
    arrivals: int
    turns: int
    turn_prompt_tokens: int
    turn_tokens: int
    least_runs: int
    most_runs: int
    target_half_width: float
    most_warm_ups: int
    rounds: int = 2
    budget_s: float | None = None
    prompts: tuple[str, ...] = ()


QUICK = Suite(
    name="quick",
    prefill=(128,),
    decode_tokens=16,
    depths=(0,),
    streams=(2, 4),
    stream_prompt_tokens=32,
    stream_tokens=12,
    rates=(),
    arrivals=0,
    turns=2,
    turn_prompt_tokens=32,
    turn_tokens=8,
    least_runs=6,
    most_runs=12,
    target_half_width=0.05,
    most_warm_ups=1,
    budget_s=48.0,
)
STANDARD = Suite(
    name="standard",
    prefill=(128, 512, 2048),
    decode_tokens=64,
    depths=(0, 1024, 4096),
    streams=(1, 2, 4, 8),
    stream_prompt_tokens=64,
    stream_tokens=48,
    rates=(1.0, 2.0, 4.0),
    arrivals=12,
    turns=4,
    turn_prompt_tokens=64,
    turn_tokens=32,
    least_runs=8,
    most_runs=20,
    target_half_width=0.03,
    most_warm_ups=3,
)
FULL = Suite(
    name="full",
    prefill=(128, 256, 512, 1024, 2048, 4096, 8192),
    decode_tokens=128,
    depths=(0, 1024, 4096, 8192, 16384),
    streams=(1, 2, 4, 8, 16, 32),
    stream_prompt_tokens=64,
    stream_tokens=96,
    rates=(0.5, 1.0, 2.0, 4.0, 8.0),
    arrivals=32,
    turns=6,
    turn_prompt_tokens=64,
    turn_tokens=64,
    least_runs=10,
    most_runs=40,
    target_half_width=0.02,
    most_warm_ups=4,
)


def workloads(suite: Suite, context: int, concurrency: int) -> list[Workload]:
    """The suite's workloads that fit `context` tokens and `concurrency` sequences. Raises UsageError if none does."""
    found = [each for each in _all(suite) if _needed_tokens(each) <= context and each.streams <= concurrency]
    if not found:
        raise UsageError(
            f"none of the workloads fits {context} tokens of context and {concurrency} sequences",
            hint="ask for shorter ones with --pp, --tg, --depth, or for more --context",
        )
    return found


def _all(suite: Suite) -> Iterator[Workload]:
    for tokens in suite.prefill:
        yield Workload(id=f"pp{tokens}", kind="prefill", prompt_tokens=tokens, output_tokens=PREFILL_OUTPUT_TOKENS)
    for depth in dict.fromkeys(max(depth, SHORT_PROMPT_TOKENS) for depth in suite.depths):
        name = f"tg{suite.decode_tokens}@{depth}"
        yield Workload(id=name, kind="decode", prompt_tokens=depth, output_tokens=suite.decode_tokens)
    for streams in suite.streams:
        yield Workload(
            id=f"c{streams}",
            kind="concurrent",
            prompt_tokens=suite.stream_prompt_tokens,
            output_tokens=suite.stream_tokens,
            streams=streams,
        )
    if suite.turns:
        yield Workload(
            id=f"chat{suite.turns}",
            kind="chat",
            prompt_tokens=suite.turn_prompt_tokens,
            output_tokens=suite.turn_tokens,
            turns=suite.turns,
        )
    for rate in suite.rates:
        yield Workload(
            id=f"r{rate:g}",
            kind="arrivals",
            prompt_tokens=suite.stream_prompt_tokens,
            output_tokens=suite.stream_tokens,
            streams=suite.arrivals,
            rate_per_s=rate,
        )
    if suite.prompts:
        tokens = suite.decode_tokens
        yield Workload(id="file", kind="file", prompt_tokens=0, output_tokens=tokens, prompts=suite.prompts)


def only(suite: Suite, **asked: Sequence[float] | Sequence[str] | int | None) -> Suite:
    """`suite` with what was asked for; kinds that nobody asked for go as soon as anything is asked for."""
    given = {name: value for name, value in asked.items() if value is not None}
    kinds = {"prefill", "depths", "streams", "rates", "turns", "prompts"}
    if not kinds & given.keys():
        return replace(suite, **given)  # type: ignore[arg-type]
    none = {name: 0 if name == "turns" else () for name in kinds}
    return replace(suite, **(none | given))  # type: ignore[arg-type]


def _needed_tokens(workload: Workload) -> int:
    """The longest sequence of a run. Arrivals queue, so they never need more sequences than there are."""
    template = 32
    if workload.kind == "chat":
        return workload.turns * (workload.prompt_tokens + workload.output_tokens + template)
    return workload.prompt_tokens + workload.output_tokens
