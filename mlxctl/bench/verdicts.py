"""What the figures mean, in sentences a person understands. Pure; called by build."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlxctl.bench.records import ONE_MACHINE, Head, Run, Visit, Workload
from mlxctl.bench.report import Against, Breakdown, Equality, Result, Scaling, Sentence
from mlxctl.bench.statistics import Interval
from mlxctl.bench.thermal import is_throttled

CEILING = "each token passes every stage in turn, so a pipeline cannot speed up one stream: 1.00x is its ceiling"
MET_BEFORE = 0.5
"""A share of a prompt that is more than a chat template's head."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that sentences are made of."""

    head: Head
    visits: Sequence[Visit]
    runs: Sequence[Run]
    results: Sequence[Result]
    scaling: Sequence[Scaling]
    against: Sequence[Against]
    equality: Equality
    breakdowns: Sequence[Breakdown]
    simulated: bool
    how: str


def verdicts(found: Findings) -> tuple[Sentence, ...]:
    """What is wrong first, then what was found, then what limits the trust in it."""
    parts = (_ended, _equality, _failures, _machine, _capacity, _one_stream, _together, _prompts, _bounds, _times_spent)
    said = [sentence for part in (*parts, _links, _predictions, _reuse, _noise, _lengths) for sentence in part(found)]
    return tuple(sorted(said, key=lambda sentence: sentence.tone != "error"))


def _ended(found: Findings) -> Iterator[Sentence]:
    if not any(not run.warm_up for run in found.runs):
        yield Sentence(tone="error", text="Nothing was measured.")
    elif found.how != "complete":
        yield Sentence(
            tone="warning", text=f"The bench did not end by itself ({found.how}); this is what it had by then."
        )


def _equality(found: Findings) -> Iterator[Sentence]:
    equality = found.equality
    if not equality.compared:
        return
    if not equality.differences:
        text = f"Greedy answers are the same: {equality.compared} repeats and device counts compared, all texts equal."
        yield Sentence(tone="good", text=text)
        return
    worst = equality.differences[0]
    where = (
        f"{len(equality.differences)} of {equality.compared} greedy answers differ; the first is {worst.workload} "
        f"prompt {worst.index} on {_devices(worst.devices)} against {_devices(worst.baseline)}, from character "
        f"{worst.at_character} on: {worst.here!r} instead of {worst.there!r}"
    )
    if equality.exact_expected:
        yield Sentence(tone="error", text=f"WRONG OUTPUT: in float32 every split must say the same. {where}.")
    else:
        margin = "unknown" if worst.logit_margin is None else f"{worst.logit_margin:.4f}"
        kind = equality.dtype or "an unknown type"
        text = f"In {kind} other shapes of the same sums may turn a tie. {where} (logit margin: {margin})."
        yield Sentence(tone="warning", text=text)


def _failures(found: Findings) -> Iterator[Sentence]:
    faults = [answer.error for run in found.runs for answer in run.answers if answer.error]
    if faults:
        text = f"{len(faults)} requests failed, and their runs do not count. The first: {faults[0]}"
        yield Sentence(tone="warning", text=text)


def _machine(found: Findings) -> Iterator[Sentence]:
    if found.simulated:
        crowded = next(host for host in found.head.hosts if len(host.nodes) > 1)
        text = (
            f"SIMULATED DEVICES: {len(crowded.nodes)} workers are processes of one machine ({crowded.chip}, "
            f"{crowded.cores or '?'} cores) and share its memory bandwidth{_core_share(found)}. What more devices give "
            "here says nothing about as many machines."
        )
        yield Sentence(tone="warning", text=text)
    if found.head.model.random_weights:
        text = "The weights are random: speeds are those of the model, answers mean nothing."
        yield Sentence(tone="plain", text=text)


def _core_share(found: Findings) -> str:
    """How the processes of one machine divide its cores."""
    used = [[stage.core for stage in visit.stages if stage.core is not None] for visit in found.visits]
    if not any(used):
        return " and cores"
    shared = any(len(set(cores)) < len(cores) for cores in used)
    return "; each is pinned to a core, which some share" if shared else "; each is pinned to a core of its own"


def _capacity(found: Findings) -> Iterator[Sentence]:
    for visit in found.visits:
        if not visit.fits:
            yield Sentence(tone="plain", text=f"{_devices(visit.devices)} cannot hold the model: {visit.fault}.")
    fitting = [each for each in found.head.expectations if each.fits and each.largest_concurrency is not None]
    if len(fitting) > 1:
        few, many = fitting[0], fitting[-1]
        text = (
            f"Capacity: {_devices(few.devices)} can hold {few.largest_concurrency} sequences of the planned context, "
            f"{_devices(many.devices)} {many.largest_concurrency}; the longest context is {few.largest_context} "
            f"and {many.largest_context} tokens."
        )
        yield Sentence(tone="plain", text=text)


def _one_stream(found: Findings) -> Iterator[Sentence]:
    """Of the shallowest decoding; the report's table has the others."""
    decoding = [workload for workload in found.head.workloads if workload.kind == "decode"]
    for each in _of(found, min(decoding, key=lambda workload: workload.depth, default=None)):
        text = (
            f"One stream ({each.workload}) on {_devices(each.devices)}: {_times(each)} the speed of "
            f"{_devices(each.baseline)}; {CEILING}."
        )
        yield Sentence(tone="plain", text=text)


def _together(found: Findings) -> Iterator[Sentence]:
    """Of the most streams."""
    several = [workload for workload in found.head.workloads if workload.kind == "concurrent"]
    most = max(several, key=lambda workload: workload.streams, default=None)
    for each in _of(found, most):
        law = f"; the law of pipelines allows {each.law:.2f}x at as many streams" if each.law else ""
        serial = f", serial fraction {each.serial_fraction:.2f}" if each.serial_fraction is not None else ""
        text = (
            f"{_streams(most)} together ({each.workload}) on {_devices(each.devices)}: {_times(each)} the aggregate of "
            f"{_devices(each.baseline)} (efficiency {each.efficiency:.0%}{serial}){law}."
        )
        yield Sentence(tone="plain", text=text)


def _prompts(found: Findings) -> Iterator[Sentence]:
    """Of the longest."""
    reading = [workload for workload in found.head.workloads if workload.kind == "prefill"]
    for each in _of(found, max(reading, key=lambda workload: workload.prompt_tokens, default=None)):
        text = (
            f"Prompts ({each.workload}) are read {_times(each)} as fast on {_devices(each.devices)} as on "
            f"{_devices(each.baseline)}; {each.ideal:.0f}x would be ideal, once a prompt has many chunks."
        )
        yield Sentence(tone="plain", text=text)


def _of(found: Findings, workload: Workload | None) -> list[Scaling]:
    return [each for each in found.scaling if workload is not None and each.workload == workload.id]


def _streams(workload: Workload | None) -> str:
    count = workload.streams if workload else 0
    return f"{count} stream{'' if count == 1 else 's'}"


def _bounds(found: Findings) -> Iterator[Sentence]:
    """Of the first decoding on every number of devices."""
    decoding = next((workload.id for workload in found.head.workloads if workload.kind == "decode"), None)
    for each in found.against:
        if (each.workload, each.metric) == (decoding, "tg_tps") and each.roofline and each.roofline_share is not None:
            limiter = f"; what limits it is {each.limiter}" if each.limiter else ""
            text = (
                f"{each.workload} on {_devices(each.devices)} reaches {each.roofline_share:.0%} of the "
                f"{each.roofline:.0f} tok/s that reading weights and cache at the measured memory bandwidth would "
                f"allow{limiter}."
            )
            yield Sentence(tone="plain", text=text)


def _times_spent(found: Findings) -> Iterator[Sentence]:
    decoding = {workload.id for workload in found.head.workloads if workload.kind == "decode"}
    for each in found.breakdowns:
        if each.devices > 1 and each.workload in decoding:
            busy = each.compute_s / each.wall_s
            overlap = " (what is built ahead of its turn counts twice)" if busy > 1 else ""
            if each.wire_s is None:
                rest = f"{each.between_s / each.wall_s:.0%} is between them: wire, HTTP"
            else:
                outside_s = each.between_s - each.wire_s
                rest = (
                    f"{each.wire_s / each.wall_s:.0%} is the wire between them and "
                    f"{outside_s / each.wall_s:.0%} HTTP and scheduling"
                )
            text = (
                f"Of one stream's time ({each.workload}) on {_devices(each.devices)} the stages compute {busy:.0%}"
                f"{overlap}, {rest}."
            )
            yield Sentence(tone="plain", text=text)


def _links(found: Findings) -> Iterator[Sentence]:
    """The slowest between machines; within one machine none is a network."""
    if found.head.links_fault is not None:
        yield Sentence(tone="plain", text=f"Links were not measured: {found.head.links_fault}.")
    networks = [link for link in found.head.links if link.bytes_per_s and link.type != ONE_MACHINE]
    if networks:
        slow = min(networks, key=lambda link: link.bytes_per_s or 0.0)
        trip = f"{slow.rtt_p50_s * 1e3:.2g} ms there and back, " if slow.rtt_p50_s else ""
        text = (
            f"The slowest link is {slow.source} to {slow.target} ({slow.type or 'unknown'}): {trip}"
            f"{(slow.bytes_per_s or 0.0) / 1e6:.3g} MB/s."
        )
        yield Sentence(tone="plain", text=text)


def _predictions(found: Findings) -> Iterator[Sentence]:
    offs = {each: each.measured / each.predicted - 1 for each in found.against if each.predicted}
    if not offs:
        return
    low, high = min(offs, key=lambda each: offs[each]), max(offs, key=lambda each: offs[each])
    text = (
        f"Against what `plan` predicts, measured are {offs[low]:+.0%} ({low.workload} {low.metric}, "
        f"{_devices(low.devices)}) to {offs[high]:+.0%} ({high.workload} {high.metric}, {_devices(high.devices)})."
    )
    yield Sentence(tone="plain", text=text)


def _reuse(found: Findings) -> Iterator[Sentence]:
    """Of prompts that the server had seen before: wanted in chats, a mistake elsewhere."""
    chats = {workload.id for workload in found.head.workloads if workload.kind == "chat"}
    turns = [answer for run in found.runs if run.workload in chats for answer in run.answers[1:]]
    told = [answer for answer in turns if answer.cached_tokens is not None]
    if told:
        share = sum(answer.cached_tokens or 0 for answer in told) / sum(answer.prompt_tokens for answer in told)
        text = f"Later turns of chats had {share:.0%} of their prompt tokens in the prefix cache."
        yield Sentence(tone="plain", text=text)
    others = [answer for run in found.runs if run.workload not in chats | {"file"} for answer in run.answers]
    met = sum((answer.cached_tokens or 0) > answer.prompt_tokens * MET_BEFORE for answer in others)
    if met:
        text = f"{met} prompts were largely in the server's prefix cache: it has met them before. Take another --seed."
        yield Sentence(tone="warning", text=text)


def _noise(found: Findings) -> Iterator[Sentence]:
    target = found.head.protocol.target_half_width
    widths = [each.summary.relative_half_width for each in found.results]
    wide = sum(width is None or width > target for width in widths)
    if wide:
        text = f"{wide} of {len(widths)} figures have an interval wider than ±{target:.0%}, or too few runs for one."
        yield Sentence(tone="plain", text=text)
    if any(each.summary.interval and each.summary.interval.method == "launches" for each in found.results):
        text = "Launches of the same cluster differ by more than their runs do; the intervals marked so allow for it."
        yield Sentence(tone="plain", text=text)
    for host in found.head.hosts:
        if host.is_busy:
            text = f"{host.name} was busy before the first run (load {host.load_1m:.1f} on {host.cores} cores)."
            yield Sentence(tone="warning", text=text)
    if any(is_throttled(visit.thermal) for visit in found.visits):
        yield Sentence(tone="warning", text="The machine said that it was throttled by heat during the bench.")


def _lengths(found: Findings) -> Iterator[Sentence]:
    wanted = {workload.id: workload.output_tokens for workload in found.head.workloads if workload.kind != "file"}
    answers = [(run.workload, answer) for run in found.runs for answer in run.answers if run.workload in wanted]
    short = sum(answer.completion_tokens < wanted[name] for name, answer in answers)
    if short:
        text = f"{short} of {len(answers)} answers ended before the length that was asked for: the model stopped."
        yield Sentence(tone="plain", text=text)


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _times(each: Scaling) -> str:
    return f"{each.speed_up:.2f}x{span(each.interval)}"


def span(interval: Interval | None) -> str:
    """` (0.91 to 1.04)`, or nothing."""
    return "" if interval is None else f" ({interval.low:.2f} to {interval.high:.2f})"
